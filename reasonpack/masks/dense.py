"""`visible_until` becomes the whole matrix: the reference, and the mask for SDPA and eager.

    visible_until 5 5 4 4 5   ->   q/k  0 1 2 3 4
                                   0    1 . . . .
                                   1    1 1 . . .
                                   2    1 1 1 . .      the branch [2, 4)
                                   3    1 1 1 1 .
                                   4    1 1 . . 1      does not see it

Cost: O(B·T²) time and memory, i.e. 1 GiB of booleans for one row of 32k tokens, and the
kernel skips nothing. For tests and short rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.masks.rows import Window, as_array

if TYPE_CHECKING:
    import torch

__all__ = ["additive", "visible"]


def visible(visible_until: NDArray[np.int32], *, window: Window | None = None) -> NDArray[np.bool_]:
    """Return the dense mask `bool[B, T, T]`, rows q, columns k; `[T, T]` for one row `i32[T]`.

    `torch.from_numpy(visible(...))[:, None]` is what SDPA takes as `attn_mask`.

    Args:
        visible_until: `i32[B, T]` or `i32[T]`, exclusive.
        window: hide keys `window.size` or more positions back.

    >>> visible(np.array([3, 2, 3], np.int32)).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    visible_until = as_array(visible_until, dimensions=(1, 2))
    index = np.arange(visible_until.shape[-1], dtype=np.int32)
    q, k = index[:, None], index[None, :]
    seen: NDArray[np.bool_] = (k <= q) & (q < visible_until[..., None, :])
    if window is not None:
        position = np.asarray(window.position_ids)
        seen &= position[..., :, None] - position[..., None, :] < window.size
    return seen


def additive(visible: NDArray[np.bool_], dtype: torch.dtype | np.dtype[Any] | type) -> Any:
    """Turn `bool[B, T, T]` into the additive 4-D mask `[B, 1, T, T]` of HF models.

    It is 0 where visible and the lowest finite number of `dtype` elsewhere, as in
    `transformers` (`masking_utils`), which passes a 4-D mask through unchanged.
    Every row has a visible key, so hidden keys get exactly 0 from the softmax.

    Args:
        visible: from `visible()`.
        dtype: the dtype of the model's scores: a torch dtype makes a tensor, a NumPy
            dtype an array.

    >>> additive(np.array([[[True, False], [True, True]]]), np.float16).tolist()
    [[[[0.0, -65504.0], [0.0, 0.0]]]]
    """
    hidden = ~visible[:, None]
    if isinstance(dtype, (type, np.dtype)):
        return np.where(hidden, np.finfo(dtype).min, np.zeros((), dtype))
    import torch  # noqa: PLC0415 - numpy users have no torch

    zeros = torch.zeros(hidden.shape, dtype=dtype)
    return zeros.masked_fill_(torch.from_numpy(hidden), torch.finfo(dtype).min)
