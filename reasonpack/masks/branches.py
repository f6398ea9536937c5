"""`visible_until` becomes the varlen kernels' input for rows with branches: gathered keys.

    row       h1 t1 o1 | i1 h2 t2 o2 | i2 h3 t3 o3      | a leaf ends, a branch begins
    queries   the branches, in the order of the row     cu_seqlens_q, Σ = tokens
    keys      of each branch its ancestors and itself   cu_seqlens_k, Σ = tokens of N-pass
              h1 t1 o1 | h1 i1 h2 t2 o2 | h1 i1 h2 i2 h3 t3 o3

The *path* of a branch is its ancestors followed by the branch. `keys[k_index]` lays the paths end
to end, and a kernel with `causal=True` that aligns bottom right where queries are fewer than keys
(FlashAttention 2, 3, 4, `torch.nn.attention.varlen`) shows query i of a branch its ancestors and
the branch up to i: exactly its visible tokens. Key j of a path has position j, so a kernel's window
counts positions.

    found = branches(flat(rows))
    flash_attn_varlen_func(q, k[found.k_index], v[found.k_index], found.cu_seqlens_q,
                           found.cu_seqlens_k, found.max_seqlen_q, found.max_seqlen_k, causal=True)

The kernel computes every visible pair once and no other pair. The extra cost is a copy of keys and
values, but not of queries, as long as N-pass.

Cost: O(B·T) time, and output of O(Σ paths); milliseconds for 64k tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonpack.masks.rows import branch_pieces

__all__ = ["Branches", "branches", "sum_order"]


@dataclass(frozen=True, slots=True)
class Branches:
    """N branches of the B·T tokens of a batch laid end to end, under the names of the kernels.

    Attributes:
        k_index: `i64[K]`, the tokens of each path, path by path, in the order of positions.
        cu_seqlens_q: `i32[N + 1]`, bounds of the branches; the last is B·T.
        cu_seqlens_k: `i32[N + 1]`, bounds of the paths in `k_index`; the last is K.
        max_seqlen_q: tokens in the longest branch.
        max_seqlen_k: tokens in the longest path.
    """

    k_index: NDArray[np.int64]
    cu_seqlens_q: NDArray[np.int32]
    cu_seqlens_k: NDArray[np.int32]
    max_seqlen_q: int
    max_seqlen_k: int


def branches(visible_until: NDArray[np.int32]) -> Branches:
    """Find the branches of `i32[B, T]` and their paths; row b starts at token b·T.

    Args:
        visible_until: `i32[B, T]`, exclusive. A padding token that sees only itself is a branch of
            its own: correct but wasteful, so lay rows end to end (`flat`).

    >>> found = branches(np.array([[7, 3, 3, 7, 7, 7, 7]], np.int32))  # h | t r | r h t r
    >>> found.cu_seqlens_q.tolist(), found.cu_seqlens_k.tolist(), found.k_index.tolist()
    ([0, 3, 7], [0, 3, 8], [0, 1, 2, 0, 3, 4, 5, 6])
    >>> found.max_seqlen_q, found.max_seqlen_k
    (4, 5)
    """
    # A path holds all of a piece or nothing of it.
    until, bounds, start = branch_pieces(visible_until)
    size = np.diff(start, append=until.size)
    # The subtree of a piece is an interval of tokens, so the paths that hold it are neighbours.
    first = np.searchsorted(bounds, start, side="right") - 1
    last = np.searchsorted(bounds, until[start] - 1, side="right") - 1
    holders = last - first + 1
    piece = np.repeat(np.arange(start.size), holders)
    branch = first[piece] + _counted(holders)
    order = np.argsort(branch, kind="stable")  # path by path, pieces of a path as in the row
    piece, branch = piece[order], branch[order]

    k_index = np.repeat(start[piece], size[piece]) + _counted(size[piece])
    paths = np.append(0, np.cumsum(np.bincount(branch, size[piece]).astype(np.int64)))
    return Branches(
        k_index=k_index,
        cu_seqlens_q=bounds.astype(np.int32),
        cu_seqlens_k=paths.astype(np.int32),
        max_seqlen_q=int(np.diff(bounds).max()),
        max_seqlen_k=int(np.diff(paths).max()),
    )


def sum_order(
    k_index: NDArray[np.int64], tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order the gathered keys by the token that they are copies of, to sum their gradients.

    The copies of token k are `order[offsets[k] : offsets[k + 1]]`, in the order of the paths; each
    token has at least one. A sum in this order is the same in every run; a scatter on a GPU is not.

    Args:
        k_index: `i64[K]`, as of `branches`.
        tokens: B·T.

    Returns:
        `order` `i64[K]` and `offsets` `i64[tokens + 1]`.

    >>> order, offsets = sum_order(np.array([0, 1, 2, 0, 3, 4]), 5)
    >>> order.tolist(), offsets.tolist()
    ([0, 3, 1, 2, 4, 5], [0, 2, 3, 4, 5, 6])
    """
    copies = np.bincount(k_index, minlength=tokens)
    return np.argsort(k_index, kind="stable"), np.append(0, np.cumsum(copies))


def _counted(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, …, size − 1 for each size, joined."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
