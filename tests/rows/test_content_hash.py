"""The content hash of a shard: what its docstring says, by an obvious way of computing it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from assets import installed
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FIXTURES, ROOT, SKIPPING, chats, run

from reasonpack.rows.content_hash import content_hash
from reasonpack.run.pack import pack_files


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


OLDEST = "17.0.0"
"""The oldest pyarrow that the package allows."""


@pytest.mark.network
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there is no such old pyarrow for it")
def test_an_older_pyarrow_gives_the_same_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By other bytes: pages and statistics are cut in another way."""
    source, old = tmp_path / "chats.jsonl", tmp_path / "old"
    source.write_bytes(chats())
    monkeypatch.setenv("PIP_CONSTRAINT", "")
    older = installed(f"pyarrow=={OLDEST}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(older), str(ROOT)]))
    command = ["pack", source, "--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip"]
    done = subprocess.run([sys.executable, "-m", "reasonpack", *command, "-o", old], check=False)
    assert done.returncode == 3
    here = pack_files([str(source)], tmp_path / "new", SKIPPING, run=run(unit_bytes=32 << 20))
    there = json.loads((old / "manifest.json").read_text("utf-8"))
    assert there["content_hash"] == here.content_hash
    assert there["shards"][0]["sha256"] != here.shards[0].sha256


def by_hand(rows: list[dict[str, Any]]) -> str:
    """Hash rows value by value."""
    types = {"length": "<i4", "input_ids": "<i4", "segment_kind": "|u1", "sample_id": None}
    hashes: dict[str, Any] = {}

    def add(name: str, type_: str, value: bytes) -> None:
        hashes.setdefault(f"{name} {type_}", hashlib.sha256()).update(value)

    for row in rows:
        for name, value in row.items():
            if name == "length":
                add(name, "<i4", value.to_bytes(4, "little", signed=True))
                continue
            add(f"{name} lengths", "<i8", len(value).to_bytes(8, "little"))
            type_ = types[name]
            if type_:
                add(name, type_, b"")
                size = int(type_[-1])
                for item in value:
                    add(name, type_, item.to_bytes(size, "little", signed=size > 1))
                continue
            add(f"{name} lengths of text", "<i8", b"")
            add(f"{name} text", "|u1", b"")
            for text in value:
                add(f"{name} lengths of text", "<i8", len(text.encode()).to_bytes(8, "little"))
                add(f"{name} text", "|u1", text.encode())
    lines = (f"{name} {hashes[name].hexdigest()}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("length", pa.int32()),
        ("segment_kind", pa.list_(pa.uint8())),
        ("sample_id", pa.list_(pa.string())),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "input_ids": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
            "length": st.integers(0, 2**31 - 1),
            "segment_kind": st.lists(st.integers(0, 255), max_size=3),
            "sample_id": st.lists(st.text(max_size=3), max_size=3),
        }
    ),
    max_size=6,
)


@pytest.mark.long
@settings(max_examples=200)
@given(rows=ROWS, other=ROWS, chunk=st.integers(1, 4))
def test_the_content_hash_is_that_of_the_values(
    rows: list[dict[str, Any]], other: list[dict[str, Any]], chunk: int
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    found = content_hash(table.to_batches(max_chunksize=chunk))
    assert found == by_hand(rows) == content_hash(table.to_batches())
    different = pa.Table.from_pylist(other, SCHEMA)
    assert (content_hash(different.to_batches()) == found) == (rows == other)


def test_the_content_hash_of_slices_and_of_nothing() -> None:
    rows = [
        {"input_ids": [n] * n, "length": n, "segment_kind": [n], "sample_id": ["é" * n, ""]}
        for n in range(9)
    ]
    batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
    assert content_hash([batch.slice(3, 4)]) == by_hand(rows[3:7])
    assert content_hash([batch.slice(0, 0)]) == content_hash([]) == by_hand([])
