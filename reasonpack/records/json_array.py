"""A JSON list, block by block → its elements, without decoding any.

    [ {"messages": [ … ]},  {"messages": [ … ]} ]
     └──── element 0 ────┘ └──── element 1 ───┘      cut at the commas between them

Memory is one element and one block. Only quotes, brackets and commas are looked at: whether
an element is JSON is for whoever decodes it to say. Time is that of one regular expression.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from reasonpack.storage.read import BLANK

# A whole text, or the quote of one that goes on in the next block; or another mark. No pattern
# can match one stretch in two ways, so that a search that fails takes linear time.
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_MARK = re.compile(rb'"%b"|["\[\]{},]' % _TEXT.pattern, re.DOTALL)
_BRACKET = re.compile(rb'"%b"|["\[\]{}]' % _TEXT.pattern, re.DOTALL)


class NotAList(ValueError):  # noqa: N818 (an answer, not a fault)
    """What is wrong with a list as a whole; `index` is the element where it shows."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.index = index


class Element(Struct, frozen=True):
    """An element of a list, as it is written.

    Attributes:
        start: offset in the file behind the bracket or comma before it.
        stop: offset behind the comma or bracket that ends it.
        text: what is written there, without blanks around it.
    """

    start: int
    stop: int
    text: bytes


def elements(blocks: Iterable[bytes], *, start: int = 0, longest: int) -> Iterator[Element]:
    """Yield the elements of a list.

    `blocks` are the bytes of a file from `start` on, which is 0 or where an element begins. An
    element may have `longest` bytes.

    Raises:
        NotAList: it is not closed, or something follows it, or an element is too long. The
            elements before that have been yielded.

    >>> [each.text for each in elements([b'[{"a": ","}', b', 2]'], longest=99)]
    [b'{"a": ","}', b'2']
    """
    blocks, borders = iter(blocks), _Borders(depth=int(start > 0))
    held = bytearray()  # what is known of the element
    index, within = 0, start > 0  # it may begin before the blocks
    opened = within
    at = start  # of the block, in the file
    for block in blocks:
        done = 0
        for stop, mark in borders.find(block):
            text = (bytes(held) + block[done : stop - 1]).strip(BLANK)
            held.clear()
            _see_the_length(text, longest, index)
            # A list without elements has none; one that ends in a comma has an empty one.
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
        _see_the_length(held, longest, index)
    raise NotAList("the list is never closed", index)


class _Borders(Struct):
    """Finds what opens, divides and closes a list, in one block after another.

    Attributes:
        depth: lists and objects that are open.
        inside: whether a text is.
        skip: bytes of the next block that a backslash before it has made part of the text.
    """

    depth: int
    inside: bool = False
    skip: int = 0

    def find(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each mark and the place behind it."""
        at, self.skip = self.skip, 0
        while True:
            if self.inside:
                text = _TEXT.match(block, at)
                assert text is not None
                at = text.end() + 1
                if block[at - 1 : at] != b'"':  # it goes on
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
            elif mark == b",":  # which is looked for between elements only
                yield at, mark


def _see_the_length(text: bytes | bytearray, longest: int, index: int) -> None:
    if len(text) > longest:
        raise NotAList(f"more than {longest:,} bytes in one element", index)
