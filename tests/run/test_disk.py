"""What a full disk is said to need; tests/faults/test_disk.py fills real ones."""

from __future__ import annotations

from pathlib import Path

from runs import OPTIONS

from reasonpack.errors import DiskFullError
from reasonpack.records.unit import Unit
from reasonpack.run.disk import disk_advice, when_full
from tests.changed import replace

UNITS = [Unit(at, 0, "a.jsonl", "plain", 0, 10, 1, 4_000_000) for at in range(4)]


def said(where: Path | str, output: Path, *, shuffle: bool = False) -> str:
    full = DiskFullError(where, "No space left on device", "to write it", "free some space")
    options = replace(OPTIONS, shuffle=shuffle)
    return when_full(full, output, options, UNITS).fix


def written(home: Path, *units: int) -> None:
    for name in ("data", "receipts"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for unit in units:
        (home / "data" / f"train-{unit:05d}-of-00004.arrow").write_bytes(b"x" * 1_000_000)
        (home / "receipts" / f"{unit:05d}.json").write_text("{}")


def test_what_is_needed_goes_by_what_is_done(tmp_path: Path) -> None:
    shard = tmp_path / "data" / "x"
    assert said(shard, tmp_path).startswith("free about 19.2 MB on the disk of")
    written(tmp_path, 0, 2)
    found = said(shard, tmp_path)
    assert found.startswith("free about 2.0 MB on the disk of")
    assert "(2.0 MB of 2 of 4 units, which have to stay)" in found


def test_rows_that_are_to_be_shuffled_are_written_twice(tmp_path: Path) -> None:
    written(tmp_path / "unshuffled", 0, 1, 3)
    found = said(tmp_path / "data" / "x", tmp_path, shuffle=True)
    assert found.startswith("free about 20.2 MB on the disk of")
    assert "(3.0 MB of 3 of 4 units in unshuffled, which have to stay)" in found


def test_another_disk_is_named_where_that_is_full(tmp_path: Path) -> None:
    assert said("/elsewhere/x", tmp_path).endswith("on another disk, by TMPDIR or --temp-dir")
    assert said("s3://a/x", "s3://a").endswith("by TMPDIR or --temp-dir")  # type: ignore[arg-type]


def test_a_run_says_at_once_what_it_may_take(tmp_path: Path) -> None:
    assert disk_advice(tmp_path, OPTIONS, UNITS) is None
    huge = [replace(UNITS[0], input_bytes=1 << 60)]
    advice = disk_advice(tmp_path, OPTIONS, huge)
    assert advice is not None
    assert "the shards may take about 1,383,505,805,528.2 MB" in advice
