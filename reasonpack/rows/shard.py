"""Rows ⇄ shards: the Arrow schema of a training row, written as Parquet or Arrow IPC.

    samples  [s0, s1, s2]      rows  [[0, 2], [1]]
                                       │
    input_ids     s0 s2 │ s1           one Arrow row a training row, ragged
    segment_start  0… +|s0| │ 0…       segments and samples count from the row's start

schemas/FORMAT.md says what every column means and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reasonpack.errors import FormatError
from reasonpack.rows.forest import Sample
from reasonpack.storage import check_regular

__all__ = [
    "COLUMNS",
    "FORMAT_VERSION",
    "METADATA_PREFIX",
    "ShardFormat",
    "read_shard",
    "row_groups",
    "rows_to_table",
    "schema",
    "write_shard",
]

FORMAT_VERSION = "1.0"
"""Major and minor version of the format; a reader refuses a major one it does not know."""
METADATA_PREFIX = "reasonpack."
ShardFormat = Literal["parquet", "arrow"]
ROWS_PER_GROUP = 1_000
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""What an Arrow IPC stream ends in."""
TOKENS_PER_GROUP = 1 << 22


def _list(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_, nullable=False))


COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("input_ids", _list(pa.int32())),
    ("position_ids", _list(pa.int32())),
    ("labels", _list(pa.int32())),
    ("length", pa.int32()),
    ("segment_start", _list(pa.int32())),
    ("segment_visible_until", _list(pa.int32())),
    ("segment_kind", _list(pa.uint8())),
    ("segment_message", _list(pa.int32())),
    ("sample_start", _list(pa.int32())),
    ("sample_id", _list(pa.string())),
)

ENCODINGS = {
    "input_ids.list.element": "BYTE_STREAM_SPLIT",
    "labels.list.element": "BYTE_STREAM_SPLIT",
    "position_ids.list.element": "DELTA_BINARY_PACKED",
    "length": "DELTA_BINARY_PACKED",
    "segment_start.list.element": "DELTA_BINARY_PACKED",
    "segment_visible_until.list.element": "DELTA_BINARY_PACKED",
    "segment_kind.list.element": "PLAIN",
    "segment_message.list.element": "DELTA_BINARY_PACKED",
    "sample_start.list.element": "DELTA_BINARY_PACKED",
    "sample_id.list.element": "DELTA_BYTE_ARRAY",
}
"""Parquet encodings, pinned so that the bytes do not depend on a heuristic.

Measured on 5.6 M tokens of mixed chats with Qwen3's tokenizer, on one core, as bytes a token
and as millions of tokens written a second:

    zstd level           1            3            6
    input_ids    plain   1.17   73    1.08   58    1.01   26    lz4 1.61   93
                 split   1.23   96    1.16   69    1.13   32    lz4 1.52  129
                 delta   2.20   75    2.08   46    2.03   29    dictionary, level 1: 1.26  58
    labels       plain   0.98   77    0.92   61    0.86   29
                 split   1.03  104    0.98   77    0.96   35
    position_ids plain   0.20  188    0.16  180    0.16  119
                 split   0.016 192    0.017 176    0.012 102
                 delta   0.009 129    0.009 128    0.008 122

Byte streams are split for ids since this takes a quarter less time than plain for 5 % more
bytes; the level is 1. The other columns are too small to matter.
"""
ZSTD_LEVEL = 1


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """Return the schema of a shard; nothing in it may be null.

    Args:
        metadata: what is known of the dataset (layout, hashes), without prefix.
    """
    full = {"format_version": FORMAT_VERSION, **(metadata or {})}
    return pa.schema(
        [pa.field(name, type_, nullable=False) for name, type_ in COLUMNS],
        metadata={METADATA_PREFIX + key: value for key, value in full.items()},
    )


def rows_to_table(
    samples: Sequence[Sample], rows: Sequence[Sequence[int]], schema_: pa.Schema
) -> pa.Table:
    """Put samples together to rows.

    Args:
        samples: what was laid out.
        rows: for each row the samples in it; see `reasonpack.rows.packing.pack`.
        schema_: of the shard.

    Returns:
        One Arrow row for each of `rows`; the columns are described in FORMAT.md.
    """
    order = [samples[index] for row in rows for index in row]
    per_row = np.array([len(row) for row in rows], np.int64)
    lengths = np.array([sample.length for sample in order], np.int64)
    starts = np.cumsum(lengths) - lengths
    row_tokens = _sums(lengths, per_row)
    within = starts - np.repeat(np.cumsum(row_tokens) - row_tokens, per_row)

    segments = [sample.segments for sample in order]
    counts = np.array([len(segment.start) for segment in segments], np.int64)
    row_segments = _sums(counts, per_row)
    shift = np.repeat(within, counts)

    def join(arrays: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *arrays])

    start = join([segment.start for segment in segments], np.int32) + shift
    visible = join([segment.visible_until for segment in segments], np.int32) + shift
    flat: dict[str, tuple[NDArray[Any] | pa.Array, NDArray[np.int64]]] = {
        "input_ids": (join([s.input_ids for s in order], np.int32), row_tokens),
        "position_ids": (join([s.position_ids for s in order], np.int32), row_tokens),
        "labels": (join([s.labels for s in order], np.int32), row_tokens),
        "segment_start": (start.astype(np.int32), row_segments),
        "segment_visible_until": (visible.astype(np.int32), row_segments),
        "segment_kind": (join([s.kind for s in segments], np.uint8), row_segments),
        "segment_message": (join([s.message for s in segments], np.int32), row_segments),
        "sample_start": (within.astype(np.int32), per_row),
        "sample_id": (_texts([s.id for s in order]), per_row),
    }
    columns = [
        _flat(row_tokens.astype(np.int32)) if name == "length" else _ragged(*flat[name], type_)
        for name, type_ in COLUMNS
    ]
    return pa.Table.from_arrays(columns, schema=schema_)


