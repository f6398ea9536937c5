"""`visible_until` becomes `cu_seqlens`, for rows that are plain causal per sample.

    npass row     5 5 5 5 5 | 8 8 8     ->   cu_seqlens 0 5 8
    onepass row   7 | 3 3 | 7 7 7 7     ->   refused

Rows of the npass layout are packed plain sequences, so any varlen kernel takes them. A
onepass row has branches, which one `cu_seqlens` for queries and keys cannot express: the kernel
would silently let the next turn see the old reasoning. `branches` makes a `cu_seqlens` for
queries and another one for keys. A onepass row without branches (from a template that keeps
everything) is plain causal and is accepted.

Cost: O(B·T). Source: `flash_attn_varlen_func` in Dao-AILab/flash-attention.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.masks.rows import as_array, branch_pieces

__all__ = ["cu_seqlens"]


def cu_seqlens(visible_until: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the bounds of the N sequences in the B·T tokens laid end to end: `i32[N + 1]`.

    `int(np.diff(out).max())` is the `max_seqlen` that kernels also take. A padding token that
    sees only itself is a sequence of its own: correct but wasteful, so lay rows end to end
    (`flat`).

    Args:
        visible_until: `i32[B, T]`, exclusive.

    Raises:
        UsageError: a row has a branch.

    >>> cu_seqlens(np.array([[3, 3, 3, 5, 5]], np.int32)).tolist()
    [0, 3, 5]
    """
    visible_until = as_array(visible_until)
    until, bounds, _ = branch_pieces(visible_until)
    ends = np.repeat(bounds[1:], np.diff(bounds))
    branches = np.flatnonzero(until != ends)
    if branches.size:
        total = visible_until.shape[1]
        row, token = divmod(int(branches[0]), total)
        raise UsageError(
            f"row {row}",
            f"token {token} is visible until {int(visible_until[row, token])} past a "
            f"branch that ends at {int(ends[branches[0]]) - row * total}",
            "plain causal samples",
            "gather the keys of each branch (masks.branches), pack with --layout "
            "npass, or use a kernel that takes a mask (flex, flashmask, magi, blocks,"
            " dense)",
        )
    return bounds.astype(np.int32)
