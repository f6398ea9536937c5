"""FlashMask's bounds, read as its kernel reads them, equal the dense mask."""

from __future__ import annotations

import numpy as np
from forests import Forest, batches
from hypothesis import given
from hypothesis import strategies as st
from kernels import until_of

from reasonpack.masks import dense, flashmask


@given(batches(), st.integers(0, 5))
def test_flashmask_hides_rows_from_the_bound_down(batch: list[Forest], padding: int) -> None:
    until = until_of(batch, padding)
    bound = flashmask.startend_row_indices(until)
    assert bound.dtype == np.int32
    assert bound.shape == (len(batch), 1, until.shape[1], 1)
    mask = np.tril(np.ones((until.shape[1],) * 2, bool))[None].repeat(len(batch), axis=0)
    for b, k in np.ndindex(until.shape):
        mask[b, bound[b, 0, k, 0] :, k] = False
    np.testing.assert_array_equal(mask, dense.visible(until))
