r"""The pieces of a rendering, and what loops began with which → the text of each message.

    out    "<|bos|>"  "<|im_start|>user\n"  "Hi"  "<|im_end|>\n"  …
    loops  messages 0, 1, … from piece 1, one each            message 0 is `text[7:39]`

It costs nothing for messages that nobody asks for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

_MORE = 100
"""Pieces of a rendering that are measured beyond those that were asked for."""
_BLANK = 8
"""Characters up to which a text may be white space alone, and no message."""
_SHOWN = re.compile(r"\S")


class Written:
    """Which texts of a rendering its loops wrote of which message.

    Args:
        text: of the rendering.
        out: its pieces.
        loops: for each loop the places of its items, and the piece of the first: each has one.
    """

    def __init__(
        self,
        text: str = "",
        out: Sequence[str] = (),
        loops: Sequence[tuple[range, int]] = (),
    ) -> None:
        self.text, self.loops, self._out = text, loops, out
        self._first, self._starts = len(out), [len(text)]

    def of(self, message: int) -> tuple[int, int] | None:
        """Return where the text of a message begins and ends; None if no loop wrote any.

        Nor of the last text of all, which may hold the prompt for the answer.
        """
        found: tuple[int, int] | None = None
        for places, first in self.loops:
            if message in places:
                piece = first + places.index(message)
                start, stop = self._start(piece), self._start(piece + 1)
                if stop - start > _BLANK or self.text[start:stop].strip():
                    found = found[0] if found else start, stop
        return found if found and _SHOWN.search(self.text, found[1]) else None

    def _start(self, piece: int) -> int:
        """Return where a piece begins, counted from the end, where one looks first."""
        if piece < self._first:
            sizes = [*map(len, self._out[max(0, piece - _MORE) :])]
            self._first, at = len(self._out) - len(sizes), len(self.text) - sum(sizes)
            self._starts = [*accumulate(sizes, initial=at)]
        return self._starts[piece - self._first]
