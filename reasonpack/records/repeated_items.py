"""Lines that repeat messages or ids of earlier lines → decoded; what repeats is shared.

    {"messages": [a, b], …}          decoded: a, b
    {"messages": [a, b, c, d], …}    a and b are the same objects; c, d and the rest are decoded

Bytes are compared: equal bytes were checked when they were first decoded.
"""

from __future__ import annotations

from array import array as array_of
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import TOKEN_NAMES

LISTS = ("messages", "input", "prompt")
"""Fields that may hold the messages of a prompt."""
OBJECTS = ("request", "body")
"""Fields that may hold an object with such a field."""
IDS = TOKEN_NAMES["prompt_ids"]
"""Fields that may hold the ids of a prompt."""
AGENTS = 8
"""How many agents may log calls in turn; as many earlier lines, lists and prompts are kept."""
LONGEST = 1 << 25
"""Bytes of the longest line that is kept."""
HEAD = 256
"""How many first bytes must be equal in two lines before one is searched for the other's list."""
_Fields = msgspec.defstruct(
    "_Fields", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in (*LISTS, *OBJECTS, *IDS)]
)
_fields = msgspec.json.Decoder(_Fields).decode
_whole_numbers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Ids(list[int]):
    """A list of token ids, and the same as an array.

    Attributes:
        array: i32[N], a view of a buffer that longer lists share.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(numbers)
        self.array = self._buffer = np.frombuffer(array_of("i", numbers), np.int32)

    def extend_by(self, more: Ids) -> None:
        """Append ids; arrays that were taken before stay as they are."""
        size, stop = len(self), len(self) + len(more)
        if stop > len(self._buffer):
            self._buffer = np.resize(self._buffer, 2 * stop)
        self._buffer[size:stop] = more.array
        self.array = self._buffer[:stop]
        self += more


class _Place(NamedTuple):
    """A list in a line: its path in the record, its first byte, and one past its last."""

    path: tuple[str, ...]
    start: int
    stop: int


class _Known(NamedTuple):
    """A list of an earlier line: its bytes, those of each element, and the decoded elements."""

    text: bytes
    texts: list[bytes]
    items: list[Any]


class _Line(NamedTuple):
    """An earlier line up to the last element of its list; the list's path, start and elements."""

    text: bytearray
    path: tuple[str, ...]
    start: int
    items: list[Any]


class _Grown(NamedTuple):
    """A line that begins as an earlier one does and extends its list.

    Attributes:
        short: the line without the elements of the earlier one.
        known: the earlier line.
        stop: where the last element of the list ends in the line.
    """

    short: bytes
    known: _Line
    stop: int


