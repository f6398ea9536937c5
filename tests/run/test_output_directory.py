"""An output directory is a run's own, and what others left in it stays."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from again import Watching, again
from runs import OPTIONS, SKIPPING, chats, run, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.errors import FormatError, StorageError, UsageError
from reasonpack.run import output_directory
from reasonpack.run.output_directory import claimed
from reasonpack.run.pack import pack_files
from tests.changed import replace


def test_a_stranger_among_the_shards_is_refused(copy: Path) -> None:
    """A reader that goes by file names would take it for a shard."""
    (copy / "data" / "train-00000-of-00099.parquet").write_bytes(b"")
    with pytest.raises(FormatError, match=r"data/train-00000-of-00099\.parquet is no shard"):
        again()


def test_overwrite_begins_anew(copy: Path) -> None:
    (copy / "data" / ".train-00003-of-00012.parquet.77-ab.tmp").write_bytes(b"half")
    (copy / "receipts" / ".00003.json.77-ab.tmp").write_bytes(b"{")
    for name in ("notes.txt", ".notes.tmp", ".plan.json.mine.tmp"):
        (copy / name).write_text("mine")
    options = replace(SKIPPING, format="arrow", compression=None)
    pack_files(["chats.jsonl"], copy, options, overwrite=True, run=run())
    assert {path.suffix for path in copy.glob("data/*")} == {".arrow"}
    assert not list(copy.glob("*/.*"))
    for name in ("notes.txt", ".notes.tmp", ".plan.json.mine.tmp"):
        assert (copy / name).read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [
        "data/stranger.parquet",
        "data/train-00000-of-00012.parquet.bak",
        "data/.train-00000-of-00012.parquet.tmp",
        "data/train-00000-of-00012/notes.txt",
        "receipts/notes.txt",
        "receipts/00000.json.orig",
        "README.md",
    ],
)
def test_overwrite_removes_nothing_where_it_finds_a_file_of_somebody_else_s(
    name: str, copy: Path, tmp_path: Path
) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("mine")
    before = tree(copy)
    stranger = name.removesuffix("/notes.txt") if name.startswith("data/") else name
    with pytest.raises(UsageError, match=rf"^out/{re.escape(stranger)}: reasonpack did not write"):
        again(overwrite=True)
    assert tree(copy) == before


def test_overwrite_that_was_killed_goes_on(copy: Path, done: Path) -> None:
    """The plan goes last, so that what is left is known for a run's."""
    for path in sorted(copy.rglob("*"), reverse=True):
        if path.is_file() and path.name not in {"plan.json", "00003.json"}:
            path.unlink()
    again(overwrite=True)
    assert tree(copy) == tree(done / "out")


