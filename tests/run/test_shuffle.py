"""Shuffled rows are all rows, in the order of random keys over all shards, whatever stopped a run.

chats ── pack ──────────▶ rows of each split ── sorted by their keys ──▶ rows ─┐
chats ── pack --shuffle ─────────────────────────────────────────────▶ rows ─┴─ equal
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import OPTIONS, chats, run, tree

from reasonpack.datasets.manifest import Manifest, read_manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError, StorageError, UsageError
from reasonpack.run import shuffle as shuffle_module
from reasonpack.run.buckets import row_keys
from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files, pack_part
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

PLAIN = replace(OPTIONS, max_length=150, on_error="skip", split=("validation=0.3",))
SHUFFLED = replace(PLAIN, shuffle=True, seed=5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(chats(24))
    return path


def rows(dataset: Path, split: str) -> list[tuple[int, str]]:
    """All rows of a split, in order, each with the number of its shard."""
    return [
        (shard.unit, json.dumps(row))
        for shard in read_manifest(dataset).shards
        if shard.split == split
        for batch in read_shard(dataset / shard.path)
        for row in batch.to_pylist()
    ]


def in_order_of_keys(found: list[tuple[int, str]], seed: int, split: str) -> list[str]:
    """What shuffling has to give, the slow way: one sort over all."""
    keyed = []
    for unit in sorted({unit for unit, _ in found}):
        own = [row for at, row in found if at == unit]
        keys = row_keys(seed, split, unit, len(own)).tolist()
        keyed += [(key, unit, row) for key, row in zip(keys, own, strict=True)]
    return [row for _, _, row in sorted(keyed, key=lambda each: each[:2])]


def sums(manifest: Manifest) -> dict[str, int]:
    counted = dict(manifest.counts.flat())
    assert counted["rows"] == sum(shard.rows for shard in manifest.shards)
    return counted


def test_rows_are_in_the_order_of_keys_over_all_shards(source: Path, tmp_path: Path) -> None:
    plain = pack_files([str(source)], tmp_path / "plain", PLAIN, run=run())
    shuffled = pack_files([str(source)], tmp_path / "out", SHUFFLED, run=run())
    assert sums(plain) == sums(shuffled)
    for split in PLAIN.splits:
        before, after = rows(tmp_path / "plain", split), rows(tmp_path / "out", split)
        expected = in_order_of_keys(before, 5, split)
        assert [row for _, row in after] == expected != [row for _, row in before]
        assert len({unit for unit, _ in after}) > 3
    assert not (tmp_path / "out" / "unshuffled").exists()
    findings = verify_dataset(tmp_path / "out", [str(source)])
    assert (findings.listed, findings.unchecked) == ([], {})


@pytest.mark.long
def test_the_bytes_do_not_depend_on_workers_but_on_the_seed(source: Path, tmp_path: Path) -> None:
    for name, options, workers in (
        ("one", SHUFFLED, 1),
        ("two", SHUFFLED, 2),
        ("other", replace(SHUFFLED, seed=6), 1),
    ):
        pack_files([str(source)], tmp_path / name, options, run=run(num_proc=workers))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert rows(tmp_path / "one", "train") != rows(tmp_path / "other", "train")


def test_it_goes_on_in_the_second_stage(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_files([str(source)], tmp_path / "whole", SHUFFLED, run=run())
    packed: list[int] = []

    def third(unit: Any, *arguments: Any, **more: Any) -> Any:
        if unit.number == 3:
            raise StorageError("disk", "full", "room", "free some")
        return whole(unit, *arguments, **more)

    whole = shuffle_module.shuffled_unit
    watch = Watch(on_receipt=lambda receipt: packed.append(receipt.unit.number))
    monkeypatch.setattr(shuffle_module, "shuffled_unit", third)
    with pytest.raises(StorageError):
        pack_files([str(source)], tmp_path / "out", SHUFFLED, run=run(watch=watch))
    units = len(read_manifest(tmp_path / "whole").shards)
    assert (tmp_path / "out" / "unshuffled" / "receipts").exists()
    monkeypatch.undo()
    packed.clear()
    pack_files([str(source)], tmp_path / "out", SHUFFLED, run=run(watch=watch))
    assert packed[0] == 3
    assert len(packed) < units
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    packed.clear()
    pack_files([str(source)], tmp_path / "out", SHUFFLED, run=run(watch=watch))
    assert packed == []


@pytest.mark.long
def test_another_run_does_not_take_its_place_unasked(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack_files([str(source)], out, SHUFFLED, run=run())
    other = replace(SHUFFLED, seed=6)
    with pytest.raises(UsageError, match=r"--seed 5 there, 6 here"):
        pack_files([str(source)], out, other, run=run())
    kept = out / "unshuffled" / "receipts"
    kept.mkdir(parents=True)
    for path in (out / "receipts").iterdir():
        path.rename(kept / path.name)
    with pytest.raises(UsageError, match=r"--seed 5 there, 6 here"):
        pack_files([str(source)], out, other, run=run())
    pack_files([str(source)], out, other, run=run(), overwrite=True)
    assert not kept.exists()


def test_a_part_of_a_run_is_not_shuffled(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--shuffle: a part of a run.*repack DIR --shuffle"):
        pack_part([str(source)], tmp_path / "out", SHUFFLED, index=0, count=2, run=run())


# --- finished datasets -------------------------------------------------------------------


@pytest.mark.long
def test_a_finished_dataset_is_shuffled_as_its_inputs_would_be(
    source: Path, tmp_path: Path
) -> None:
    alone: Options = replace(PLAIN, packing="none")
    pack_files([str(source)], tmp_path / "plain", alone, run=run())
    repack([tmp_path / "plain"], tmp_path / "again", {"shuffle": True, "seed": 5})
    fresh = replace(alone, shuffle=True, seed=5)
    pack_files([str(source)], tmp_path / "fresh", fresh, run=run())
    for name in ("data", "rejects.jsonl"):
        assert tree(tmp_path / "again" / name) == tree(tmp_path / "fresh" / name)
    repack([tmp_path / "again"], tmp_path / "more", {"packing": "best-fit", "format": "arrow"})
    assert read_manifest(tmp_path / "more").options.shuffle
    for name in ("again", "more"):
        assert not verify_dataset(tmp_path / name, [str(source)]).total
    with pytest.raises(FormatError, match=r"unit \d of .*: holds rows of other units, because"):
        repack([tmp_path / "again"], tmp_path / "x", {"max_length": 120})
