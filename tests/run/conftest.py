"""Inputs of runs, and what a run makes of them undisturbed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from again import age, chdir
from repacked import CHATS, write
from runs import SKIPPING, chats, run, tree

from reasonpack.run.pack import pack_files


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an input and the finished dataset of it; not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "chats.jsonl").write_bytes(chats())
    age(folder / "chats.jsonl")
    with chdir(folder):
        pack_files(["chats.jsonl"], Path("out"), SKIPPING, run=run())
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `done` to work in."""
    shutil.copytree(done, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("out")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(chats())
    return path


@pytest.fixture
def expected(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What one process writes for `source`."""
    pack_files([str(source)], tmp_path / "expected", SKIPPING, run=run())
    found = tree(tmp_path / "expected")
    assert len([name for name in found if name.startswith("data/")]) > 5
    assert len(found["rejects.jsonl"].splitlines()) == 4
    return found


@pytest.fixture
def with_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory with a file of chats."""
    monkeypatch.chdir(tmp_path)
    write(CHATS)
