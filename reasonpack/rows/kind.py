"""The kinds of segments, with their names and their numbers in the format."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal

KindLabel = Literal["h", "t", "r_in", "r_out"]
"""The names in the paper."""


class Kind(IntEnum):
    """What a segment holds; the values are the numbers in the format."""

    CONTEXT = 0
    REASONING = 1
    R_IN = 2
    R_OUT = 3

    @property
    def label(self) -> KindLabel:
        """The name in the paper: `h`, `t`, `r_in` or `r_out`."""
        labels: tuple[KindLabel, ...] = ("h", "t", "r_in", "r_out")
        return labels[self]


BY_LABEL: Mapping[str, Kind] = {kind.label: kind for kind in Kind}
