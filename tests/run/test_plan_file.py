"""What is the same run as the one that was planned, and how another is told apart."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from again import Watching, again, cut, flip
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FIXTURES, OPTIONS, SKIPPING, chats, run, tree

from reasonpack.errors import FormatError, UsageError
from reasonpack.records import plan as plan_module
from reasonpack.run import plan_file
from reasonpack.run.pack import pack_files
from tests.changed import replace


def test_a_copy_of_the_input_is_the_same_input(copy: Path) -> None:
    os.utime("chats.jsonl", (1, 1))
    assert again().packed == []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that plans read, where no file is too young to be vouched for."""
    names: list[str] = []
    planned = plan_module._planned

    def reading(place: Any, name: str, *more: Any, **also: Any) -> Any:
        names.append(Path(name).name)
        return planned(place, name, *more, **also)

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
        (
            nothing,
            ["chats.jsonl"],
            {"role": ("Bot=assistant",), "train_empty_think": True},
            4_000,
            "--train-empty-think off there, on here; --role none there, Bot=assistant here",
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
    options = replace(SKIPPING, **change)  # type: ignore[arg-type]
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
    options = replace(SKIPPING, tokenizer="T")
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
