"""What `stats` counts from segments is what the dense mask has, cell by cell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from forests import Forest, batches, chats, grow, positions, row, visible
from hypothesis import example, given
from hypothesis import strategies as st

from reasonpack.show import cost
from reasonpack.show.cost import Costs, Segments, Work, count


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

    leaves, tiles = [], 0
    for forest in forests:
        begins = [t for t, parent in enumerate(forest.parents) if t == 0 or parent != t - 1]
        for begin, end in itertools.pairwise([*begins, len(forest)]):
            path = positions(forest)[end - 1] + 1
            tiles += sum(
                -(-(path - (end - min(first + block, end))) // block)
                for first in range(begin, end, block)
            )
        inner = set(forest.parents)
        depth = positions(forest)
        leaves += [depth[token] + 1 for token in range(len(forest)) if token not in inner]
    visible_work = work([visible(forest) for forest in forests])
    return Costs(
        branches=Work(visible_work.tokens, visible_work.pairs, tiles),
        block_sparse=visible_work,
        causal=work([np.tril(square(len(forest))) for forest in forests]),
        dense=work([square(len(forest)) for forest in forests]),
        npass=work([np.tril(square(leaf)) for leaf in leaves]),
    )


@given(batches(max_rows=4), st.sampled_from([1, 2, 4, 7]))
@example([Forest(grow([0] * 9)), Forest(grow([0, 0, 1, 0])), Forest(grow([0]))], 4)
def test_counts_are_those_of_the_dense_mask(batch: list[Forest], block: int) -> None:
    with patch.object(cost, "BLOCK", block):
        assert count(Segments(batch_of(batch))) == by_hand(batch, block)


def test_counts_at_the_real_block_size_and_batches_add_up() -> None:
    forests = [chats([4, 2], seed=seed, unit=60) for seed in range(6)]
    expected = by_hand(forests, 128)
    assert expected.block_sparse.blocks < expected.causal.blocks
    assert count(Segments(batch_of(forests))) == expected
    halves = count(Segments(batch_of(forests[:2]))) + count(Segments(batch_of(forests[2:])))
    assert halves == expected == Costs() + expected
    assert count(Segments(batch_of(forests).slice(1, 2))) == by_hand(forests[1:3], 128)


def test_an_empty_batch_costs_nothing() -> None:
    assert count(Segments(batch_of([]))) == Costs()


def test_a_segment_that_spans_a_block_is_not_forgotten() -> None:
    # The planted fault: counted to the next block only, it leaves block 0 to the sample before it.
    spanning = Forest(grow([0, 1000, *[0] * 7]))
    honest = by_hand([spanning], 4)
    with patch.object(cost, "BLOCK", 4):
        assert count(Segments(batch_of([spanning]))) == honest
        with patch.object(cost.np, "where", lambda _shared, _both, highest: highest):
            assert count(Segments(batch_of([spanning]))) != honest


def test_the_short_branches_of_a_chat_start_tiles_of_their_own() -> None:
    # h t r | r h t r, in blocks of 2: the branch has ceil(3/2) blocks of queries, the next two
    costs = count(Segments(batch_of([Forest(grow([0, 0, 0, 2, 0, 0, 0]))])))
    assert costs.branches == Work(7, costs.block_sparse.pairs, 2)
    with patch.object(cost, "BLOCK", 2):
        # queries 0-1 of 3 see 1 block, query 2 sees 2; of 4 with 1 key before: 2 and 3
        assert count(Segments(batch_of([Forest(grow([0, 0, 0, 2, 0, 0, 0]))]))).branches.blocks == 8
