"""The bytes of a JSON list, in blocks → the bytes of its elements, not decoded.

    [ {"messages": [ … ]},  {"messages": [ … ]} ]
     └──── element 0 ────┘ └──── element 1 ───┘      cut at the commas between them

Memory is one element and one block; time is that of one regular expression. Only quotes,
brackets and commas are examined: an element that is not JSON is found when it is decoded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from reasonpack.storage.read import BLANK

# A mark is a whole text, the opening quote of a text that goes on in the next block, a bracket or
# a comma. No pattern matches one stretch in two ways, so a search that fails takes linear time.
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_MARK = re.compile(rb'"%b"|["\[\]{},]' % _TEXT.pattern, re.DOTALL)
_BRACKET = re.compile(rb'"%b"|["\[\]{}]' % _TEXT.pattern, re.DOTALL)


class NotAList(ValueError):  # noqa: N818 (a result, not an error)
    """Why bytes are not one JSON list; `index` is the element where that was found."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.index = index


class Element(Struct, frozen=True):
    """An element of a list, not decoded.

    Attributes:
        start: offset in the file after the bracket or comma before the element.
        stop: offset after the comma or bracket that ends it.
        text: its bytes, without blanks around them.
    """

    start: int
    stop: int
    text: bytes


def elements(blocks: Iterable[bytes], *, start: int = 0, longest: int) -> Iterator[Element]:
    """Yield the elements of a list.

    `blocks` are the bytes of a file from `start` on, which is 0 or where an element begins. An
    element has at most `longest` bytes.

    Raises:
        NotAList: the list is not closed, something follows it, or an element is too long. The
            elements before that have been yielded.

    >>> [each.text for each in elements([b'[{"a": ","}', b', 2]'], longest=99)]
    [b'{"a": ","}', b'2']
    """
    blocks, borders = iter(blocks), _Borders(depth=int(start > 0))
    held = bytearray()  # the part of an element in earlier blocks
    index, within = 0, start > 0  # the list may begin before the blocks
    opened = within
    at = start  # offset of the block in the file
    for block in blocks:
        done = 0
        for stop, mark in borders.find(block):
            text = (bytes(held) + block[done : stop - 1]).strip(BLANK)
            held.clear()
            _check_length(text, longest, index)
            # `[]` has no element; a list that ends in a comma has an empty one at its end.
            if opened and (text or mark == b"," or index or within):
                yield Element(start, at + stop, text)
                index += 1
            opened, start, done = True, at + stop, stop
            if not borders.depth:
                if mark != b"]":
                    raise NotAList(f"the list ends in {mark.decode()!r}", index)
                if any(rest.strip(BLANK) for rest in itertools.chain([block[stop:]], blocks)):
                    raise NotAList("something follows the list", index)
                return
        held += block[done:]
        at += len(block)
        _check_length(held, longest, index)
    raise NotAList("the list is never closed", index)


class _Borders(Struct):
    """Finds the brackets and commas that open, divide and close a list, block by block.

    Attributes:
        depth: number of lists and objects that are open.
        inside: whether a text is open.
        skip: bytes of the next block that a backslash at the end of this one escapes, 0 or 1.
    """

    depth: int
    inside: bool = False
    skip: int = 0

    def find(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield, for each of these in the block, the offset after it, and the byte itself."""
        at, self.skip = self.skip, 0
        while True:
            if self.inside:
                text = _TEXT.match(block, at)
                assert text is not None
                at = text.end() + 1
                if block[at - 1 : at] != b'"':  # the text goes on in the next block
                    self.skip = int(at <= len(block))
                    return
                self.inside = False
            found = (_MARK if self.depth == 1 else _BRACKET).search(block, at)
            if found is None:
                return
            at, mark = found.end(), found[0]
            if mark == b'"':
                self.inside = True
            elif mark in {b"[", b"{"}:
                self.depth += 1
                if self.depth == 1:
                    yield at, mark
            elif mark in {b"]", b"}"}:
                self.depth -= 1
                if not self.depth:
                    yield at, mark
            elif mark == b",":  # searched for at depth 1 only
                yield at, mark


def _check_length(text: bytes | bytearray, longest: int, index: int) -> None:
    if len(text) > longest:
        raise NotAList(f"more than {longest:,} bytes in one element", index)
