"""A unit may have a shard for each split: all of them are checked, and none is read for another."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from damages import Damage, read, rejson, remove, write
from packed_twice import Packed, copied, pack_two

from reasonpack.datasets.manifest import read_manifest
from reasonpack.rows.content_hash import combined_hash, content_hash

TRAIN, VALIDATION = (f"data/{split}-00000-of-00002.parquet" for split in ("train", "validation"))


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Three rows of each of two units."""
    return pack_two(tmp_path_factory.mktemp("unsplit"), packing=False)


@pytest.fixture
def split(unsplit: Packed, tmp_path: Path) -> Packed:
    """The same, of whose first unit the last row is for validation."""
    packed = copied(unsplit, tmp_path)
    table = read(packed.directory / TRAIN)
    rows = table.to_pylist()
    shards = []
    for path, part in ((TRAIN, rows[:-1]), (VALIDATION, rows[-1:])):
        own = pa.Table.from_pylist(part, schema=table.schema)
        write(packed.directory / path, own)
        content = (packed.directory / path).read_bytes()
        shards.append(
            {
                "path": path,
                "rows": len(part),
                "tokens": sum(row["length"] for row in part),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "content_hash": content_hash(own.to_batches()),
            }
        )
    manifest = packed.json("manifest.json")
    whole = [*shards, *manifest["shards"][1:]]
    hashes = combined_hash(shard["content_hash"] for shard in whole)
    packed.write("manifest.json", {**manifest, "shards": whole, "content_hash": hashes})
    rejson("receipts/00000.json", lambda receipt: receipt.update(shards=shards))(packed)
    card = packed.directory / "README.md"
    named = "  - split: train\n    path: data/train-*.parquet\n"
    assert named in card.read_text()
    card.write_text(card.read_text().replace(named, named + named.replace("train", "validation")))
    return packed


def test_both_shards_of_a_unit_are_checked(split: Packed, unsplit: Packed) -> None:
    findings = split.verify()
    assert (findings.total, findings.warnings) == (0, [])
    assert findings.checked == {**unsplit.verify().checked, "shards": 3}
    assert split.compare().total == 0
    assert [shard.split for shard in read_manifest(split.directory).shards] == [
        "train",
        "validation",
        "train",
    ]


def unnamed(packed: Packed) -> None:
    card = packed.directory / "README.md"
    card.write_text(card.read_text().replace("data/validation-*", "data/nothing-*"))


def mixed(packed: Packed) -> None:
    card = packed.directory / "README.md"
    card.write_text(card.read_text().replace("data/train-*", "data/*"))


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("RP021", unnamed),
        ("RP021", mixed),
        ("RP004", remove(VALIDATION)),
        ("RP012", rejson("receipts/00000.json", lambda receipt: receipt["shards"].pop())),
        ("RP012", rejson("receipts/00000.json", lambda receipt: receipt["shards"].reverse())),
        ("RP013", rejson("receipts/00000.json", lambda r: r["counts"].update(rows=2))),
    ],
)
def test_one_damage_one_code(split: Packed, code: str, damage: Damage) -> None:
    damage(split)
    counts = split.verify().counts
    assert code in counts
    assert set(counts) <= {code, "RP014"}
