"""`cu_seqlens`, read as a varlen kernel reads them, equal the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from forests import Forest, batches
from hypothesis import example, given
from hypothesis import strategies as st
from kernels import end_to_end, sequences, until_of

from reasonpack.errors import UsageError
from reasonpack.masks import dense, varlen


def is_plain(forest: Forest) -> bool:
    return all(parent in (token - 1, None) for token, parent in enumerate(forest.parents))


@given(batches(), st.integers(0, 5))
@example([Forest((None, 0, None, 2, 3))], 2)
@example([Forest((None, 0, 0))], 0)
def test_varlen_takes_plain_rows_and_refuses_branches(batch: list[Forest], padding: int) -> None:
    until = until_of(batch, padding)
    if all(map(is_plain, batch)):
        bounds = varlen.cu_seqlens(until)
        assert bounds.dtype == np.int32
        np.testing.assert_array_equal(sequences(bounds), end_to_end(dense.visible(until)))
    else:
        with pytest.raises(
            UsageError, match=r"expected plain causal samples\. Fix: gather the keys"
        ):
            varlen.cu_seqlens(until)


def test_varlen_names_the_first_branch() -> None:
    plain, branched = Forest((None, 0, 1, 2)), Forest((None, 0, 1, 0))
    with pytest.raises(
        UsageError, match=r"^row 1: token 0 is visible until 4 past a branch that ends at 3,"
    ):
        varlen.cu_seqlens(until_of([plain, branched]))
