"""`visible_until` becomes lists of full and of partial blocks; other blocks are skipped.

    4 × 4 blocks, q down, k across       per q block:   partial   full
    P . . .                              0              0         -
    F P . .                              1              1         0
    F . P .       (a branch is skipped)  2              2         0
    F . F P                              3              3         0, 2

A block of queries `[q0, q1)` and keys `[k0, k1)` is classified exactly, from only the
lowest and the highest `visible_until` of its keys (`classify` has the proof). So no
T × T grid is made: O(B·T) time for the extremes and O(B·T² / (bq·bk)) for the lists,
64k entries for 32k tokens in blocks of 128.

`forward` and `backward` make what FlashAttention-4 takes (`flash_attn.cute`,
`BlockSparseTensorsTorch`); its aux tensor is `visible_until` itself, and its mask is

    @cute.jit
    def mask_mod(batch, head, m_idx, n_idx, seqlen_info, aux_tensors):
        until = utils.scalar_to_ssa(aux_tensors[0][batch[0], n_idx[0]], cutlass.Int32)
        return (n_idx <= m_idx) & (m_idx < until)

    flash_attn_func(q, k, v, mask_mod=mask_mod, aux_tensors=[visible_until],
                    block_sparse_tensors=…, block_sparse_tensors_bwd=…)

with tensors on the GPU; with a `mask_mod` the kernel ignores `causal`. On GPUs of compute
capability 12 it has no backward pass. Sources: `interface.py`, `block_sparsity.py` and `mask.py` of
`flash_attn.cute` (flash-attn-4 4.0.0b36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.masks.rows import Window, as_array

__all__ = ["BlockLists", "backward", "classify", "forward", "grid"]


@dataclass(frozen=True, slots=True)
class BlockLists:
    """Block lists under the field names of FlashAttention-4; the axis of 1 broadcasts over heads.

    Attributes:
        mask_block_cnt: `i32[B, 1, M]`, number of partial blocks of each outer block.
        mask_block_idx: `i32[B, 1, M, N]`, their indices, ascending; then the indices of
            the other blocks, ascending, which no kernel reads.
        full_block_cnt: `i32[B, 1, M]`, number of blocks that need no mask.
        full_block_idx: `i32[B, 1, M, N]`, as `mask_block_idx`.
        block_size: tokens of a block, `(query, key)`.
    """

    mask_block_cnt: NDArray[np.int32]
    mask_block_idx: NDArray[np.int32]
    full_block_cnt: NDArray[np.int32]
    full_block_idx: NDArray[np.int32]
    block_size: tuple[int, int]


def forward(
    visible_until: NDArray[np.int32],
    *,
    block_size: tuple[int, int] = (128, 128),
    window: Window | None = None,
) -> BlockLists:
    """List for each block of queries the blocks of keys to visit (M query, N key blocks).

    Args:
        visible_until: `i32[B, T]`, exclusive.
        block_size: `(query, key)` tokens, multiples of the kernel's tiles, which depend
            on GPU and head size: for heads of 128, (128, 128) on Hopper and (256, 128)
            on Blackwell.
        window: as in `grid`.

    >>> lists = forward(np.array([[4, 4, 3, 4]], np.int32), block_size=(1, 1))
    >>> lists.full_block_cnt.tolist(), lists.full_block_idx[0, 0, 3].tolist()
    ([[[1, 2, 3, 3]]], [0, 1, 3, 2])
    """
    partial, full = grid(visible_until, block_size=block_size, window=window)
    return BlockLists(*_ordered(partial), *_ordered(full), block_size=block_size)


def backward(
    visible_until: NDArray[np.int32],
    *,
    block_size: tuple[int, int] = (128, 128),
    window: Window | None = None,
) -> BlockLists:
    """List for each block of keys the blocks of queries to visit (M key, N query blocks).

    Args:
        visible_until: `i32[B, T]`, exclusive.
        block_size: `(query, key)` tokens, as the backward kernel requires.
        window: as in `grid`.

    >>> lists = backward(np.array([[4, 4, 3, 4]], np.int32), block_size=(1, 1))
    >>> lists.full_block_cnt.tolist()
    [[[4, 3, 1, 1]]]
    """
    partial, full = grid(visible_until, block_size=block_size, window=window)
    return BlockLists(
        *_ordered(partial.swapaxes(1, 2)), *_ordered(full.swapaxes(1, 2)), block_size=block_size
    )


def grid(
    visible_until: NDArray[np.int32],
    *,
    block_size: tuple[int, int] = (128, 128),
    window: Window | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which blocks are partial and which are full: two `bool[B, M, N]`.

    M = ceil(T / block_size[0]) blocks of queries, N = ceil(T / block_size[1]) of keys.
    A block that reaches past T is never full. Without a window both are exact; with one,
    the full blocks are exact and a few partial blocks may have no visible pair.

    >>> partial, full = grid(np.array([[4, 4, 3, 4]], np.int32), block_size=(2, 2))
    >>> partial.astype(int).tolist(), full.astype(int).tolist()
    ([[[1, 0], [0, 1]]], [[[0, 0], [1, 0]]])
    """
    visible_until = as_array(visible_until)
    starts = [np.arange(0, visible_until.shape[1], size) for size in block_size]
    if window is not None:
        window = Window(np.asarray(window.position_ids), window.size)
    return judge(visible_until, starts, _extremes, block_size=block_size, window=window)


