"""Samples → rows, as Arrow tables.

samples  [s0, s1, s2]      rows  [[0, 2], [1]]
                                   │
input_ids     s0 s2 │ s1           one Arrow row per training row, ragged
segment_start  0… +|s0| │ 0…       indices of tokens count from the row's start
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.sample import IGNORE, NO_CALLS, Sample
from reasonpack.rows.schema import COLUMNS, OPTIONAL

ROWS_PER_GROUP = 1_000
TOKENS_PER_GROUP = 1 << 22
I64 = NDArray[np.int64]
Column = tuple[Sequence[Any], I64]
"""The values of all rows, as arrays to join or as texts, and how many of them each row has."""


def row_groups(
    samples: Sequence[Sample], rows: Sequence[Sequence[int]], schema_: pa.Schema
) -> Iterator[pa.Table]:
    """Join samples into rows, a group at a time: at most 1,000 rows or about four million tokens.

    Readers can then shuffle and stream, and the writer never holds more than a group of rows. The
    arguments are those of `rows_to_table`.
    """
    first = tokens = 0
    for number, row in enumerate(rows):
        length = sum(samples[index].length for index in row)
        full = number - first == ROWS_PER_GROUP or tokens + length > TOKENS_PER_GROUP
        if full and number > first:
            yield rows_to_table(samples, rows[first:number], schema_)
            first, tokens = number, 0
        tokens += length
    if first < len(rows):
        yield rows_to_table(samples, rows[first:], schema_)


def rows_to_table(
    samples: Sequence[Sample], rows: Sequence[Sequence[int]], schema_: pa.Schema
) -> pa.Table:
    """Join samples into rows, each given as the indices of its samples (`packing`).

    Returns:
        One Arrow row for each of `rows`; the columns are described in FORMAT.md.
    """
    order = [samples[index] for row in rows for index in row]
    segments = [sample.segments for sample in order]
    per_row = np.array([len(row) for row in rows], np.int64)
    lengths = np.array([sample.length for sample in order], np.int64)
    counts = np.array([len(each.start) for each in segments], np.int64)
    row_tokens, row_segments = _sums(lengths, per_row), _sums(counts, per_row)
    within = _starts(lengths) - np.repeat(_starts(row_tokens), per_row)
    found: dict[str, Column] = {
        "input_ids": ([each.input_ids for each in order], row_tokens),
        "position_ids": ([each.position_ids for each in order], row_tokens),
        "labels": ([each.labels for each in order], row_tokens),
        "segment_start": (_shifted([each.start for each in segments], within), row_segments),
        "segment_visible_until": (
            _shifted([each.visible_until for each in segments], within),
            row_segments,
        ),
        "segment_kind": ([each.kind for each in segments], row_segments),
        "segment_message": ([each.message for each in segments], row_segments),
        "sample_start": ([within], per_row),
        "sample_id": ([each.id for each in order], per_row),
    }
    held = {name for sample in order for name in sample.extra}
    assert held <= {*schema_.names}, f"{sorted(held)} are not among the columns of the shard"
    wanted = [name for name in FILLS if name in schema_.names]
    found |= {name: ([_extra(each, name) for each in order], row_tokens) for name in wanted}
    if "call_id" in schema_.names:
        found |= _calls(order, per_row, row_segments)
    columns = [
        _flat(row_tokens.astype(np.int32)) if name == "length" else _ragged(*found[name], type_)
        for name, type_ in (*COLUMNS, *OPTIONAL)
        if name in schema_.names
    ]
    return pa.Table.from_arrays(columns, schema=schema_)


def _extra(sample: Sample, name: str) -> NDArray[Any]:
    """Return a sample's optional column; without loss weights, labelled tokens have weight 1."""
    if name in sample.extra:
        return sample.extra[name]
    if name == "loss_weights":
        return np.asarray(sample.labels != IGNORE)
    return np.full(sample.length, FILLS[name])


def _calls(order: Sequence[Sample], per_row: I64, row_segments: I64) -> dict[str, Column]:
    """Return the columns of calls; indices of calls and samples count from the row's start."""
    calls = [sample.calls or NO_CALLS for sample in order]
    counts = np.array([len(each.id) for each in calls], np.int64)
    row_calls = _sums(counts, per_row)
    before = _starts(counts) - np.repeat(_starts(row_calls), per_row)
    number = np.arange(len(order)) - np.repeat(_starts(per_row), per_row)
    segments = [
        np.full(len(sample.segments.start), -1)
        if sample.segments.call is None
        else np.where(sample.segments.call < 0, -1, sample.segments.call + shift)
        for sample, shift in zip(order, before, strict=True)
    ]
    return {
        "segment_call": (segments, row_segments),
        "call_id": ([id_ for each in calls for id_ in each.id], row_calls),
        "call_sample": ([np.repeat(number, counts)], row_calls),
        "call_role": ([each.role for each in calls], row_calls),
        "call_reward": ([each.reward for each in calls], row_calls),
    }


def _starts(sizes: I64) -> I64:
    """Return where each of some parts begins, if they are laid end to end."""
    return np.asarray(np.cumsum(sizes) - sizes, np.int64)


def _shifted(arrays: Sequence[NDArray[np.int32]], shifts: I64) -> list[NDArray[np.int32]]:
    return [array + shift for array, shift in zip(arrays, shifts.astype(np.int32), strict=True)]


def _sums(values: I64, counts: I64) -> I64:
    """Sum runs of `values`, `counts[i]` of them at a time, at least one.

    >>> _sums(np.array([1, 2, 3]), np.array([2, 1])).tolist()
    [3, 3]
    """
    return np.add.reduceat(values, _starts(counts), dtype=np.int64)


_DTYPES = {pa.from_numpy_dtype(each): each for each in (np.int32, np.uint8, np.float32)}
"""pyarrow's type of a number → NumPy's; its own function needs pandas in old versions."""


def _ragged(values: Sequence[Any], counts: I64, type_: pa.DataType) -> pa.Array:
    offsets = np.append(0, np.cumsum(counts))
    if offsets[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid(f"{offsets[-1]} values in a column, more than 32-bit offsets reach")
    if pa.types.is_string(type_.value_type):
        flat = _texts(values)
    else:
        dtype = _DTYPES[type_.value_type]
        flat = _flat(np.concatenate([np.zeros(0, dtype), *values], dtype=dtype))
    return pa.ListArray.from_arrays(_flat(offsets.astype(np.int32)), flat, type=type_)


def _flat(values: NDArray[Any]) -> pa.Array:
    """Wrap an array without a copy; `pa.array` would import pandas, which takes 0.2 s."""
    type_ = pa.from_numpy_dtype(values.dtype)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [None, buffer])


def _texts(texts: Sequence[str]) -> pa.Array:
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)
