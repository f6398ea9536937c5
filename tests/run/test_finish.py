"""What stands beside the shards is made of the receipts, and made again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from again import again
from runs import tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.shards import read_shard
from reasonpack.rows.content_hash import content_hash
from reasonpack.run import pack as pack_module


@pytest.mark.parametrize("name", ["manifest.json", "rejects.jsonl", "README.md"])
def test_what_is_made_of_receipts_is_made_again(name: str, copy: Path, done: Path) -> None:
    (copy / name).write_bytes(b"{}")
    assert again().packed == []
    assert tree(copy) == tree(done / "out")


def test_a_manifest_is_taken_away_while_a_unit_is_packed_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def looking(*arguments: Any, **more: Any) -> Any:
        seen.append((copy / "manifest.json").exists())
        return whole(*arguments, **more)

    whole = pack_module.process
    monkeypatch.setattr(pack_module, "process", looking)
    next(copy.glob("data/*")).unlink()
    again()
    assert seen == [False]


def test_the_manifest_holds_the_hash_of_what_is_read_back(copy: Path) -> None:
    manifest = read_manifest(copy)
    for shard in manifest.shards:
        assert content_hash(read_shard(copy / shard.path)) == shard.content_hash
        path = copy / "again.parquet"
        table = pa.Table.from_batches(list(read_shard(copy / shard.path)))
        pq.write_table(table, path, version="1.0", compression="none", row_group_size=3)
        assert path.read_bytes() != (copy / shard.path).read_bytes()
        assert content_hash(pq.ParquetFile(path).iter_batches()) == shard.content_hash
    joined = "\n".join(shard.content_hash for shard in manifest.shards)
    assert manifest.content_hash == hashlib.sha256(joined.encode()).hexdigest()
    assert np.unique([shard.content_hash for shard in manifest.shards]).size == len(manifest.shards)
