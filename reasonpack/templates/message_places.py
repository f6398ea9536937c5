r"""The pieces of a rendering, and the piece each loop began with → where each message's text is.

out    "<|bos|>"  "<|im_start|>user\nHi<|im_end|>\n"  …
loops  messages 0, 1, … from piece 1, one piece each      message 0 is `text[7:37]`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

_BLANK = 8
"""A text of at most this many characters that is only white space counts as no message text."""
_SHOWN = re.compile(r"\S")


@dataclass
class MessagePlaces:
    """Where in a rendering the text of each message is.

    Attributes:
        text: the rendering.
        out: its pieces.
        loops: for each loop the indices of its messages, and the index of the first message's
            piece; each message has one piece.
    """

    text: str = ""
    out: Sequence[str] = ()
    loops: Sequence[tuple[range, int]] = ()

    def of(self, message: int) -> tuple[int, int] | None:
        """Return where the text of a message begins and ends; None if no loop wrote it.

        None also for the last text of the rendering, which may contain the generation prompt.
        """
        found: tuple[int, int] | None = None
        for places, first in self.loops:
            if message in places:
                piece = first + places.index(message)
                start, stop = self._starts[piece : piece + 2]
                if stop - start > _BLANK or self.text[start:stop].strip():
                    found = found[0] if found else start, stop
        return found if found and _SHOWN.search(self.text, found[1]) else None

    @cached_property
    def _starts(self) -> list[int]:
        """The offset of each piece, and of the end."""
        return [*accumulate(map(len, self.out), initial=0)]
