"""What `stats` counts from segments is what the dense mask has, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from forests import Forest, batches, chats, grow, positions, row, visible
from hypothesis import example, given
from hypothesis import strategies as st

from reasonpack.show import cost
from reasonpack.show.cost import Costs, Work, cost_lines, count


def batch_of(forests: Sequence[Forest]) -> pa.RecordBatch:
    rows = [row(forest) for forest in forests]
    names = ["length", "position_ids", "segment_start", "segment_visible_until"]
    return pa.RecordBatch.from_pydict(
        {
            name: pa.array(
                [each[name] for each in rows],
                pa.int32() if name == "length" else pa.list_(pa.int32()),
            )
            for name in names
        }
    )


def by_hand(forests: Sequence[Forest], block: int) -> Costs:
    """Write every mask out and count its cells and the blocks that have one."""

    def work(masks: Sequence[np.ndarray]) -> Work:
        tiles = sum(
            bool(mask[q : q + block, k : k + block].any())
            for mask in masks
            for q in range(0, len(mask), block)
            for k in range(0, len(mask), block)
        )
        return Work(sum(map(len, masks)), sum(int(mask.sum()) for mask in masks), tiles)

    def square(size: int) -> np.ndarray:
        return np.ones((size, size), bool)

    leaves = []
    for forest in forests:
        inner = set(forest.parents)
        depth = positions(forest)
        leaves += [depth[token] + 1 for token in range(len(forest)) if token not in inner]
    return Costs(
        block_sparse=work([visible(forest) for forest in forests]),
        causal=work([np.tril(square(len(forest))) for forest in forests]),
        dense=work([square(len(forest)) for forest in forests]),
        npass=work([np.tril(square(leaf)) for leaf in leaves]),
    )


@given(batches(max_rows=4), st.sampled_from([1, 2, 4, 7]))
@example([Forest(grow([0] * 9)), Forest(grow([0, 0, 1, 0])), Forest(grow([0]))], 4)
def test_counts_are_those_of_the_dense_mask(batch: list[Forest], block: int) -> None:
    with patch.object(cost, "BLOCK", block):
        assert count(batch_of(batch)) == by_hand(batch, block)


def test_counts_at_the_real_block_size_and_batches_add_up() -> None:
    forests = [chats([4, 2], seed=seed, unit=60) for seed in range(6)]
    expected = by_hand(forests, 128)
    assert expected.block_sparse.blocks < expected.causal.blocks
    assert count(batch_of(forests)) == expected
    halves = count(batch_of(forests[:2])) + count(batch_of(forests[2:]))
    assert halves == expected == Costs() + expected
    assert count(batch_of(forests).slice(1, 2)) == by_hand(forests[1:3], 128)


def test_an_empty_batch_costs_nothing() -> None:
    assert count(batch_of([])) == Costs()
    assert len(list(cost_lines(Costs(), "onepass"))) == 4


def test_a_segment_that_spans_a_block_is_not_forgotten() -> None:
    # The planted fault: counted to the next block only, it leaves block 0 to the sample before it.
    spanning = Forest(grow([0, 1000, *[0] * 7]))
    honest = by_hand([spanning], 4)
    with patch.object(cost, "BLOCK", 4):
        assert count(batch_of([spanning])) == honest
        with patch.object(cost.np, "where", lambda _shared, _both, highest: highest):
            assert count(batch_of([spanning])) != honest


@pytest.mark.parametrize(
    ("rows", "npass", "said"),
    [
        (Work(100, 10, 5), Work(150, 12, 6), "take onepass: 1.50 times fewer tokens and 1.20"),
        (Work(100, 10, 5), Work(100, 10, 5), "No conversation has a branch"),
        # 24 d² · 50 + 4 d · 128² · 6 = 4 d · 128² · 8 · 3.1 at d = 1,024
        (Work(100, 10, 8), Work(150, 12, 6), "1.50 times fewer tokens but 1.33 times more blocks"),
        (Work(100, 10, 8), Work(150, 12, 6), "takes that kernel less than 3.1 times what it takes"),
        (Work(100, 10, 80), Work(150, 12, 60), "FA4) too npass costs less"),
    ],
)
def test_the_advice_follows_the_counts(rows: Work, npass: Work, said: str) -> None:
    costs = Costs(block_sparse=rows, causal=Work(100, 20, 9), dense=Work(100, 40, 18), npass=npass)
    text = " ".join(cost_lines(costs, "onepass"))
    assert said in text
    assert "a dense mask (SDPA, eager) computes 4.0 times the visible pairs" in text
    assert "a causal kernel 2.0 times" in text
    assert all(len(line) < 90 for line in cost_lines(costs, "onepass"))


def test_a_dense_mask_may_compute_less_than_npass() -> None:
    rows = Work(100, 10, 5)
    costs = Costs(rows, Work(100, 20, 9), Work(100, 40, 18), npass=Work(900, 50, 6))
    text = " ".join(cost_lines(costs, "onepass"))
    assert (
        "4.0 times the visible pairs, a causal kernel 2.0 times, which is less than npass" in text
    )


def test_an_npass_dataset_is_told_what_can_be_said() -> None:
    costs = count(batch_of([Forest(grow([0] * 300)), Forest(grow([0] * 200))]))
    assert costs.npass == costs.block_sparse == costs.causal
    text = " ".join(cost_lines(costs, "npass"))
    assert "onepass, " not in text
    assert "--layout onepass --dry-run" in text
