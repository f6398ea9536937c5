"""MagiAttention's slices, read as its kernel reads them, cover the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from forests import Forest, batches, chats
from hypothesis import given
from hypothesis import strategies as st
from kernels import covered, end_to_end, until_of

from reasonpack.masks import dense, magi


@given(batches(), st.integers(0, 5))
def test_magi_covers_each_visible_cell_once(batch: list[Forest], padding: int) -> None:
    until = until_of(batch, padding)
    found = magi.slices(until)
    assert {a.dtype for a in (found.q_ranges, found.k_ranges, found.attn_type_map)} == {
        np.dtype(np.int32)
    }
    np.testing.assert_array_equal(covered(found, until.size), end_to_end(dense.visible(until)))


@pytest.mark.parametrize("turns", [1, 2, 5, 32])
def test_magi_takes_2n_minus_1_slices_for_n_turns(turns: int) -> None:
    until = until_of([chats([turns], seed=turns)])
    assert len(magi.slices(until).attn_type_map) == 2 * turns - 1


def test_magi_takes_one_slice_for_all_padding() -> None:
    chat = chats([4], seed=0)
    plain, padded = magi.slices(until_of([chat])), magi.slices(until_of([chat], padding=100))
    assert len(padded.attn_type_map) == len(plain.attn_type_map) + 1