class KnownLines:
    """The last lines of agents that log in turn, each up to the end of its list."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._others: list[bytes] = []

    def short(self, line: bytes) -> bytes:
        """Return a line without the list elements that it repeats from an earlier line.

        A line is searched for its list only if a later one begins with the same `HEAD` bytes.
        """
        found = self.grown(line)
        if found is None:
            alike = [other for other in self._others if other.startswith(line[:HEAD])]
            if len(line) <= LONGEST:
                self._others = [line, *self._others[: AGENTS - 1]]
            if alike and len(places := _places(alike[0])) == 1:
                self.keep(alike[0], places[0], [])
                found = self.grown(line)
        if found is None:
            return line
        self.update(line, found)
        return found.short

    def grown(self, line: bytes) -> _Grown | None:
        """Return what a line adds to an earlier one; None if it extends the list of none."""
        for known in self._lines:
            if not line.startswith(known.text):
                continue
            rest = line[len(known.text) :].lstrip()
            if rest[:1] not in (b",", b"]"):
                continue
            short = line[: known.start + 1] + rest.removeprefix(b",")
            places = _places(short)
            if not places and rest[:1] == b"]":
                return _Grown(short, known, len(known.text))
            if [each[:2] for each in places] != [(known.path, known.start)]:
                return None  # the rest of the line has a list, too
            return _Grown(short, known, len(line) - len(short) + places[0].stop - 1)
        return None

    def update(self, line: bytes, found: _Grown) -> None:
        """Put a line in the place of the earlier one that it extends."""
        known = found.known
        known.text.extend(line[len(known.text) : found.stop])
        self._lines = [known, *(each for each in self._lines if each is not known)]

    def keep(self, line: bytes, place: _Place, items: list[Any]) -> None:
        """Keep a line that has one list, which is at `place`."""
        if len(line) <= LONGEST:
            known = _Line(bytearray(line[: place.stop - 1]), place.path, place.start, items)
            self._lines = [known, *self._lines[: AGENTS - 1]]


class RepeatedItems:
    """Decodes the lines of a group, in their order.

    A list of ids that it returned may grow with the next line.
    """

    def __init__(self) -> None:
        self._lines = KnownLines()
        self._known: list[_Known] = []

    def decode(self, line: bytes) -> Any:
        """Decode a line, as `strict_json.decode_line` does.

        Raises:
            RecordError: as that does.
        """
        try:
            if len(line) <= strict_json.LARGEST:
                fields = self._extended(line) or self._in_parts(line)
                if fields is not None:
                    return fields
        except (RecordError, msgspec.MsgspecError, OverflowError):
            pass  # decoding the whole line raises it again, with the right place
        return strict_json.decode_line(line)

    def _extended(self, line: bytes) -> Any:
        """Decode a line that extends the list of an earlier line; None if it does not."""
        found = self._lines.grown(line)
        if found is None:
            return None
        fields, known = strict_json.decode(found.short), found.known
        holder, name = _holder(fields, known.path), known.path[-1]
        if isinstance(known.items, Ids):
            known.items.extend_by(_array(holder[name]))
            holder[name] = known.items
        else:
            known.items.extend(holder[name])
            holder[name] = [*known.items]
        self._lines.update(line, found)
        return fields

    def _in_parts(self, line: bytes) -> Any:
        """Decode a line, its lists apart from the rest; None if it has no list."""
        parts, at = list[bytes](), 0
        for place in (places := _places(line)):
            parts += [line[at : place.start], b"[]"]
            at = place.stop
        if not places:
            return None
        fields = strict_json.decode(b"".join([*parts, line[at:]]))
        for path, start, stop in places:
            name, text = path[-1], line[start:stop]
            items = _array(_whole_numbers(text)) if name in IDS else self._read(text)
            _holder(fields, path)[name] = items if name in IDS else [*items]
            if len(places) == 1:
                self._lines.keep(line, places[0], items if name in IDS else [*items])
        return fields

    def _read(self, text: bytes) -> list[Any]:
        """Decode a list; elements that an earlier list begins with, too, are taken from there."""
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
        self._known = [*kept[-AGENTS + 1 :], _Known(text, texts, items)]
        return items


def _holder(fields: Any, path: tuple[str, ...]) -> Any:
    for name in path[:-1]:
        fields = fields[name]
    return fields


def _array(numbers: list[int]) -> Ids:
    """Return numbers as `Ids`.

    Raises:
        OverflowError: one is no integer from 0 to 2³¹ − 1.
    """
    if {*map(type, numbers)} - {int} or min(numbers, default=0) < 0:
        raise OverflowError
    return Ids(numbers)


def _rest(known: bytes, text: bytes) -> bytes | None:
    """Return a list of the elements that `text` has after those of `known`; None if it differs."""
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
    strict_json.count_keys([[[[value]]]])  # raises if it nests too deeply at its place in a record
    return value


def _places(line: bytes) -> list[_Place]:
    """Find the largest list of messages of a prompt in a line, and the lists of ids."""
    try:
        found = [*_lists(msgspec.Raw(line), (), len(OBJECTS))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    begin = _address(line)  # each `raw` is a view of the line
    places = [
        _Place(path, start := _address(raw) - begin, start + len(memoryview(raw)))
        for path, raw in found
    ]
    asked = [each for each in places if each.path[-1] not in IDS]
    others = [each for each in places if each.path[-1] in IDS]
    largest = max(asked, key=lambda each: each.stop - each.start, default=None)
    return sorted([*others, *([largest] if largest else [])], key=lambda each: each.start)


def _address(part: bytes | msgspec.Raw) -> int:
    return int(np.frombuffer(part, np.uint8).__array_interface__["data"][0])


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
