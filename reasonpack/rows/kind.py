"""What a segment of a row holds, by the numbers of the format."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal

KindLabel = Literal["h", "t", "r_in", "r_out"]
"""The paper's names."""


class Kind(IntEnum):
    """What a segment holds; the numbers are those of the format."""

    CONTEXT = 0
    REASONING = 1
    R_IN = 2
    R_OUT = 3

    @property
    def label(self) -> KindLabel:
        """The paper's name: `h`, `t`, `r_in` or `r_out`."""
        labels: tuple[KindLabel, ...] = ("h", "t", "r_in", "r_out")
        return labels[self]


BY_LABEL: Mapping[str, Kind] = {kind.label: kind for kind in Kind}
