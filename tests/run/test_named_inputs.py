"""Arguments that name inputs, how much of them is packed, and where they are unpacked."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from commanded import Call, write
from runs import chats

import reasonpack.run.named_inputs as named_inputs_module
from reasonpack.errors import StorageError
from reasonpack.run.lock import LOCK, locked
from reasonpack.run.named_inputs import PREFIX, named_inputs, spooled, unpacked
from reasonpack.storage.read import open_bytes


def test_a_directory_is_one_share(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    files, blend = named_inputs([f"{tmp_path}:0.5", str(tmp_path / "a.jsonl")])
    assert [name for _, name in files] == [
        str(tmp_path / each) for each in ("a.jsonl", "b.jsonl", "a.jsonl")
    ]
    assert [(part.files, part.repeat) for part in blend] == [(2, 0.5), (1, 1.0)]
    assert named_inputs([str(tmp_path)])[1] == []


def made(path: Path, lock: str | None = None) -> Path:
    """Make a folder of a run, with what it unpacked."""
    path.mkdir()
    (path / "0").write_text("calls")
    if lock is not None:
        (path / LOCK).write_text(lock)
    return path


def test_a_folder_for_what_is_unpacked_has_to_be_there(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="none: No such file or directory, expected a folder"),
        unpacked(str(tmp_path / "none")),
    ):
        pass


def test_a_folder_is_there_as_long_as_the_run(tmp_path: Path) -> None:
    with unpacked(str(tmp_path)) as folder:
        (folder / "0").write_text("calls")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    """Whether they had locked their folder yet, or removed its lock before the rest of it."""
    at_work, foreign, elsewhere = tmp_path / f"{PREFIX}a", tmp_path / "other", tmp_path / "data"
    link = tmp_path / f"{PREFIX}link"
    for each in (at_work, foreign, elsewhere, tmp_path / f"{PREFIX}b"):
        made(each)
    link.symlink_to(elsewhere)
    made(tmp_path / f"{PREFIX}c", lock='{"host": "here", "pid": 1, "started": ""}')
    made(tmp_path / f"{PREFIX}d", lock="")
    with locked(at_work):
        with unpacked(str(tmp_path)):
            pass
        assert sorted(tmp_path.iterdir()) == sorted([at_work, elsewhere, foreign, link])
        assert [each.name for each in elsewhere.iterdir()] == ["0"]
        assert (at_work / "0").exists()


@pytest.mark.parametrize("holds", [True, False])
def test_a_folder_that_another_run_removes_before_it_is_locked_is_made_again(
    holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`holds`: the other run holds its lock, and is yet to remove it."""
    taken: list[Path] = []

    @contextmanager
    def slow(folder: Path) -> Iterator[None]:
        with ExitStack() as other:
            if not taken:
                taken.append(folder)
                other.enter_context(locked(folder)) if holds else shutil.rmtree(folder)
            with locked(folder):
                yield

    monkeypatch.setattr(named_inputs_module, "locked", slow)
    with unpacked(str(tmp_path)) as folder:
        assert [folder] == [each for each in tmp_path.iterdir() if each not in taken]
        assert (folder / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_another_run_may_lock_a_folder_while_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unpacked(str(tmp_path)) as folder:
        real = os.rmdir

        def late(*args: Any, **fields: Any) -> None:
            (folder / LOCK).write_text("")
            monkeypatch.setattr(os, "rmdir", real)
            real(*args, **fields)

        monkeypatch.setattr(os, "rmdir", late)
    assert list(tmp_path.iterdir()) == [folder]
    with unpacked(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_standard_input_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = io.BytesIO(gzip.compress(b"{}" * 99)[:-9])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(cut))
    with (
        pytest.raises(StorageError, match=r"^stdin: Compressed file ended.*cut off or damaged"),
        spooled([("-", "stdin")], tmp_path) as [(place, _)],
        open_bytes(place, "gzip") as file,
    ):
        file.read()

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO), size)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Broken()))
    said = "^stdin: Input/output error, expected a readable file"
    with pytest.raises(StorageError, match=said), spooled([("-", "stdin")], tmp_path):
        pass


def test_files_of_a_directory_that_are_not_read_are_named(call: Call) -> None:
    write("in/a.jsonl", chats(3))
    write("in/list.json", b"[" + chats(3, seed=1).replace(b"\n", b",")[:-1] + b"]")
    write("in/config.json", b'{"a": 1}')
    write("in/.hidden", b"x")
    for number in range(6):
        write(f"in/note{number}.txt", b"x")
    status, error = call("pack", "in")
    assert status == 0
    assert "6 packed of 6" in error
    named = "config.json, note0.txt, note1.txt, note2.txt, note3.txt and 2 more"
    assert f"in: {named}: not read: names of chat files end in" in error
    assert ".hidden" not in error


def test_an_output_directory_inside_an_input_directory_is_no_input(call: Call) -> None:
    write("a.jsonl", chats(3))
    for _ in range(2):
        status, error = call("pack", ".")
        assert status == 0, error
        assert "3 packed of 3" in error
