"""Rows are those put together by hand, in groups of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from made_samples import packings, plain_groups, plain_sample, plain_table, write

from reasonpack.choices import ShardFormat
from reasonpack.datasets.shards import read_shard
from reasonpack.rows import schema as schemas
from reasonpack.rows import table as table_module
from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import COLUMNS
from reasonpack.rows.table import rows_to_table
from tests.changed import replace

Row = dict[str, Any]


def by_hand(made: Sequence[Sample], members: Sequence[int]) -> Row:
    """One row with plain lists."""
    row: Row = {name: [] for name, _ in COLUMNS}
    row["length"] = 0
    for index in members:
        sample, offset = made[index], row["length"]
        table = sample.segments
        row["input_ids"] += sample.input_ids.tolist()
        row["position_ids"] += sample.position_ids.tolist()
        row["labels"] += sample.labels.tolist()
        row["segment_start"] += [offset + at for at in table.start.tolist()]
        row["segment_visible_until"] += [offset + at for at in table.visible_until.tolist()]
        row["segment_kind"] += table.kind.tolist()
        row["segment_message"] += table.message.tolist()
        row["sample_start"].append(offset)
        row["sample_id"].append(sample.id)
        row["length"] += len(sample.input_ids)
    return row


# --- rows ----------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(packings())
def test_rows_are_those_put_together_by_hand(case: tuple[list[Sample], list[list[int]]]) -> None:
    made, rows = case
    table = rows_to_table(made, rows, schemas.schema())
    table.validate(full=True)
    assert table.to_pylist() == [by_hand(made, members) for members in rows]


ALL = schemas.schema(columns=[name for name, _ in schemas.OPTIONAL])


@pytest.mark.long
@settings(max_examples=100)
@given(packings(optional=True))
def test_optional_columns_are_those_put_together_by_hand(
    case: tuple[list[Sample], list[list[int]]],
) -> None:
    made, rows = case
    table = rows_to_table(made, rows, ALL)
    table.validate(full=True)
    expected = []
    for members in rows:
        row = by_hand(made, members) | {name: [] for name, _ in schemas.OPTIONAL}
        for number, index in enumerate(members):
            sample, before = made[index], len(row["call_id"])
            for name, fill in FILLS.items():
                other = [fill] * sample.length
                if name == "loss_weights":
                    other = [float(label != -100) for label in sample.labels]
                row[name] += list(sample.extra.get(name, other))
            calls = [-1] * len(sample.segments.start)
            if sample.calls is not None and sample.segments.call is not None:
                calls = [before + at if at >= 0 else -1 for at in sample.segments.call.tolist()]
                row["call_id"] += sample.calls.id
                row["call_sample"] += [number] * len(sample.calls.id)
                row["call_role"] += sample.calls.role.tolist()
                row["call_reward"] += sample.calls.reward.tolist()
            row["segment_call"] += calls
        expected.append(row)
    assert table.to_pylist() == expected


def test_a_value_that_has_no_column_is_never_lost() -> None:
    sample = replace(plain_sample(2), extra={"logprobs": np.zeros(2, np.float32)})
    with pytest.raises(AssertionError, match="logprobs"):
        rows_to_table([sample], [[0]], schemas.schema(columns=["loss_weights"]))


@given(packings())
def test_packing_only_adds_offsets(case: tuple[list[Sample], list[list[int]]]) -> None:
    """Each sample's part of its row, less its start, is the row of that sample alone."""
    made, rows = case
    packed = rows_to_table(made, rows, schemas.schema()).to_pylist()
    for row, members in zip(packed, rows, strict=True):
        tokens = [*row["sample_start"], row["length"]]
        for place, index in enumerate(members):
            (alone,) = rows_to_table(made, [[index]], schemas.schema()).to_pylist()
            begin, end = tokens[place : place + 2]
            segments = [at for at, start in enumerate(row["segment_start"]) if begin <= start < end]
            for name in ("input_ids", "position_ids", "labels"):
                assert row[name][begin:end] == alone[name]
            for name in ("segment_kind", "segment_message"):
                assert [row[name][at] for at in segments] == alone[name]
            for name in ("segment_start", "segment_visible_until"):
                assert [row[name][at] - begin for at in segments] == alone[name]


def test_no_rows() -> None:
    table = plain_table([])
    assert (table.num_rows, table.schema) == (0, schemas.schema())


# --- groups --------------------------------------------------------------------------------------


def group_lengths(path: Path) -> list[list[int]]:
    """The row lengths in each row group, or in each record batch."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
        return [group.column("length").to_pylist() for group in groups]
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        return [batch.column("length").to_pylist() for batch in stream]


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([1, 1, 1, 1, 1, 1, 1], [[1, 1, 1], [1, 1, 1], [1]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([9, 2, 9], [[9], [2], [9]]),
        ([10, 10], [[10], [10]]),
        ([12, 30, 1, 1], [[12], [30], [1, 1]]),  # one row may be longer than a group
        ([1, 1, 1], [[1, 1, 1]]),
        ([], []),
    ],
)
def test_groups_are_cut_by_rows_and_by_tokens(
    format_: ShardFormat, path: Path, lengths: list[int], groups: list[list[int]]
) -> None:
    table = plain_table(lengths)
    write(*plain_groups(lengths), path=path, format_=format_)
    assert group_lengths(path) == groups
    assert pa.Table.from_batches(read_shard(path), table.schema).equals(table)


def test_the_limits_are_those_that_the_format_names() -> None:
    assert (table_module.ROWS_PER_GROUP, table_module.TOKENS_PER_GROUP) == (1_000, 4 << 20)
