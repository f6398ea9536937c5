"""`visible_until` becomes MagiAttention's slices, each visible pair in exactly one.

    h t r | r h t r        q_ranges   k_ranges   attn_type_map
    0 1 2   3 4 5 6   ->   [0, 3)     [0, 3)     1 causal      first run
                           [3, 7)     [3, 7)     1 causal      second run
                           [3, 7)     [0, 1)     0 full        first run seen by the second

A *run* is a maximal run of tokens, each the child of the token before it (a branch): one
causal triangle. Later runs see only those keys of an earlier run whose subtree continues
past its end; consecutive keys with the same `visible_until` are one rectangle, for all
later runs together. So a conversation of n turns takes n triangles and n − 1 rectangles.
Neighbouring runs of one token each, such as all padding of a row, share one bi-causal
square, which is its diagonal.

`q_ranges` overlap, so leave `disable_fwd_atomic_reduction` off. Sliding windows are not supported:
counted in positions, each rectangle becomes one band per later run. Use `flex` for a window.

Cost: O(B·T) time, output of O(number of slices). Source: `flex_flash_attn_func` in
SandAI-org/MagiAttention (0 full, 1 causal bottom right, 2 inverse causal, 3 bi-causal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    rows, total = visible_until.shape
    until = (visible_until + total * np.arange(rows)[:, None]).ravel()
    size = until.size
    # Token k is the child of k − 1 exactly if the subtree of k − 1 goes on past k − 1.
    starts_run = np.append(True, until[:-1] == np.arange(1, size))
    run_start = np.flatnonzero(starts_run)
    run_end = np.append(run_start[1:], size)

    square, square_type = _squares(run_start, run_end)
    group_start = np.flatnonzero(starts_run | np.append(True, until[1:] != until[:-1]))
    group_end = np.append(group_start[1:], size)
    seen_from = run_end[np.searchsorted(run_start, group_start, side="right") - 1]
    seen_until = until[group_start]
    later = seen_until > seen_from
    return Slices(
        q_ranges=_ranges(square, np.stack([seen_from, seen_until], axis=1)[later]),
        k_ranges=_ranges(square, np.stack([group_start, group_end], axis=1)[later]),
        attn_type_map=np.append(square_type, np.full(later.sum(), FULL)).astype(np.int32),
    )


def _squares(
    run_start: NDArray[np.intp], run_end: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return a square `[start, end)` per run, or per stretch of one-token runs, and its type."""
    single = run_end - run_start == 1
    opens = ~(single & np.append(False, single[:-1]))
    start = run_start[opens]
    end = np.append(start[1:], run_end[-1:])
    diagonal = single[opens] & (end - start > 1)
    return np.stack([start, end], axis=1), np.where(diagonal, BI_CAUSAL, CAUSAL)


def _ranges(squares: NDArray[np.intp], rectangles: NDArray[np.intp]) -> NDArray[np.int32]:
    return np.concatenate([squares, rectangles]).astype(np.int32)
