"""Lines that repeat the messages, or ids, of lines before → decoded, with these the same objects.

    {"messages": [a, b], …}          decoded: a, b
    {"messages": [a, b, c, d], …}    a and b are those; c, d and the rest are decoded

Bytes are compared: what is the same has been checked already.
"""

from __future__ import annotations

from array import array as array_of
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import TOKEN_NAMES

LISTS = ("messages", "input", "prompt")
"""Fields with what the model was asked."""
OBJECTS = ("request", "body")
"""Fields with an object that has such a field."""
IDS = TOKEN_NAMES["prompt_ids"]
"""Fields with the ids of what it was asked."""
MOST = 8
"""Lists that are kept, of agents whose calls were logged in turn."""
_Fields = msgspec.defstruct(
    "_Fields", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in (*LISTS, *OBJECTS, *IDS)]
)
_fields = msgspec.json.Decoder(_Fields).decode
_whole_numbers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Ids(list[int]):
    """A list of token ids, and the same as an array.

    Attributes:
        array: i32[N].
    """

    array: NDArray[np.int32]


class _Place(NamedTuple):
    """A list in a line: where it stands in the record, and in the bytes."""

    path: tuple[str, ...]
    start: int
    stop: int


class _Known(NamedTuple):
    """A list as it stood in a line, its elements as they did, and what they are."""

    text: bytes
    texts: list[bytes]
    items: list[Any]


class RepeatedItems:
    """Decodes the lines of a group, in their order."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._ids: list[tuple[bytes, Ids]] = []

    def decode(self, line: bytes) -> Any:
        """Decode a line, as `strict_json.decode_line` does.

        Raises:
            RecordError: as that does.
        """
        places = _places(line) if len(line) <= strict_json.LARGEST else []
        if not places:
            return strict_json.decode_line(line)
        parts, at = list[bytes](), 0
        for place in places:
            parts += [line[at : place.start], b"[]"]
            at = place.stop
        try:
            fields = strict_json.decode(b"".join([*parts, line[at:]]))
            for (*outer, name), start, stop in places:
                read = self._read_ids if name in IDS else self._read
                holder = fields
                for each in outer:
                    holder = holder[each]
                holder[name] = read(line[start:stop])
        except (RecordError, msgspec.MsgspecError, OverflowError):
            return strict_json.decode_line(line)  # which says where in the line it is
        return fields

    def _read(self, text: bytes) -> list[Any]:
        """Decode a list; what begins it as one before begins is taken from there."""
        texts, same, best = list[bytes](), 0, None
        for known in self._known:
            if (rest := _rest(known.text, text)) is not None:
                same, best = len(known.texts), known
                texts = [*known.texts, *map(bytes, _items(rest))]
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

    def _read_ids(self, text: bytes) -> Ids:
        """Decode a list of ids; what begins it as one before is taken from there."""
        best, rest = None, text
        for known in self._ids:
            if (behind := _rest(known[0], text)) is not None:
                best, rest = known, behind
                break
        more = _whole_numbers(rest)
        array = np.frombuffer(array_of("i", more), np.int32)
        ids = Ids([*best[1], *more] if best else more)
        ids.array = np.concatenate([best[1].array, array]) if best else array
        self._ids = [*[each for each in self._ids if each is not best][-MOST + 1 :], (text, ids)]
        return ids


def _rest(known: bytes, text: bytes) -> bytes | None:
    """Return the list of what stands in a list behind a known one; None if it does not go on."""
    if not text.startswith(known[:-1]):
        return None
    rest = text[len(known) - 1 :].lstrip()
    if rest[:1] == b"]":
        return b"[]"
    return b"[" + rest[1:] if rest[:1] == b"," else None


def _same(one: list[bytes], other: list[bytes]) -> int:
    for count, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return count
    return min(len(one), len(other))


def _element(text: bytes) -> Any:
    value = strict_json.decode(text)
    strict_json.count_keys([[[[value]]]])  # as deep as it stands in a record
    return value


def _places(line: bytes) -> list[_Place]:
    """Find the largest list of objects that says what the model was asked, and lists of ids."""
    try:
        found = [*_lists(msgspec.Raw(line), (), len(OBJECTS))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    begin = _address(line)  # all of these are parts of the line
    places = [
        _Place(path, start := _address(raw) - begin, start + len(memoryview(raw)))
        for path, raw in found
    ]
    asked = [each for each in places if each.path[-1] not in IDS]
    others = [each for each in places if each.path[-1] in IDS]
    largest = max(asked, key=lambda each: each.stop - each.start, default=None)
    return sorted([*others, *([largest] if largest else [])], key=lambda each: each.start)


def _address(part: bytes | msgspec.Raw) -> int:
    return int(np.frombuffer(part, np.uint8).ctypes.data)


def _lists(
    text: msgspec.Raw, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], msgspec.Raw]]:
    fields = _fields(text)
    for name in (*LISTS, *(IDS if not path else ())):
        raw = getattr(fields, name)
        value = bytes(memoryview(raw)[:64])
        first = value[1:].lstrip()[:1]
        if value[:1] == b"[" and (first.isdigit() if name in IDS else first == b"{"):
            yield (*path, name), raw
    for name in OBJECTS if depth else ():
        raw = getattr(fields, name)
        if bytes(memoryview(raw)[:1]) == b"{":
            yield from _lists(raw, (*path, name), depth - 1)
