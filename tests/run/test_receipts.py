"""A run that was stopped goes on, and what was altered since is found and packed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from again import again, chdir, cut, flip
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from runs import SKIPPING, run, tree

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt, as_json, sealed
from reasonpack.run import pack as pack_module
from reasonpack.run.pack import pack_files
from reasonpack.run.receipts import check_units
from tests.changed import replace


def test_a_finished_run_is_checked_and_left_as_it_is(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    watching = again()
    assert (watching.packed, watching.notes) == ([], [])
    assert len(watching.kept) == len(list(copy.glob("data/*")))
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before


def test_what_a_stopped_run_did_is_kept(copy: Path, done: Path) -> None:
    for path in (copy / "manifest.json", copy / "README.md", copy / "receipts/00003.json"):
        path.unlink()
    (copy / "data" / ".train-00003-of-00012.parquet.77-ab.tmp").write_bytes(b"half")
    (copy / "receipts" / ".00003.json.77-ab.tmp").write_bytes(b"{")
    (copy / ".manifest.json.77-ab.tmp").write_bytes(b"{")
    (copy / ".spool-x").mkdir()
    (copy / ".spool-x" / "stdin").write_bytes(b"{}")
    watching = again()
    assert (watching.packed, watching.notes) == ([3], [])
    assert tree(copy) == tree(done / "out")


def test_a_run_without_anything_done_goes_on(copy: Path, done: Path) -> None:
    for path in sorted(copy.rglob("*"), reverse=True):
        if path.name != "plan.json":
            path.rmdir() if path.is_dir() else path.unlink()
    assert again().kept == []
    assert tree(copy) == tree(done / "out")


def append(data: bytearray, at: int) -> None:
    data += b"\0"


FILES = ["data/*", "receipts/?????.json", "receipts/*.rejects.jsonl"]


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    pattern=st.sampled_from(FILES),
    which=st.integers(0, 99),
    change=st.sampled_from([flip, cut, append]),
    at=st.integers(0, 10**6),
)
@example(pattern="data/*", which=0, change=cut, at=0)
@example(pattern="receipts/?????.json", which=0, change=cut, at=0)
def test_whatever_was_altered_is_found_and_packed_again(
    done: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pattern: str,
    which: int,
    change: Callable[[bytearray, int], None],
    at: int,
) -> None:
    folder = tmp_path_factory.mktemp("altered")
    shutil.copytree(done, folder, dirs_exist_ok=True)
    out = folder / "out"
    paths = sorted(out.glob(pattern))
    path = paths[which % len(paths)]
    data = bytearray(path.read_bytes())
    change(data, at)
    path.write_bytes(data)
    with chdir(folder):
        watching = again()
    (number,) = watching.packed
    (note,) = watching.notes
    assert f"(unit {number}): its " in note
    assert tree(out) == tree(done / "out")
    shutil.rmtree(folder)


def test_a_name_that_was_changed_in_a_receipt_is_found(copy: Path, done: Path) -> None:
    """That of a value which may be left out, so that what is read is the same."""
    path = copy / "receipts" / "00001.json"
    path.write_text(path.read_text("utf-8").replace("backend_fault", "jackend_fault"), "utf-8")
    assert again().packed == [1]
    assert tree(copy) == tree(done / "out")


def test_a_number_that_was_changed_in_a_receipt_is_found(copy: Path, done: Path) -> None:
    path = copy / "receipts" / "00001.json"
    receipt = json.loads(path.read_bytes())
    receipt["counts"]["trained_tokens"] += 1
    path.write_text(json.dumps(receipt))
    watching = again()
    assert (watching.packed, len(watching.notes)) == ([1], 1)
    assert "its receipt was altered" in watching.notes[0]
    assert tree(copy) == tree(done / "out")


def test_a_receipt_of_another_plan_is_not_kept(copy: Path, done: Path) -> None:
    """A receipt that is whole, but was copied from elsewhere."""
    other = pack_module.read_plan(copy)
    assert other
    pack_files(
        ["chats.jsonl"],
        Path("other"),
        replace(SKIPPING, train_on="last-turn"),
        run=run(),
    )
    for folder in ("data", "receipts"):
        shutil.copytree(Path("other", folder), copy / folder, dirs_exist_ok=True)
    watching = again()
    assert len(watching.packed) == len(other.units)
    assert {note.rpartition(": ")[2] for note in watching.notes} == {
        "its receipt is of another plan; it is packed again"
    }
    assert tree(copy) == tree(done / "out")


def test_a_receipt_of_another_unit_is_not_kept(copy: Path, done: Path) -> None:
    receipts = copy / "receipts"
    shutil.copy(receipts / "00002.json", receipts / "00003.json")
    moved = msgspec.json.decode((receipts / "00005.json").read_bytes(), type=Receipt)
    moved = replace(moved, unit=replace(moved.unit, start=0))
    (receipts / "00005.json").write_text(as_json(sealed(moved)), "utf-8")
    watching = again()
    assert watching.packed == [3, 5]
    assert all("its receipt is of another" in note for note in watching.notes)
    assert tree(copy) == tree(done / "out")


def test_a_unit_may_have_a_shard_for_each_split(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are checked, and names of other splits are of another plan."""
    path = copy / "receipts" / "00002.json"
    receipt = msgspec.json.decode(path.read_bytes(), type=Receipt)
    (train,) = receipt.shards
    name = train.path.replace("train", "validation")
    shutil.copy(copy / train.path, copy / name)
    both = [train, replace(train, path=name)]
    path.write_text(as_json(sealed(replace(receipt, shards=both))), "utf-8")
    plan, whole = pack_module.read_plan(copy), receipt
    assert plan
    unit = plan.units[2]
    assert check_units(copy, plan, [unit]) == ["its receipt is of another plan"]
    monkeypatch.setattr(Options, "splits", ("train", "validation"))
    (kept,) = check_units(copy, plan, [unit])
    assert isinstance(kept, Receipt)
    assert kept.shards == both != whole.shards
    assert [(shard.split, shard.unit) for shard in both] == [("train", 2), ("validation", 2)]
    (copy / name).write_bytes(b"")
    assert check_units(copy, plan, [unit]) == [f"its shard has 0 bytes instead of {train.bytes:,}"]
