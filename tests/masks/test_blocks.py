"""Lists of blocks, read as a kernel reads them, equal the dense mask."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from forests import Forest, batches, chats, grow, row
from hypothesis import example, given
from hypothesis import strategies as st
from kernels import listed, positions_of, tiles, until_of

from reasonpack.masks import Window, blocks, dense, stack

BLOCK_SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


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
