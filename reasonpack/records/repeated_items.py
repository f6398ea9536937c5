"""Lines that repeat the messages, or ids, of lines before → decoded, with these the same objects.

    {"messages": [a, b], …}          decoded: a, b
    {"messages": [a, b, c, d], …}    a and b are those; c, d and the rest are decoded

Bytes are compared: what is the same has been checked already.
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
"""Fields with what the model was asked."""
OBJECTS = ("request", "body")
"""Fields with an object that has such a field."""
IDS = TOKEN_NAMES["prompt_ids"]
"""Fields with the ids of what it was asked."""
AGENTS = 8
"""How many agents may log their calls in turn: so much is kept of what was read before."""
LONGEST = 1 << 25
"""Bytes of the longest line that is kept."""
HEAD = 256
"""Bytes that lines begin with alike where one may go on with another."""
_Fields = msgspec.defstruct(
    "_Fields", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in (*LISTS, *OBJECTS, *IDS)]
)
_fields = msgspec.json.Decoder(_Fields).decode
_whole_numbers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Ids(list[int]):
    """A list of token ids, and the same as an array.

    Attributes:
        array: i32[N], a part of what those of longer lists are parts of.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(numbers)
        self.array = self._buffer = np.frombuffer(array_of("i", numbers), np.int32)

    def extend_by(self, more: Ids) -> None:
        """Go on with more ids; the arrays before stay as they are."""
        size, stop = len(self), len(self) + len(more)
        if stop > len(self._buffer):
            self._buffer = np.resize(self._buffer, 2 * stop)
        self._buffer[size:stop] = more.array
        self.array = self._buffer[:stop]
        self += more


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


class _Line(NamedTuple):
    """A line up to the end of the last element of its list; where that is, and what it holds."""

    text: bytearray
    path: tuple[str, ...]
    start: int
    items: list[Any]


class _Grown(NamedTuple):
    """A line that goes on with the list of another one, which is `known`.

    Attributes:
        short: the line without the elements that are known.
        known: see above.
        stop: where the last of all elements ends in the line.
    """

    short: bytes
    known: _Line
    stop: int


class KnownLines:
    """The lines of agents that log in turn, each up to the end of its list."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._others: list[bytes] = []

    def short(self, line: bytes) -> bytes:
        """Return a line without the elements that its list has of a line before.

        A line is looked into only when another one begins as it does.
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
        self.go_on(line, found)
        return found.short

    def grown(self, line: bytes) -> _Grown | None:
        """Find what a line has behind one before; None if it goes on with the list of none."""
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
                return None  # there is another list
            return _Grown(short, known, len(line) - len(short) + places[0].stop - 1)
        return None

    def go_on(self, line: bytes, found: _Grown) -> None:
        """Let a line stand for the one that it goes on with."""
        known = found.known
        known.text.extend(line[len(known.text) : found.stop])
        self._lines = [known, *(each for each in self._lines if each is not known)]

    def keep(self, line: bytes, place: _Place, items: list[Any]) -> None:
        """Remember a line with one list."""
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
                fields = self._gone_on(line) or self._put_together(line)
                if fields is not None:
                    return fields
        except (RecordError, msgspec.MsgspecError, OverflowError):
            pass  # what is wrong is said where it stands in the line
        return strict_json.decode_line(line)

    def _gone_on(self, line: bytes) -> Any:
        """Decode a line that is one before up to the end of its list; None if it is none."""
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
        self._lines.go_on(line, found)
        return fields

    def _put_together(self, line: bytes) -> Any:
        """Decode the lists of a line by themselves; None if it has none."""
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
        self._known = [*kept[-AGENTS + 1 :], _Known(text, texts, items)]
        return items


def _holder(fields: Any, path: tuple[str, ...]) -> Any:
    for name in path[:-1]:
        fields = fields[name]
    return fields


def _array(numbers: list[int]) -> Ids:
    """Return ids as an array, too.

    Raises:
        OverflowError: it is none.
    """
    if {*map(type, numbers)} - {int} or min(numbers, default=0) < 0:
        raise OverflowError
    return Ids(numbers)


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
