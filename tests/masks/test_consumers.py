"""Every consumer's mask, read as its kernel reads it, equals the dense reference."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from forests import Forest, batches, chats, grow, positions, row
from hypothesis import example, given
from hypothesis import strategies as st
from kernels import covered, end_to_end, listed, sequences, tiles

from reasonpack.errors import UsageError
from reasonpack.masks import Window, blocks, dense, flashmask, magi, stack, varlen

BLOCK_SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def until_of(batch: list[Forest], padding: int = 0) -> np.ndarray:
    return stack([row(forest) for forest in batch], max(map(len, batch)) + padding)


def positions_of(batch: list[Forest], total: int) -> np.ndarray:
    out = np.zeros((len(batch), total), np.int32)
    for line, forest in zip(out, batch, strict=True):
        line[: len(forest)] = positions(forest)
    return out


# --- FlashMask ----------------------------------------------------------------------------


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


# --- Block lists --------------------------------------------------------------------------


@given(batches(), st.integers(0, 5), BLOCK_SIZES)
@example([Forest((None, 0, 1, 0))], 0, (1, 1))
@example([Forest((None, 0, 1, 0, None))], 0, (2, 2))
def test_grid_is_exact(batch: list[Forest], padding: int, block_size: tuple[int, int]) -> None:
    until = until_of(batch, padding)
    found = blocks.grid(until, block_size=block_size)
    for got, expected in zip(found, tiles(dense.visible(until), block_size), strict=True):
        np.testing.assert_array_equal(got, expected)


@given(batches(), st.integers(0, 5), BLOCK_SIZES)
def test_lists_hold_the_grid(
    batch: list[Forest], padding: int, block_size: tuple[int, int]
) -> None:
    until = until_of(batch, padding)
    partial, full = tiles(dense.visible(until), block_size)
    by_query = blocks.forward(until, block_size=block_size)
    by_key = blocks.backward(until, block_size=block_size)
    for lists, turn in [(by_query, lambda x: x), (by_key, lambda x: x.swapaxes(1, 2))]:
        np.testing.assert_array_equal(
            listed(lists.mask_block_cnt, lists.mask_block_idx), turn(partial)
        )
        np.testing.assert_array_equal(
            listed(lists.full_block_cnt, lists.full_block_idx), turn(full)
        )
        assert lists.block_size == block_size
        for array in (lists.mask_block_cnt, lists.full_block_cnt):
            assert (array.dtype, array.ndim) == (np.int32, 3)
        for array in (lists.mask_block_idx, lists.full_block_idx):
            assert (array.dtype, array.ndim) == (np.int32, 4)
            assert (np.sort(array, axis=-1) == np.arange(array.shape[-1])).all()


@given(batches(), st.integers(0, 5), BLOCK_SIZES, st.integers(1, 12))
def test_windowed_grid_hides_nothing_visible(
    batch: list[Forest], padding: int, block_size: tuple[int, int], size: int
) -> None:
    until = until_of(batch, padding)
    window = Window(positions_of(batch, until.shape[1]), size)
    partial, full = blocks.grid(until, block_size=block_size, window=window)
    expected_partial, expected_full = tiles(dense.visible(until, window=window), block_size)
    np.testing.assert_array_equal(full, expected_full)
    assert not (expected_partial & ~partial).any()
    assert not (full & partial).any()


@pytest.mark.parametrize("size", [1, 16, 40])
def test_window_skips_most_blocks_of_a_long_chain(size: int) -> None:
    chain = np.full((1, 800), 800, np.int32)
    window = Window(np.arange(800)[None], size)
    found = blocks.grid(chain, block_size=(16, 16), window=window)
    expected = tiles(dense.visible(chain, window=window), (16, 16))
    np.testing.assert_array_equal(found, expected)


def test_long_row_makes_no_square_grid() -> None:
    until = np.full((1, 32768), 32768, np.int32)
    tracemalloc.start()
    blocks.forward(until)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32768**2 / 100


PLANTED_ANY = {
    "highest until <= q0 is visible": lambda high, q, k, n: (k < q + n) & (high >= q),
    "key q1 is visible": lambda high, q, k, n: (k <= q + n) & (high > q),
    "highest until must pass q1": lambda high, q, k, n: (k < q + n) & (high > q + n),
    "the diagonal is forgotten": lambda high, q, k, n: (k < q) & (high > q),
}
PLANTED_EVERY = {
    "until q1 is too early": lambda low, q, k, n: (k + n - 1 <= q) & (low > q + n),
    "until q1 - 1 is enough": lambda low, q, k, n: (k + n - 1 <= q) & (low >= q + n - 1),
    "the diagonal is full": lambda low, q, k, n: (k <= q) & (low >= q + n),
    "the tail block is full": lambda low, q, k, n: (
        (k + n - 1 <= q) & (low >= np.minimum(q + n, TOTAL))
    ),
}
TOTAL = 70  # the last block of 4 reaches past it


@pytest.mark.parametrize("fault", [*PLANTED_ANY, *PLANTED_EVERY])
def test_planted_faults_in_classify_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [chats([3], seed=seed, unit=6) for seed in range(8)] + [Forest(grow([0] * TOTAL))]
    until = stack([row(forest) for forest in batch], TOTAL)
    expected = tiles(dense.visible(until), (4, 4))
    np.testing.assert_array_equal(blocks.grid(until, block_size=(4, 4)), expected)
    honest = blocks.classify

    def planted(low: Any, high: Any, *, q_start: Any, k_start: Any, block_size: Any) -> Any:
        seen, full = honest(low, high, q_start=q_start, k_start=k_start, block_size=block_size)
        if fault in PLANTED_ANY:
            return PLANTED_ANY[fault](high, q_start, k_start, 4), full
        return seen | full, PLANTED_EVERY[fault](low, q_start, k_start, 4)

    monkeypatch.setattr(blocks, "classify", planted)
    found = blocks.grid(until, block_size=(4, 4))
    assert any((got != want).any() for got, want in zip(found, expected, strict=True))


# --- MagiAttention ------------------------------------------------------------------------


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


# --- varlen -------------------------------------------------------------------------------


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
