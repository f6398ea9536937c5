"""Lines that repeat messages or ids of earlier lines → decoded; what repeats is shared.

    {"messages": [a, b], …}          decoded: a, b
    {"messages": [a, b, c, d], …}    decoded with a number in place of a and b, which are shared

Bytes are compared: equal bytes were checked when they were first decoded.
"""

from __future__ import annotations

from array import array as array_of
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

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
"""How many first bytes of a line or list are looked for, before all of them are compared."""
_MARK = b"7041e-317"
"""The end of a number that stands for elements of an earlier list."""
_Path = tuple[str, ...]
_Fields = msgspec.defstruct(
    "_Fields", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in (*LISTS, *OBJECTS, *IDS)]
)
_fields = msgspec.json.Decoder(_Fields).decode
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


class _List(Struct, frozen=True):
    """A list of an earlier line.

    Attributes:
        text: its bytes up to its last element.
        ends: where elements end in `text`; of ids only the last one.
        items: its elements, if they were decoded.
    """

    text: bytes = b""
    ends: Sequence[int] = ()
    items: Sequence[Any] = ()

    def begin(self, line: bytes, at: int) -> _Begin:
        """Return what the list at the byte `at` of a line has in common with this one."""
        count = len(self.ends)
        if not line.startswith(self.text, at):
            mine, its = self.text[: len(line) - at], line[at : at + len(self.text)]
            differs = np.frombuffer(mine, np.uint8) != np.frombuffer(its, np.uint8)
            count = bisect_right(self.ends, int(differs.argmax()))
        if count and line[at + self.ends[count - 1] :].lstrip()[:1] not in (b",", b"]"):
            count -= 1
        return _Begin(self.ends[count - 1] if count else 0, count, at, self)


class _Begin(Struct, frozen=True):
    """The begin of a list in a line, which is that of an earlier list, too.

    Attributes:
        size: its bytes.
        count: how many of the earlier list's `ends` are in it.
        at: its first byte in the line.
        of: the earlier list.
    """

    size: int = 0
    count: int = 0
    at: int = 0
    of: _List = _List()


class _Cut(Struct, frozen=True):
    """A line in which lists may have a mark in place of elements of earlier lists.

    Attributes:
        line: its bytes.
        lists: its lists of messages and ids, as bytes, by their path in the record.
        begins: for each of them that has a mark, what the mark stands for.
    """

    line: bytes
    lists: Mapping[_Path, bytes]
    begins: Mapping[_Path, _Begin]


