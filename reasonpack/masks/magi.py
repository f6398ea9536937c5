"""`visible_until` becomes MagiAttention's slices, each visible pair in exactly one.

    h t r | r h t r        q_ranges   k_ranges   attn_type_map
    0 1 2   3 4 5 6   ->   [0, 3)     [0, 3)     1 causal      first branch
                           [3, 7)     [3, 7)     1 causal      second branch
                           [3, 7)     [0, 1)     0 full        first seen by the second

A branch (`rows.branch_pieces`) is one causal triangle. Later branches see only those keys of
an earlier one whose subtree continues past its end: a piece of it is one rectangle, for all
later branches together. So a conversation of n turns takes n triangles and n − 1 rectangles.
Neighbouring branches of one token each, such as all padding of a row, share one bi-causal
square, which is its diagonal.

`q_ranges` overlap, so leave `disable_fwd_atomic_reduction` off. Sliding windows are not supported:
counted in positions, each rectangle becomes one band per later branch. Use `flex` for a window.

Cost: O(B·T) time, output of O(number of slices). Source: `flex_flash_attn_func` in
SandAI-org/MagiAttention (0 full, 1 causal bottom right, 2 inverse causal, 3 bi-causal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonpack.masks.rows import branch_pieces

__all__ = ["Slices", "slices"]

FULL, CAUSAL, BI_CAUSAL = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Slices:
    """N slices over the B·T tokens of a batch laid end to end.

    Attributes:
        q_ranges: `i32[N, 2]`, half-open.
        k_ranges: `i32[N, 2]`, half-open.
        attn_type_map: `i32[N]`: 0 full, 1 causal, 3 bi-causal.
    """

    q_ranges: NDArray[np.int32]
    k_ranges: NDArray[np.int32]
    attn_type_map: NDArray[np.int32]


def slices(visible_until: NDArray[np.int32]) -> Slices:
    """Cover the visible pairs of `i32[B, T]` exactly once; row b starts at token b·T.

    >>> found = slices(np.array([[7, 3, 3, 7, 7, 7, 7]], np.int32))
    >>> found.q_ranges.tolist(), found.k_ranges.tolist(), found.attn_type_map.tolist()
    ([[0, 3], [3, 7], [3, 7]], [[0, 3], [3, 7], [0, 1]], [1, 1, 0])
    """
    until, bounds, start = branch_pieces(visible_until)
    square, square_type = _squares(bounds)
    seen_from = bounds[np.searchsorted(bounds, start, side="right")]
    seen_until = until[start]
    end = np.append(start[1:], until.size)
    later = seen_until > seen_from
    return Slices(
        q_ranges=_ranges(square, np.stack([seen_from, seen_until], axis=1)[later]),
        k_ranges=_ranges(square, np.stack([start, end], axis=1)[later]),
        attn_type_map=np.append(square_type, np.full(later.sum(), FULL)).astype(np.int32),
    )


def _squares(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a square `[start, end)` per branch, or per stretch of one-token branches; its type."""
    single = np.diff(bounds) == 1
    opens = ~(single & np.append(False, single[:-1]))
    edges = np.append(bounds[:-1][opens], bounds[-1])
    diagonal = single[opens] & (np.diff(edges) > 1)
    squares = np.stack([edges[:-1], edges[1:]], axis=1)
    return squares, np.where(diagonal, BI_CAUSAL, CAUSAL)


def _ranges(squares: NDArray[np.int64], rectangles: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([squares, rectangles]).astype(np.int32)
