"""What a segment of a row holds, by the numbers of the format."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Kind"]


class Kind(IntEnum):
    """What a segment holds; the numbers are those of the format."""

    CONTEXT = 0
    REASONING = 1
    R_IN = 2
    R_OUT = 3

    @property
    def label(self) -> str:
        """The paper's name: `h`, `t`, `r_in` or `r_out`."""
        return ("h", "t", "r_in", "r_out")[self]
