"""A run that was stopped goes on; what was altered is found; another run is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from runs import FIXTURES, OPTIONS, SKIPPING, chats, run, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.receipt import Receipt, as_json, sealed
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError, StorageError, UsageError
from reasonpack.records import plan as plan_module
from reasonpack.rows.content_hash import content_hash
from reasonpack.run import lock, output_directory, plan_file
from reasonpack.run import pack as pack_module
from reasonpack.run.engine import Run, Watch
from reasonpack.run.lock import locked
from reasonpack.run.pack import merge_parts, pack_files, pack_part


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an input and the finished dataset of it; not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "chats.jsonl").write_bytes(chats())
    age(folder / "chats.jsonl")
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else _chdir(folder):
        pack_files(["chats.jsonl"], Path("out"), SKIPPING, run=run())
    return folder


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:  # until Python 3.10 is no longer supported
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.fixture
def copy(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `done` to work in."""
    shutil.copytree(done, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("out")


def age(path: Path) -> None:
    """Make a file an hour old, so that its time of writing vouches for it."""
    hour_ago = path.stat().st_mtime - 3600
    os.utime(path, (hour_ago, hour_ago))


class Watching:
    """Records what a run tells."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.packed: list[int] = []
        self.notes: list[str] = []
        watch = Watch(
            on_plan=lambda _, receipts: self.kept.extend(r.unit.number for r in receipts),
            on_receipt=lambda receipt: self.packed.append(receipt.unit.number),
            on_note=self.notes.append,
        )
        self.run: Run = run(watch=watch)


def again(output: Path = Path("out"), **more: Any) -> Watching:
    watching = Watching()
    pack_files(["chats.jsonl"], output, SKIPPING, run=watching.run, **more)
    return watching


# --- what is kept --------------------------------------------------------------------------------


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


def flip(data: bytearray, at: int) -> None:
    data[at % len(data)] ^= 1 << at % 8


def cut(data: bytearray, at: int) -> None:
    del data[at % len(data) :]


def append(data: bytearray, at: int) -> None:
    data += b"\0"


FILES = ["data/*", "receipts/?????.json", "receipts/*.rejects.jsonl"]


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
    with _chdir(folder):
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


@pytest.mark.parametrize("name", ["manifest.json", "rejects.jsonl", "README.md"])
def test_what_is_made_of_receipts_is_made_again(name: str, copy: Path, done: Path) -> None:
    (copy / name).write_bytes(b"{}")
    assert again().packed == []
    assert tree(copy) == tree(done / "out")


def test_a_receipt_of_another_plan_is_not_kept(copy: Path, done: Path) -> None:
    """A receipt that is whole, but was copied from elsewhere."""
    other = pack_module.read_plan(copy)
    assert other
    pack_files(
        ["chats.jsonl"],
        Path("other"),
        dataclasses.replace(SKIPPING, train_on="last-turn"),
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
    moved = dataclasses.replace(moved, unit=dataclasses.replace(moved.unit, start=0))
    (receipts / "00005.json").write_text(as_json(sealed(moved)), "utf-8")
    watching = again()
    assert watching.packed == [3, 5]
    assert all("its receipt is of another" in note for note in watching.notes)
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


def test_a_stranger_among_the_shards_is_refused(copy: Path) -> None:
    """A reader that goes by file names would take it for a shard."""
    (copy / "data" / "train-00000-of-00099.parquet").write_bytes(b"")
    with pytest.raises(FormatError, match=r"data/train-00000-of-00099\.parquet is no shard"):
        again()


# --- what is the same run ------------------------------------------------------------------------


def test_a_copy_of_the_input_is_the_same_input(copy: Path) -> None:
    os.utime("chats.jsonl", (1, 1))
    assert again().packed == []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that plans read, where no file is too young to be vouched for."""
    names: list[str] = []
    planned = plan_module._planned

    def reading(place: Any, name: str, *more: Any) -> Any:
        names.append(Path(name).name)
        return planned(place, name, *more)

    monkeypatch.setattr(plan_module, "_planned", reading)
    monkeypatch.setattr(plan_module, "SETTLED_NS", -(10**9))
    return names


def same_size_and_time(path: Path, replace: Callable[[bytes], None]) -> None:
    status = path.stat()
    replace(path.read_bytes().replace(b"chat 1", b"chat X"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_another_file(path: Path) -> Callable[[bytes], None]:
    def replace(content: bytes) -> None:
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)

    return replace


@pytest.mark.parametrize(
    "alter",
    [
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.write_bytes(path.read_bytes() + b"\n"),
        lambda path: same_size_and_time(path, path.write_bytes),
        lambda path: same_size_and_time(path, by_another_file(path)),
    ],
    ids=["time", "size", "only ctime", "inode"],
)
def test_only_a_file_that_differs_in_stamp_is_read_again(
    alter: Callable[[Path], None], tmp_path: Path, read: list[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed, name in enumerate(("a.jsonl", "b.jsonl", "c.jsonl")):
        (folder / name).write_bytes(chats(6, seed=seed, bad=False))
    pack_files([str(folder)], out, OPTIONS, run=run())
    assert read == ["a.jsonl", "b.jsonl", "c.jsonl"]
    numbers = [unit.number for unit in plan_file.read_plan(out).units]  # type: ignore[union-attr]
    assert numbers == list(range(len(numbers)))
    read.clear()
    pack_files([str(folder)], out, OPTIONS, run=run())
    assert read == []
    alter(folder / "b.jsonl")
    with contextlib.suppress(UsageError):  # where its content differs
        pack_files([str(folder)], out, OPTIONS, run=run())
    assert read == ["b.jsonl"]


def test_a_young_file_s_time_does_not_vouch_for_it(tmp_path: Path) -> None:
    """It may be written again within one tick of the clock, or under a clock that jumps."""
    path = tmp_path / "chats.jsonl"
    for shift in (0, 10**6):
        path.write_bytes(chats(3, bad=False))
        status = path.stat()
        os.utime(path, (status.st_atime + shift, status.st_mtime + shift))
        stamp = path.stat().st_mtime_ns
        out = tmp_path / f"out{shift}"
        pack_files([str(path)], out, OPTIONS, run=run())
        path.write_bytes(path.read_bytes().replace(b"chat 1", b"chat X"))
        os.utime(path, ns=(stamp, stamp))
        with pytest.raises(UsageError, match=r"chats\.jsonl has changed"):
            pack_files([str(path)], out, OPTIONS, run=run())


def edit_input() -> None:
    data = Path("chats.jsonl").read_bytes()
    Path("chats.jsonl").write_bytes(data.replace(b"chat 1", b"chat X"))


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "inputs", "change", "unit_bytes", "expected"),
    [
        (edit_input, ["chats.jsonl"], {}, 4_000, "chats.jsonl has changed"),
        (nothing, ["chats.jsonl", "more"], {}, 4_000, "more is no input there"),
        (nothing, ["more"], {}, 4_000, "chats.jsonl is no input here; more is no input there"),
        (nothing, ["chats.jsonl"], {}, 5_000, "--unit-size 4000 there, 5000 here"),
        (
            nothing,
            ["chats.jsonl"],
            {"train_on": "last-turn", "format": "arrow"},
            4_000,
            "--train-on all there, last-turn here; --format parquet there, arrow here",
        ),
        (nothing, ["chats.jsonl"], {"chat_template": "T"}, 4_000, "another template"),
        (nothing, ["chats.jsonl"], {"tokenizer": "T"}, 4_000, "another tokenizer"),
    ],
)
def test_another_run_is_refused_and_told_apart(
    copy: Path,
    done: Path,
    prepare: Callable[[], None],
    inputs: list[str],
    change: dict[str, str],
    unit_bytes: int,
    expected: str,
) -> None:
    Path("more").write_bytes(chats(2, seed=5))
    if "chat_template" in change:
        change = {"chat_template": str(FIXTURES / "templates" / "kept.jinja")}
    if "tokenizer" in change:
        shutil.copytree(FIXTURES / "tokenizer", "T")
        text = Path("T/tokenizer.json").read_text("utf-8")
        Path("T/tokenizer.json").write_text(text + " ", "utf-8")
    prepare()
    options = dataclasses.replace(SKIPPING, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        pack_files(inputs, copy, options, run=run(unit_bytes=unit_bytes))
    assert f"({expected})" in str(caught.value) or expected in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert tree(copy) == tree(done / "out")


def test_the_order_of_inputs_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(name).write_bytes(chats(2, seed=ord(name)))
    pack_files(["a", "b"], Path("out"), OPTIONS, run=run())
    with pytest.raises(UsageError, match="the inputs are in another order"):
        pack_files(["b", "a"], Path("out"), OPTIONS, run=run())


def test_a_tokenizer_that_was_moved_is_the_same(copy: Path) -> None:
    shutil.copytree(FIXTURES / "tokenizer", "T")
    options = dataclasses.replace(SKIPPING, tokenizer="T")
    watching = Watching()
    pack_files(["chats.jsonl"], copy, options, run=watching.run)
    assert watching.packed == []


@pytest.mark.parametrize("whole", [True, False])
def test_another_version_is_refused(
    copy: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole:
        monkeypatch.setattr(plan_file, "version", lambda _: "99.0")
    else:  # which may not even write its plan in the same way
        plan = json.loads((copy / "plan.json").read_bytes())
        (copy / "plan.json").write_text(json.dumps({**plan, "units": 3, "library_version": "99.0"}))
    with pytest.raises((UsageError, FormatError), match=r"99\.0"):
        again()


@settings(max_examples=60)
@given(at=st.integers(0, 10**6), change=st.sampled_from([flip, cut]))
def test_a_damaged_plan_is_found(
    done: Path, at: int, change: Callable[[bytearray, int], None]
) -> None:
    content = (done / "out" / "plan.json").read_bytes()
    data = bytearray(content)
    change(data, at)
    folder = done / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_bytes(data)
    whole = plan_file.read_plan(done / "out")
    assert whole
    found = None
    with contextlib.suppress(FormatError):
        found = plan_file.read_plan(folder)
    # Only what the hash leaves out may differ: where things are, and when they were written.
    assert found is None or (found.sha256, found.units) == (whole.sha256, whole.units)


def test_overwrite_begins_anew(copy: Path) -> None:
    (copy / "data" / ".train-00003-of-00012.parquet.77-ab.tmp").write_bytes(b"half")
    (copy / "receipts" / ".00003.json.77-ab.tmp").write_bytes(b"{")
    for name in ("notes.txt", ".notes.tmp", ".plan.json.mine.tmp"):
        (copy / name).write_text("mine")
    options = dataclasses.replace(SKIPPING, format="arrow", compression=None)
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


def test_overwrite_removes_the_plan_last(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(output_directory, "remove", lambda place: removed.append(Path(place).name))
    output_directory.clear(copy)
    assert removed[0] == "manifest.json"
    assert removed[-1] == "plan.json"
    assert sorted(removed) == sorted(
        [path.name for path in copy.rglob("*") if path.is_file()] + ["manifest.json"]
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


# --- one at a time -------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_told_who_is_first(copy: Path, done: Path) -> None:
    with locked(copy):
        for attempt in (again, lambda: merge_parts(copy)):
            with pytest.raises(UsageError) as caught:
                attempt()
            assert f"held by process {os.getpid()} on {socket.gethostname()} since" in str(
                caught.value
            )
        with pytest.raises(UsageError, match="held by process"):
            pack_part(["chats.jsonl"], copy, SKIPPING, index=0, count=2, run=run())
    assert tree(copy) == tree(done / "out")


def test_parts_do_not_shut_each_other_out(copy: Path) -> None:
    with locked(copy, "-00000-of-00002"):
        pack_part(["chats.jsonl"], copy, SKIPPING, index=1, count=2, run=run())
        with pytest.raises(UsageError, match="held by process"):
            again()
        with pytest.raises(UsageError, match="held by process"):
            pack_part(["chats.jsonl"], copy, SKIPPING, index=0, count=2, run=run())


def test_a_part_leaves_alone_what_another_is_writing(copy: Path) -> None:
    for number in (2, 3):
        (copy / "data" / f".train-{number:05d}-of-00012.parquet.1-ab.tmp").touch()
    pack_part(["chats.jsonl"], copy, SKIPPING, index=1, count=2, run=run())
    assert [path.name[:12] for path in copy.glob("data/.*.tmp")] == [".train-00002"]


def holder(**change: Any) -> bytes:
    return msgspec.json.encode(dataclasses.replace(lock._me(), **change))


DEAD = 2**22 + 1
"""No process has it: Linux gives numbers up to 2**22."""


@pytest.mark.parametrize("url", [False, True])
def test_the_lock_of_a_dead_process_is_taken_over(url: bool, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(holder(pid=DEAD))
    with locked(tmp_path.as_uri() if url else tmp_path):
        found = json.loads((tmp_path / ".lock").read_bytes())
        assert found["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_where_only_the_file_is_the_lock_another_machine_s_is_respected(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(holder(host="elsewhere", pid=DEAD))
    with pytest.raises(UsageError, match=f"held by process {DEAD} on elsewhere"):
        locked(tmp_path.as_uri()).__enter__()
    (tmp_path / ".lock").write_bytes(holder(pid=os.getppid()))
    with pytest.raises(UsageError, match=f"held by process {os.getppid()} on"):
        locked(tmp_path.as_uri()).__enter__()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path):
        (tmp_path / ".lock").write_bytes(holder(host="elsewhere"))
        with pytest.raises(UsageError, match="on elsewhere"):
            locked(tmp_path).__enter__()


# --- the content hash ----------------------------------------------------------------------------


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
