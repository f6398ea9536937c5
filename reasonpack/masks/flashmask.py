"""`visible_until` becomes FlashMask's `startend_row_indices`.

    visible_until i32[B, T]   ->   startend_row_indices i32[B, 1, T, 1]

FlashMask describes a mask by columns. In its causal form with one bound, entry k is
the first query row, at or below the diagonal, from which on key k is hidden: exactly
`visible_until[k]`. The second axis broadcasts over the key heads.

Cost: O(B·T), no copy. One bound cannot express a sliding window: where branches follow, the
queries within a window of k are not an interval. Use `flex` or `dense` for a window.

Source: `paddle.nn.functional.flashmask_attention`, arXiv 2410.01359.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reasonpack.masks.rows import as_array

__all__ = ["startend_row_indices"]


def startend_row_indices(visible_until: NDArray[np.int32]) -> NDArray[np.int32]:
    """Reshape `i32[B, T]` to `i32[B, 1, T, 1]`; call the kernel with `causal=True`.

    >>> startend_row_indices(np.array([[3, 2, 3]], np.int32)).tolist()
    [[[[3], [2], [3]]]]
    """
    return as_array(visible_until).astype(np.int32, copy=False)[:, None, :, None]
