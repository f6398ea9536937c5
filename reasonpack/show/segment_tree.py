"""The segments of a sample → their tree: what stands before each, and which of them are copies.

h1 A ─┬─ a1        segments   h1 A   a1   h1'   b1
└─ b1        parents     –     h1    –    h1'     h1' is a copy of the end of h1 A
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from reasonpack.show.row import RowData, Segment


class SegmentTree:
    """The segments of a sample by their numbers.

    Attributes:
        segments: in their order.
        originals: by the number of a copy, that of the segment which begins with what it copies.
    """

    def __init__(self, row: RowData, sample: int) -> None:
        self.segments = row.segments_of(sample)
        self.originals: dict[int, int] = {}
        self._parents: list[int] = []
        firsts: dict[tuple[int, int], int] = {}
        above: list[int] = []
        for at, each in enumerate(self.segments):
            while above and self.segments[above[-1]].visible_until <= each.start:
                above.pop()
            parent = above[-1] if above else -1
            self._parents.append(parent)
            above.append(at)
            original = firsts.setdefault((parent, int(row.input_ids[each.start])), at)
            if original != at and each.length == 1 and not each.trained:
                self.originals[at] = original

    def path(self, token: int) -> list[int]:
        """Return the segments that the token at an offset sees, with its own, from the root on."""
        at = bisect_right(self.segments, token, key=lambda each: each.start) - 1
        path = [at]
        while (at := self._parents[at]) >= 0:
            path.append(at)
        return path[::-1]

    def told(self, path: Sequence[int]) -> list[Segment]:
        """Return the segments of a path, for a copy the one that it was copied from."""
        return [self.segments[self.originals.get(at, at)] for at in path]