def test_overwrite_goes_on_where_no_plan_could_be_made(copy: Path, done: Path) -> None:
    """The run that was there is removed whole: empty directories would count as somebody else's."""
    (copy.parent / "damaged.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError):
        pack_files(["damaged.parquet"], copy, SKIPPING, overwrite=True, run=run())
    assert [*copy.iterdir()] == []
    again(overwrite=True)
    assert tree(copy) == tree(done / "out")


def test_overwrite_removes_the_plan_last(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(output_directory, "remove", lambda place: removed.append(Path(place).name))
    output_directory.clear(copy)
    assert removed[0] == "manifest.json"
    assert removed[-1] == "plan.json"
    assert sorted(removed) == sorted(
        [path.name for path in copy.rglob("*") if path.is_file()]
        + ["manifest.json", "samples.html", "groups.index", "copies.index"]
    )


def test_a_damaged_plan_can_be_overwritten_and_a_plan_of_somebody_else_s_is_left_alone(
    copy: Path, done: Path
) -> None:
    for damage in (b"", (copy / "plan.json").read_bytes()[:200]):
        (copy / "plan.json").write_bytes(damage)
        with pytest.raises(FormatError, match="pack again with --overwrite"):
            again()
        again(overwrite=True)
        assert tree(copy) == tree(done / "out")
    for path in copy.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("plan.json", "manifest.json", "README.md", "rejects.jsonl"):
        (copy / name).write_text('{"terraform_version": "1"}')
    before = tree(copy)
    with pytest.raises(UsageError, match="exists and is not empty"):
        again(overwrite=True)
    with pytest.raises(FormatError):
        again()
    assert tree(copy) == before


def test_a_dataset_without_its_plan_can_be_overwritten(copy: Path, done: Path) -> None:
    (copy / "plan.json").unlink()
    with pytest.raises(UsageError, match="Fix: choose another --output, or pass --overwrite"):
        again()
    again(overwrite=True)
    assert tree(copy) == tree(done / "out")


def test_a_shard_of_a_plan_that_was_given_up_is_no_stranger(copy: Path) -> None:
    """Killed between its first shard and the receipt of it; then begun otherwise."""
    for path in (*copy.glob("receipts/*"), copy / "manifest.json"):
        path.unlink()
    pack_files(["chats.jsonl"], copy, SKIPPING, run=run(unit_bytes=8_000))
    manifest = read_manifest(copy)
    assert {f"data/{path.name}" for path in copy.glob("data/*")} == {
        shard.path for shard in manifest.shards
    }


def test_a_stranger_is_refused_before_anything_is_packed(copy: Path) -> None:
    (copy / "receipts" / "00003.json").unlink()
    (copy / "data" / "train-00000-of-00099.parquet").write_bytes(b"")
    watching = Watching()
    with pytest.raises(FormatError, match="is no shard of this run"):
        pack_files(["chats.jsonl"], copy, SKIPPING, run=watching.run)
    assert watching.packed == []


def test_only_our_temporary_files_are_swept(copy: Path) -> None:
    ours = [
        "data/.train-00003-of-00012.parquet.77-ab01.tmp",
        "receipts/.00003.json.77-ab01.tmp",
        "receipts/.00003.rejects.jsonl.77-ab01.tmp",
        ".manifest.json.77-ab01.tmp",
        ".plan.json.77-ab01.tmp",
    ]
    theirs = [
        "data/.notes.tmp",
        "data/.train-00003-of-00012.parquet.tmp",
        "receipts/.00003.txt.77-ab01.tmp",
        ".notes.txt.77-ab01.tmp",
        ".spool-mine/notes.txt",
    ]
    (copy / ".spool-mine").mkdir()
    for name in ours + theirs:
        (copy / name).write_text("half")
    again()
    assert [name for name in ours if (copy / name).exists()] == []
    assert [name for name in theirs if not (copy / name).exists()] == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_directory_of_somebody_else_s_is_left_alone(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_bytes(chats(2))
    for name in ("notes.txt", "data"):
        out = tmp_path / f"out-{name}"
        (out / name).mkdir(parents=True)
        with pytest.raises(UsageError, match="exists and is not empty"):
            again_in(tmp_path, out, overwrite=overwrite)
        assert [path.name for path in out.iterdir()] == [name]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        again_in(tmp_path, tmp_path / "file", overwrite=overwrite)


def again_in(folder: Path, out: Path, *, overwrite: bool) -> None:
    pack_files([str(folder / "chats.jsonl")], out, OPTIONS, overwrite=overwrite, run=run())


def test_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "chats.jsonl").write_bytes(chats(2))
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"out: Permission denied, expected to write it\. Fix: "):
        again_in(tmp_path, tmp_path / "out", overwrite=False)


def test_an_output_may_be_nested_deeper_than_functions_call_themselves(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    out = tmp_path / "/".join("n" * (sys.getrecursionlimit() + 100))
    try:
        with claimed(out, part="", overwrite=False):
            assert out.is_dir()
    finally:
        for left in out.iterdir():
            left.unlink()
        os.removedirs(out)