def judge(
    until: Any,
    starts: Sequence[Any],
    extremes: Callable[[Any, int], tuple[Any, Any]],
    *,
    block_size: tuple[int, int],
    window: Window | None,
) -> tuple[Any, Any]:
    """Return what `grid` does, for NumPy arrays or for torch tensors.

    Args:
        until: `visible_until`, `[B, T]`.
        starts: first tokens of the blocks of queries, and of keys.
        extremes: returns the lowest and the highest value of each block of a given size.
        block_size: `(query, key)` tokens.
        window: as in `grid`; an array or a tensor as the rest.
    """
    query, key = block_size
    low, high = (each[:, None, :] for each in extremes(until, key))
    q_start, k_start = starts[0][:, None], starts[1][None, :]
    seen, full = classify(low, high, q_start=q_start, k_start=k_start, block_size=block_size)
    if window is not None:
        q_low, q_high = (each[:, :, None] for each in extremes(window.position_ids, query))
        k_low, k_high = (each[:, None, :] for each in extremes(window.position_ids, key))
        seen &= q_low - k_high < window.size
        full &= q_high - k_low < window.size
    return seen & ~full, full


def classify(
    until_low: Any, until_high: Any, *, q_start: Any, k_start: Any, block_size: tuple[int, int]
) -> tuple[Any, Any]:
    """Return for blocks `[q0, q1) × [k0, k1)` whether any pair, and whether every pair, is visible.

    Works on NumPy arrays and torch tensors alike; arguments broadcast.

    Any pair: `k0 < q1` and the highest `visible_until` is above `q0`. If every key is
    before `q0`, keys only become hidden from `q0` on, so some pair is visible exactly if
    query `q0` sees a key. Otherwise `k0 < q1` puts some key of the block in `[q0, q1)`,
    which sees itself; its `visible_until` is above itself, so above `q0`.

    Every pair: the last key is not after the first query, and the lowest `visible_until`
    reaches `q1`. Ends are not clipped at T: a block that reaches past T has either
    `q1 > T >= visible_until` or a last key `>= T > q0`, so it is never full.

    Args:
        until_low: lowest `visible_until` of each block of keys.
        until_high: highest `visible_until` of each block of keys.
        q_start: first query `q0` of each block of queries.
        k_start: first key `k0` of each block of keys.
        block_size: `(query, key)` tokens.

    >>> classify(4, 8, q_start=4, k_start=0, block_size=(4, 4))
    (True, False)
    """
    query, key = block_size
    any_visible = (k_start < q_start + query) & (until_high > q_start)
    all_visible = (k_start + key - 1 <= q_start) & (until_low >= q_start + query)
    return any_visible, all_visible


def _extremes(values: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the lowest and highest value of each block of `size`: two `i32[B, ceil(T / size)]`."""
    edges = np.arange(0, values.shape[1], size)
    return np.minimum.reduceat(values, edges, axis=1), np.maximum.reduceat(values, edges, axis=1)


def _ordered(blocks: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Count the true columns of each row, and list true columns, then false ones, ascending."""
    count = blocks.sum(axis=-1, dtype=np.int32)
    index = np.argsort(~blocks, axis=-1, kind="stable").astype(np.int32)
    return count[:, None], index[:, None]
