"""Rows → a hash of their values.

    column        lengths of its rows          values
    input_ids     i64 little-endian: 7 5 9     i32 little-endian: 17 9 4 …
    sample_id     lists, then texts: 1 1 2     UTF-8
                       └─ SHA-256 ─┘            └─ SHA-256 ─┘
               these, sorted by name  ────────→  SHA-256

The bytes of a Parquet file depend on the version of pyarrow that wrote it, and on row
groups; this hash depends on neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def content_hash(batches: Iterable[pa.RecordBatch]) -> str:
    """Return the SHA-256 of the values in the rows of a shard, in hexadecimal.

    Two shards have the same hash if and only if they have the same columns with the same
    values in the same rows; schema metadata, row groups and encodings do not count.

    >>> table = pa.table({"length": pa.array([1, 2, 3], pa.int32())})
    >>> one, two = table.to_batches(), table.to_batches(max_chunksize=1)
    >>> content_hash(one) == content_hash(two), content_hash(one) == content_hash(one[:0])
    (True, False)
    """
    content = Content()
    for batch in batches:
        content.add(batch)
    return content.hexdigest()


class Content:
    """The hash of a shard whose rows are added batch by batch; see `content_hash`."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the next rows."""
        if not batch.num_rows:
            return  # a shard without rows may be read as one empty batch, or as none
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            while pa.types.is_list(column.type):
                self._add(f"{name} lengths", lengths(column))
                column = flattened(column)  # noqa: PLW2901
            if pa.types.is_string(column.type):
                self._add(f"{name} lengths of text", lengths(column))
                # The bytes between the first offset and the last are those of all texts.
                bounds = offsets(column)
                text = np.frombuffer(column.buffers()[2] or b"", np.uint8)
                self._add(f"{name} text", text[bounds[0] : bounds[-1]])
            else:
                self._add(name, numbers_of(column))

    def _add(self, name: str, values: NDArray[Any]) -> None:
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        self._hashes.setdefault(f"{name} {little.dtype.str}", hashlib.sha256()).update(little)

    def hexdigest(self) -> str:
        """Return the hash of all rows added so far."""
        whole = hashlib.sha256()
        for name, hash_ in sorted(self._hashes.items()):
            whole.update(f"{name} {hash_.hexdigest()}\n".encode())
        return whole.hexdigest()


def offsets(column: pa.Array) -> NDArray[np.int32]:
    """Return the n + 1 offsets of an array of n lists or texts, as a view of its buffer."""
    if not len(column):
        return np.zeros(1, np.int32)
    whole = np.frombuffer(column.buffers()[1], np.int32)
    return whole[column.offset : column.offset + len(column) + 1]


def flattened(column: pa.ListArray) -> pa.Array:
    """Return the elements of all lists, as `flatten`, which would import `compute` (0.1 s)."""
    if column.null_count:
        return column.flatten()
    bounds = offsets(column)
    return column.values.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))


def numbers_of(column: pa.Array) -> NDArray[Any]:
    """Return a NumPy view of an array of numbers; `to_numpy` would import pandas.

    Raises:
        ValueError: there is a null.
    """
    if column.null_count:
        raise ValueError("there is a null")
    floating = pa.types.is_floating(column.type)
    kind = "f" if floating else "u" if pa.types.is_unsigned_integer(column.type) else "i"
    dtype = np.dtype(f"{kind}{column.type.bit_width // 8}")
    if not len(column):
        return np.zeros(0, dtype)
    whole = np.frombuffer(column.buffers()[1], dtype)
    return whole[column.offset : column.offset + len(column)]


def numbers_in(column: pa.ListArray) -> NDArray[np.int64]:
    """Return the numbers in all lists, as `numbers_of` does, as 64-bit integers."""
    return numbers_of(flattened(column)).astype(np.int64)


def lengths(column: pa.Array) -> NDArray[np.int64]:
    """Return the length of each list or text.

    Raises:
        ValueError: there is a null.
    """
    if column.null_count:
        raise ValueError("there is a null")
    return np.diff(offsets(column)).astype(np.int64)


def combined_hash(hashes: Iterable[str]) -> str:
    """Return the content hash of a dataset, given those of its shards in order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