class RepeatedItems:
    """The last lists of agents that log in turn, by their path in the record."""

    def __init__(self) -> None:
        self._lists: dict[_Path, list[_List]] = {}
        self._others: list[bytes] = []
        self._last: tuple[bytes, Any] | None = None
        """The last line and its fields, if nothing of it was cut; not yet searched for lists."""

    def decode(self, line: bytes) -> Any:
        """Decode a line, as `strict_json.decode_line` does.

        A list of ids that it returned may grow with the next line. A line that repeats nothing is
        searched for its lists only if another one follows.

        Raises:
            RecordError: as that does.
        """
        if len(line) <= strict_json.LARGEST:
            with suppress(RecordError, OverflowError):
                if self._last:
                    (before, fields), self._last = self._last, None
                    self._joined(_Cut(before, _lists_in(before), {}), fields)
                if cut := self._cut(line):
                    return self._joined(cut, strict_json.decode(cut.line))
                self._last = line, strict_json.decode(line)
                return self._last[1]
        return strict_json.decode_line(line)  # raises the error again, with the right place

    def short(self, line: bytes) -> bytes:
        """Return a line without the list elements that it repeats from an earlier line.

        A line is searched for its lists only if a later one begins with the same `HEAD` bytes.
        """
        cut = self._cut(line)
        if not cut:
            alike = [other for other in self._others if other.startswith(line[:HEAD])]
            if len(line) <= LONGEST:
                self._others = [line, *self._others[: AGENTS - 1]]
            if alike:
                self._keep(_Cut(alike[0], _lists_in(alike[0]), {}), {})
                cut = self._cut(line)
        if cut:
            self._keep(cut, {})
        return cut.line if cut else line

    def _cut(self, line: bytes) -> _Cut | None:
        """Cut what a line repeats of earlier lists; None if that is nothing."""
        short, begins, marks = line, dict[_Path, _Begin](), list[bytes]()
        for path, lists in self._lists.items():
            begin = _begin_of(lists, short)
            if begin.size:
                begins[path] = begin
                marks.append(b"[%d%b" % (len(begins), _MARK))
                short = short[: begin.at] + marks[-1] + short[begin.at + begin.size :]
        if not begins or short.count(_MARK) != len(marks):
            return None
        lists_ = _lists_in(short)
        marked = zip(begins, marks, strict=True)
        if not all(lists_.get(path, b"").startswith(mark) for path, mark in marked):
            return None  # a mark is in another list, or in a text
        return _Cut(short, lists_, begins)

    def _joined(self, cut: _Cut, fields: Any) -> Any:
        """Put what was cut from a line into its fields, and keep its lists."""
        found: dict[_Path, Any] = {}
        for path in cut.lists:
            items = _holder(fields, path)[path[-1]][path in cut.begins :]
            found[path] = _ids(items) if path[-1] in IDS else items
        for path, items in found.items():
            begin = cut.begins.get(path)
            if begin and isinstance(begin.of.items, Ids):
                begin.of.items.extend_by(items)
                found[path] = begin.of.items
            elif begin:
                found[path] = [*begin.of.items[: begin.count], *items]
            _holder(fields, path)[path[-1]] = found[path]
        self._keep(cut, found)
        return fields

    def _keep(self, cut: _Cut, items: Mapping[_Path, list[Any]]) -> None:
        """Keep the lists of a line, and their `items` if these were decoded."""
        for path, text in cut.lists.items():
            begin = cut.begins.get(path)
            before, size, count = (begin.of, begin.size, begin.count) if begin else (_List(), 0, 0)
            new = text[text.index(_MARK) + len(_MARK) :] if begin else text
            whole, ends = before.text[:size] + new[:-1].rstrip(), [*before.ends[:count]]
            if path[-1] in IDS:
                ends = [len(whole)]
            else:
                for element in map(bytes, _items(text)[bool(begin) :]):
                    start = whole.index(element[:1], ends[-1] if ends else 1)
                    ends.append(start + len(element))
            goes_on = count == len(before.ends)
            lists = self._lists.get(path, ())
            others = [each for each in lists if not (goes_on and each is before)]
            if len(whole) <= LONGEST:
                others = [_List(whole, ends, items.get(path, [])), *others]
            self._lists[path] = others[:AGENTS]


def _begin_of(lists: Iterable[_List], line: bytes) -> _Begin:
    """Return the longest begin of a list in a line, or the first that is a whole earlier list."""
    best = _Begin()
    for each in lists:
        if (at := line.find(each.text[:HEAD])) >= 0:
            found = each.begin(line, at)
            if found.count == len(each.ends):
                return found
            best = max(best, found, key=attrgetter("size"))
    return best


def _holder(fields: Any, path: _Path) -> Any:
    for name in path[:-1]:
        fields = fields[name]
    return fields


def _ids(numbers: list[int]) -> Ids:
    """Return numbers as `Ids`.

    Raises:
        OverflowError: one is no integer from 0 to 2³¹ − 1.
    """
    if {*map(type, numbers)} - {int} or min(numbers, default=0) < 0:
        raise OverflowError
    return Ids(numbers)


def _lists_in(line: bytes) -> dict[_Path, bytes]:
    """Return the lists of messages of a prompt, and of ids, in a line, by their path."""
    try:
        return dict(_lists(msgspec.Raw(line), ()))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _lists(text: msgspec.Raw, path: _Path) -> Iterator[tuple[_Path, bytes]]:
    fields = _fields(text)
    for name in (*LISTS, *(IDS if not path else ())):
        value = bytes(getattr(fields, name))
        first = value[1:64].lstrip()[:1]
        is_list = first.isdigit() if name in IDS else first == b"{" or _MARK in value[:64]
        if value[:1] == b"[" and is_list:
            yield (*path, name), value
    for name in OBJECTS if len(path) < len(OBJECTS) else ():
        raw = getattr(fields, name)
        if bytes(memoryview(raw)[:1]) == b"{":
            yield from _lists(raw, (*path, name))
