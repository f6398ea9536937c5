"""Rows are cut back into the samples that were put together in them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_samples import packings, plain_sample

from reasonpack.rows.cut_rows import cut_rows
from reasonpack.rows.sample import Calls, Sample
from reasonpack.rows.schema import OPTIONAL, schema
from reasonpack.rows.table import rows_to_table
from tests.changed import replace


def with_two_calls(number: int) -> Sample:
    sample = plain_sample(3, number=number)
    calls = Calls([f"{number}a", f"{number}b"], np.zeros(2, np.uint8), np.zeros(2, np.float32))
    segments = replace(sample.segments, call=np.ones(1, np.int32))
    return replace(sample, segments=segments, calls=calls)


ALL = [name for name, _ in OPTIONAL]


def cut(table: pa.Table) -> list[list[Sample]]:
    return [row for batch in table.to_batches() for row in cut_rows(batch)]


@settings(max_examples=40)
@given(packings())
def test_samples_are_those_that_went_in(case: tuple[list[Sample], list[list[int]]]) -> None:
    made, rows = case
    found = cut(rows_to_table(made, rows, schema()))
    assert [len(row) for row in found] == [len(row) for row in rows]
    for row, members in zip(found, rows, strict=True):
        for sample, index in zip(row, members, strict=True):
            assert sample.id == made[index].id
            assert sample.calls is None
            assert not sample.extra
            for name in ("input_ids", "position_ids", "labels"):
                assert np.array_equal(getattr(sample, name), getattr(made[index], name))
            for name in ("start", "visible_until", "kind", "message"):
                own = getattr(made[index].segments, name)
                assert np.array_equal(getattr(sample.segments, name), own)


@settings(max_examples=40)
@given(packings(optional=True), st.integers(1, 3))
@example(([with_two_calls(number) for number in range(3)], [[0, 1], [2]]), 1)
def test_cut_and_put_together_again_rows_are_the_same(
    case: tuple[list[Sample], list[list[int]]], chunk: int
) -> None:
    """With all optional columns, in whatever batches: a slice has offsets that begin anywhere."""
    made, rows = case
    table = rows_to_table(made, rows, schema(columns=ALL))
    batches = pa.Table.from_batches(table.to_batches(max_chunksize=chunk), table.schema)
    found = cut(batches)
    samples = [sample for row in found for sample in row]
    bounds = np.cumsum([0, *map(len, found)]).tolist()
    again = [list(range(*pair)) for pair in pairwise(bounds)]
    assert rows_to_table(samples, again, table.schema).equals(table)
