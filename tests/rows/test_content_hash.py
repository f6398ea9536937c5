"""The content hash of a shard: what its docstring says, by an obvious way of computing it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
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
def test_an_older_pyarrow_gives_the_same_hash(tmp_path: Path) -> None:
    """By other bytes: pages and statistics are cut in another way."""
    source, old = tmp_path / "chats.jsonl", tmp_path / "old"
    source.write_bytes(chats())
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", ROOT, f"pyarrow=={OLDEST}"]
    subprocess.run(install, check=True, env={**os.environ, "PIP_CONSTRAINT": ""})
    command = ["pack", source, "--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip"]
    done = subprocess.run([python, "-m", "reasonpack", *command, "-o", old], check=False)
    assert done.returncode == 3
    here = pack_files([str(source)], tmp_path / "new", SKIPPING, run=run(unit_bytes=32 << 20))
    there = json.loads((old / "manifest.json").read_text("utf-8"))
    assert there["content_hash"] == here.content_hash
    assert there["shards"][0]["sha256"] != here.shards[0].sha256
