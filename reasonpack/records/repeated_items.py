"""Lines that repeat the messages of lines before → decoded, with these the same objects.

    {"messages": [a, b], …}          decoded: a, b
    {"messages": [a, b, c, d], …}    a and b are those; c, d and the rest are decoded

Bytes are compared: what is the same has been checked already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from reasonpack.errors import RecordError
from reasonpack.records import strict_json

LISTS = ("messages", "input", "prompt")
"""Fields with what the model was asked."""
OBJECTS = ("request", "body")
"""Fields with an object that has such a field."""
MOST = 8
"""Lists that are kept, of agents whose calls were logged in turn."""
_Fields = msgspec.defstruct(
    "_Fields", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in (*LISTS, *OBJECTS)]
)
_fields = msgspec.json.Decoder(_Fields).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Place(NamedTuple):
    """A list in a line: where it stands in the record, and in the bytes."""

    path: tuple[str, ...]
    start: int
    stop: int


@dataclass(slots=True)
class _Known:
    """A list as it stood in a line, its elements as they did, and what they are."""

    text: bytes
    texts: list[bytes]
    items: list[Any]


class RepeatedItems:
    """Decodes the lines of a group, in their order."""

    def __init__(self) -> None:
        self._known: list[_Known] = []

    def decode(self, line: bytes) -> Any:
        """Decode a line, as `strict_json.decode_line` does.

        Raises:
            RecordError: as that does.
        """
        found = _largest_list(line) if len(line) <= strict_json.LARGEST else None
        if found is None:
            return strict_json.decode_line(line)
        try:
            fields = strict_json.decode(line[: found.start] + b"[]" + line[found.stop :])
            items = self._decoded(line[found.start : found.stop])
        except (RecordError, msgspec.MsgspecError):
            return strict_json.decode_line(line)  # which says where in the line it is
        *outer, name = found.path
        place = fields
        for each in outer:
            place = place[each]
        place[name] = items
        return fields

    def _decoded(self, text: bytes) -> list[Any]:
        """Decode a list; what begins it as one before begins is taken from there."""
        texts, same, best = list[bytes](), 0, None
        for known in self._known:
            if known.texts and text.startswith(known.text[:-1]):
                rest = text[len(known.text) - 1 :].lstrip()
                more = _items(b"[" + rest[1:]) if rest[:1] == b"," else []
                texts, same, best = [*known.texts, *map(bytes, more)], len(known.texts), known
                break
        if best is None:
            texts = list(map(bytes, _items(text)))
            for known in self._known:
                count = _same(known.texts, texts)
                if count > same:
                    same, best = count, known
        items = [*(best.items[:same] if best else ()), *map(_element, texts[same:])]
        goes_on = best is not None and same == len(best.texts)
        kept = [known for known in self._known if not (goes_on and known is best)]
        self._known = [*kept[-MOST + 1 :], _Known(text, texts, items)]
        return list(items)


def _same(one: list[bytes], other: list[bytes]) -> int:
    for count, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return count
    return min(len(one), len(other))


def _element(text: bytes) -> Any:
    value = strict_json.decode(text)
    strict_json.count_keys([[[[value]]]])  # as deep as it stands in a record
    return value


def _largest_list(line: bytes) -> _Place | None:
    """Find the largest list of objects that says what the model was asked; where it stands."""
    try:
        found = [*_lists(msgspec.Raw(line), (), len(OBJECTS))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    path, raw = max(found, key=lambda each: len(memoryview(each[1])), default=((), None))
    if raw is None:
        return None
    start = _address(raw) - _address(line)  # it is a part of the line
    return _Place(path, start, start + len(memoryview(raw)))


def _address(part: bytes | msgspec.Raw) -> int:
    return int(np.frombuffer(part, np.uint8).ctypes.data)


def _lists(
    text: msgspec.Raw, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], msgspec.Raw]]:
    fields = _fields(text)
    for name in LISTS:
        raw = getattr(fields, name)
        value = bytes(memoryview(raw)[:64])
        if value[:1] == b"[" and value[1:].lstrip()[:1] == b"{":
            yield (*path, name), raw
    for name in OBJECTS if depth else ():
        raw = getattr(fields, name)
        if bytes(memoryview(raw)[:1]) == b"{":
            yield from _lists(raw, (*path, name), depth - 1)
