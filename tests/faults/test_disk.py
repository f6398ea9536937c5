"""A disk that is full, at any byte: one clear error, nothing half-written, and it goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import SKIPPING, run, tree

from reasonpack.errors import StorageError
from reasonpack.run.pack import pack_files


@pytest.mark.parametrize("limit", [0, 1, 700, 3_000])
def test_a_file_that_may_not_grow(
    limit: int,
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    pack_in_fork: Callable[..., int],
) -> None:
    out = tmp_path / "out"
    assert pack_in_fork(0, source, out, limit) == 4
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    assert not (out / "manifest.json").exists()
    assert pack_in_fork(0, source, out) == 0
    assert tree(out) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("size", ["40k", "80k", "120k"])
def test_a_full_file_system(
    size: str, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    options = f"size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=True)
    try:
        with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
            pack_files([str(source)], small / "out", SKIPPING, run=run())
        assert not [path for path in small.rglob("*") if path.name.endswith(".tmp")]
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        pack_files([str(source)], small / "out", SKIPPING, run=run())
        assert tree(small / "out") == undisturbed
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_may_not_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        pack_files([str(source)], tmp_path / "out", SKIPPING, run=run())