def _sums(values: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum runs of `values`, `counts[i]` of them at a time.

    >>> _sums(np.array([1, 2, 3]), np.array([2, 1])).tolist()
    [3, 3]
    """
    total = np.concatenate(([0], np.cumsum(values)))
    stops = np.cumsum(counts)
    return np.asarray(total[stops] - total[stops - counts], np.int64)


def _ragged(
    values: NDArray[Any] | pa.Array, counts: NDArray[np.int64], type_: pa.DataType
) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(counts)))
    if offsets[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid(f"{offsets[-1]} values in a column, more than 32-bit offsets reach")
    flat = _flat(values) if isinstance(values, np.ndarray) else values
    return pa.ListArray.from_arrays(_flat(offsets.astype(np.int32)), flat, type=type_)


def _flat(values: NDArray[Any]) -> pa.Array:
    """Wrap an array without a copy, and without `pa.array`, which imports pandas: 0.2 s."""
    type_ = pa.from_numpy_dtype(values.dtype)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [None, buffer])


def _texts(texts: Sequence[str]) -> pa.Array:
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)


def row_groups(
    samples: Sequence[Sample], rows: Sequence[Sequence[int]], schema_: pa.Schema
) -> Iterator[pa.Table]:
    """Put samples together to rows, a group at a time: 1,000 rows or about four million tokens.

    A reader can then shuffle and stream, and nobody holds all rows beside the samples. The
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


def write_shard(
    groups: Iterable[pa.Table],
    sink: Any,
    schema_: pa.Schema,
    *,
    format_: ShardFormat,
    compression: str | None,
) -> None:
    """Write a shard to an open binary file.

    Args:
        groups: rows, as from `row_groups`; each becomes a row group of a Parquet file, or a record
            batch of a stream.
        sink: an open binary file.
        schema_: of the groups.
        format_: Parquet file, or Arrow IPC stream.
        compression: `zstd`, `lz4`, … or None.
    """
    if format_ == "arrow":
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, schema_, options=options) as stream:
            for group in groups:
                stream.write_table(group)
        return
    with pq.ParquetWriter(
        sink,
        schema_,
        compression=compression or "none",
        compression_level=ZSTD_LEVEL if compression == "zstd" else None,
        use_dictionary=False,
        column_encoding=ENCODINGS,
        write_statistics=False,
        version="2.6",
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))


def read_shard(path: Path) -> Iterator[pa.RecordBatch]:
    """Read a shard batch by batch, a row group at a time.

    Raises:
        FormatError: not a shard of a format version known here, or damaged.
    """
    try:
        check_regular(path)
        for batch in _stream(path) if path.suffix == ".arrow" else _row_groups(path):
            # A damaged offset would take whoever looks at the batch out of its memory.
            batch.validate(full=True)
            yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: {error}, expected a whole shard. Fix: pack again with --overwrite."
        ) from error


def _stream(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        # Arrow takes a stream that was cut between two batches for a whole one.
        size = source.size()
        if size < len(END_OF_STREAM) or source.read_at(8, size - 8) != END_OF_STREAM:
            raise pa.ArrowInvalid("the stream has no end mark")
        with pa.ipc.open_stream(source) as stream:
            check_version(stream.schema, str(path))
            yield from stream


def _row_groups(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        check_version(file.schema_arrow, str(path))
        for group in range(file.num_row_groups):
            yield from file.iter_batches(row_groups=[group])


def check_version(schema_: pa.Schema, where: str) -> None:
    """Refuse a shard of an unknown major format version, or without the columns of this one.

    Raises:
        FormatError: no version, or another major one; a column is missing or of another type.
    """
    metadata = schema_.metadata or {}
    version = metadata.get((METADATA_PREFIX + "format_version").encode(), b"").decode()
    check_format_version(version, where)
    for name, type_ in COLUMNS:
        index = schema_.get_field_index(name)
        found = schema_.field(index).type if index >= 0 else None
        if found != type_ and not (pa.types.is_list(type_) and _is_list_of(found, type_)):
            raise FormatError(
                f"{where}: {name} is {found or 'missing'}, expected {type_}. "
                "Fix: pack again with --overwrite."
            )


def _is_list_of(found: pa.DataType | None, type_: pa.DataType) -> bool:
    """Tell whether a type is that of a list, whatever its elements are called."""
    return found is not None and pa.types.is_list(found) and found.value_type == type_.value_type


def check_format_version(version: object, where: str) -> None:
    """Refuse an unknown major format version.

    >>> check_format_version("1.7", "shard")
    >>> check_format_version("2.0", "shard")
    Traceback (most recent call last):
    reasonpack.errors.FormatError: shard: format version '2.0', expected 1.x. Fix: use another \
version of reasonpack.
    """
    major = FORMAT_VERSION.partition(".")[0]
    if not isinstance(version, str) or version.partition(".")[0] != major:
        raise FormatError(
            f"{where}: format version {version!r}, expected {major}.x. "
            "Fix: use another version of reasonpack."
        )
