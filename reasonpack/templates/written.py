r"""The pieces of a rendering, and the piece each loop began with → where each message's text is.

    out    "<|bos|>"  "<|im_start|>user\nHi<|im_end|>\n"  …
    loops  messages 0, 1, … from piece 1, one piece each      message 0 is `text[7:37]`

Offsets are computed only for messages that are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

_MORE = 100
"""How many pieces before the requested one are measured with it."""
_BLANK = 8
"""A text of at most this many characters that is only white space counts as no message text."""
_SHOWN = re.compile(r"\S")


class Written:
    """Where in a rendering the text of each message is.

    Args:
        text: the rendering.
        out: its pieces.
        loops: for each loop the indices of its messages, and the index of the first message's
            piece; each message has one piece.
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
        """Return where the text of a message begins and ends; None if no loop wrote it.

        None also for the last text of the rendering, which may contain the generation prompt.
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
        """Return the offset of a piece, found from the end, where most lookups are."""
        if piece < self._first:
            sizes = [*map(len, self._out[max(0, piece - _MORE) :])]
            self._first, at = len(self._out) - len(sizes), len(self.text) - sum(sizes)
            self._starts = [*accumulate(sizes, initial=at)]
        return self._starts[piece - self._first]
