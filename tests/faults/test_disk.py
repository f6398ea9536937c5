"""A disk that is full, at any byte: one clear error, nothing half-written, and it goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from runs import SKIPPING, chats, run, tree
from test_kills import in_a_fork

from reasonpack.errors import StorageError
from reasonpack.run.pack import pack_files


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "chats.jsonl"
    path.write_bytes(chats())
    return path


@pytest.mark.parametrize("limit", [0, 1, 700, 3_000, 9_000])
def test_a_file_that_may_not_grow(limit: int, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def action() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            pack_files([str(source)], out, SKIPPING, run=run())
        except StorageError as error:
            told = "File too large, expected to write it. Fix: free some space."
            os._exit(0 if told in str(error) else 3)

    assert in_a_fork(action) == 0
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    assert not (out / "manifest.json").exists()
    pack_files([str(source)], out, SKIPPING, run=run())
    pack_files([str(source)], tmp_path / "other", SKIPPING, run=run())
    assert tree(out) == tree(tmp_path / "other")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("size", ["40k", "80k", "120k"])
def test_a_full_file_system(size: str, source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    options = f"size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=True)
    try:
        with pytest.raises(StorageError, match="No space left on device.*free some space"):
            pack_files([str(source)], small / "out", SKIPPING, run=run())
        assert not [path for path in small.rglob("*") if path.name.endswith(".tmp")]
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        pack_files([str(source)], small / "out", SKIPPING, run=run())
        pack_files([str(source)], tmp_path / "other", SKIPPING, run=run())
        assert tree(small / "out") == tree(tmp_path / "other")
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_may_not_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        pack_files([str(source)], tmp_path / "out", SKIPPING, run=run())
