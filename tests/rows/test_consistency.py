"""Rows whose lists do not fit together are refused by all that take rows apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from made_samples import plain_sample
from test_cut_rows import with_two_calls

from reasonpack.rows.consistency import check_sound
from reasonpack.rows.schema import OPTIONAL, schema
from reasonpack.rows.table import rows_to_table

Row = dict[str, Any]
LARGEST = 2**31 - 1


def table() -> pa.Table:
    """Make two rows: of two samples with two calls each, and of one."""
    samples = [with_two_calls(number) for number in range(3)]
    return rows_to_table(samples, [[0, 1], [2]], schema(columns=[name for name, _ in OPTIONAL]))


def check(rows: list[Row]) -> None:
    for batch in pa.Table.from_pylist(rows, schema=table().schema).to_batches():
        check_sound(batch)


def test_sound_rows() -> None:
    check(table().to_pylist())
    check_sound(rows_to_table([plain_sample(3, number=0)], [[0]], schema()).to_batches()[0])
    check_sound(table().slice(1).to_batches()[0])
    for name in table().column_names:
        check_sound(table().select([name]).to_batches()[0])


@pytest.mark.parametrize("name", [name for name in table().column_names if name != "length"])
@pytest.mark.parametrize("change", [list.pop, lambda each: each.append(each[-1]), list.clear])
def test_a_list_of_another_length(name: str, change: Callable[[list[Any]], object]) -> None:
    rows = table().to_pylist()
    change(rows[1][name])
    with pytest.raises(ValueError, match=r"row 1 of its group"):
        check(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("segment_start", "sample_start") for value in (-1, 1, 99)),
        *(("segment_visible_until", value) for value in (-1, 2, 4, LARGEST)),
        *(("segment_kind", value) for value in (4, 255)),
        ("segment_message", -2),
        *(("segment_call", value) for value in (-2, 4, LARGEST)),
        *(("call_sample", value) for value in (-1, 1, 2, LARGEST)),
        ("length", -1),
    ],
)
def test_a_number_that_leads_out_of_its_row(name: str, value: int) -> None:
    rows = table().to_pylist()
    if name == "length":
        rows[0][name] = value
    else:
        rows[0][name][0] = value
    with pytest.raises(ValueError, match=rf"{name}.*row 0 of its group"):
        check(rows)


def test_a_sample_that_begins_within_a_segment() -> None:
    rows = table().to_pylist()
    rows[0]["sample_start"][1] -= 1
    with pytest.raises(ValueError, match="a sample begins within a segment, in row 0"):
        check(rows)


@pytest.mark.parametrize("inner", [False, True])
def test_a_null(inner: bool) -> None:
    names = ["sample_id"]
    values = pa.array([[None] if inner else None], pa.list_(pa.string()))
    with pytest.raises(ValueError, match="sample_id: there is a null"):
        check_sound(pa.RecordBatch.from_arrays([values], names))
