"""Samples of random views, and their rows put together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from hypothesis import strategies as st

from reasonpack.choices import ShardFormat
from reasonpack.rows import schema as schemas
from reasonpack.rows import shard
from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.sample import Calls, Sample, Segments
from reasonpack.rows.table import row_groups
from tests.changed import replace

FORMATS: tuple[ShardFormat, ...] = get_args(ShardFormat)


@st.composite
def with_columns(draw: st.DrawFn, sample: Sample) -> Sample:
    """Give a sample calls and values for its tokens, or some of them."""
    floats = st.floats(width=32, allow_nan=False)

    def many(values: st.SearchStrategy[float], length: int, dtype: type) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=length, max_size=length)), dtype)

    ids = draw(st.lists(st.text(max_size=3), max_size=3))
    count = len(sample.segments.start)
    calls = Calls(
        ids,
        many(st.integers(0, 2), len(ids), np.uint8),
        many(floats, len(ids), np.float32),
    )
    call = many(st.integers(-1, len(ids) - 1), count, np.int32)
    names = draw(st.sets(st.sampled_from(sorted(FILLS))))
    dtypes = dict.fromkeys(FILLS, np.float32) | {"preference_labels": np.int32}
    extra = {
        name: many(
            floats if dtypes[name] is np.float32 else st.integers(-100, 2**31 - 1),
            sample.length,
            dtypes[name],
        )
        for name in names
    }
    if draw(st.booleans()):
        sample = replace(sample, segments=replace(sample.segments, call=call), calls=calls)
    return replace(sample, extra=extra)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any numbers in arrays that fit together; that they make a forest is the layout's business."""
    length = draw(st.integers(1, 6))
    number = st.integers(0, 2**31 - 1)
    ids = draw(st.lists(number, min_size=length, max_size=length))
    start = [0, *(at for at in range(1, length) if draw(st.booleans()))]
    count, ends = len(start), [*start[1:], length]

    def per_segment(values: st.SearchStrategy[int], dtype: type) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    return Sample(
        id=draw(st.text(max_size=4)),
        input_ids=np.array(ids, np.int32),
        position_ids=np.array(draw(st.permutations(range(length))), np.int32),
        labels=np.array([draw(st.sampled_from([token, -100])) for token in ids], np.int32),
        segments=Segments(
            start=np.array(start, np.int32),
            visible_until=np.array([draw(st.integers(end, length)) for end in ends], np.int32),
            kind=per_segment(st.integers(0, 3), np.uint8),
            message=per_segment(st.integers(-1, 9), np.int32),
        ),
    )


@st.composite
def packings(draw: st.DrawFn, *, optional: bool = False) -> tuple[list[Sample], list[list[int]]]:
    one = samples().flatmap(with_columns) if optional else samples()
    made = draw(st.lists(one, max_size=6))
    rows: list[list[int]] = []
    for index in draw(st.permutations(range(len(made)))):
        if not rows or draw(st.booleans()):
            rows.append([])
        rows[-1].append(index)
    return made, rows


def plain_sample(length: int, *, number: int = 0) -> Sample:
    """Tokens `number` … with one segment."""
    one = np.ones(1, np.int32)
    return Sample(
        id=f"sample {number}",
        input_ids=np.arange(number, number + length, dtype=np.int32),
        position_ids=np.arange(length, dtype=np.int32),
        labels=np.full(length, -100, np.int32),
        segments=Segments(one * 0, one * length, np.zeros(1, np.uint8), one * 0),
    )


def plain_groups(lengths: Sequence[int]) -> list[pa.Table]:
    """A row for each length, in groups."""
    made = [plain_sample(length, number=number) for number, length in enumerate(lengths)]
    return list(row_groups(made, [[index] for index in range(len(made))], schemas.schema()))


def plain_table(lengths: Sequence[int]) -> pa.Table:
    """A row for each length."""
    groups = plain_groups(lengths)
    return pa.concat_tables(groups).combine_chunks() if groups else schemas.schema().empty_table()


def write(
    *groups: pa.Table, path: Path, format_: ShardFormat, compression: str | None = None
) -> bytes:
    schema = groups[0].schema if groups else schemas.schema()
    with path.open("wb") as file:
        shard.write_shard(groups, file, schema, format_=format_, compression=compression)
    return path.read_bytes()


def read_schema(path: Path) -> pa.Schema:
    """The schema as Arrow itself reads it."""
    if path.suffix == ".parquet":
        return pq.read_schema(path)
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        return stream.schema
