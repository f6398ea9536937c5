"""The content hash of a shard: what its docstring says, by an obvious way of computing it."""

from __future__ import annotations

import hashlib
import struct

import pyarrow as pa
import pytest

from reasonpack.run.content import content_hash


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("type_", "code", "dtype", "values"),
    [
        (pa.int32(), "i", "<i4", [1, -100, 3, 2**31 - 1]),
        (pa.uint8(), "B", "|u1", [0, 3, 255, 7]),
        (pa.float32(), "f", "<f4", [0.5, 1.0, 0.25, 2.0]),
        (pa.int64(), "q", "<i8", [1, -1, 2**40, 0]),
    ],
)
def test_hash_is_that_of_lengths_and_values_in_little_endian(
    type_: pa.DataType, code: str, dtype: str, values: list[float]
) -> None:
    column = pa.array([values[:3], [], values[3:]], pa.list_(type_))
    lengths = struct.pack("<3q", 3, 0, 1)
    numbers = struct.pack(f"<4{code}", *values)
    lines = sorted([f"x {dtype} {sha(numbers)}\n", f"x lengths <i8 {sha(lengths)}\n"])
    assert content_hash(pa.table({"x": column}).to_batches()) == sha("".join(lines).encode())
