"""A disk that is full, at any byte: one clear error, nothing half-written, and it goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import FIXTURES, ROOT, SKIPPING, UNIT_BYTES, run, tree

from reasonpack.errors import DiskFullError, StorageError
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


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("size", ["40k", "80k", "120k"])
@pytest.mark.parametrize("name", [lambda path: path, Path.as_uri], ids=["path", "url"])
def test_a_full_file_system(
    size: str,
    name: Callable[[Path], Path | str],
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    options, out = f"size={size}", name(small / "out")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=True)
    try:
        with pytest.raises(DiskFullError) as refused:
            pack_files([str(source)], out, SKIPPING, run=run())
        assert tree(small / "out").items() <= undisturbed.items()
        if isinstance(out, Path):
            _check_need(str(refused.value), out, undisturbed)
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        pack_files([str(source)], out, SKIPPING, run=run())
        assert tree(small / "out") == undisturbed
    finally:
        subprocess.run(["umount", small], check=True)


def _check_need(said: str, out: Path, undisturbed: dict[str, bytes]) -> None:
    """Check what a full disk is said to need and to keep, by what is there and what was to be."""
    found = re.search(r"about ([\d.]+) MB on the disk of .*, where [\d,]+ bytes are left", said)
    assert found, said
    sizes = {name: len(content) for name, content in undisturbed.items() if "-of-" in name}
    done = {path.stem for path in out.glob("receipts/?????.json")}
    kept = sum(size for name, size in sizes.items() if name.split("-")[1] in done)
    assert float(found[1]) == pytest.approx((sum(sizes.values()) - kept) / 1e6, rel=0.5, abs=0.06)
    kept_said = f"({kept / 1e6:,.1f} MB of {len(done)} of {len(sizes)} units, which have to stay)"
    assert (kept_said in said) == bool(done), said


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_file_system_that_becomes_read_only(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", folder], check=True)
    remount = ["mount", "-o", "remount,{}", str(folder)]

    def make(mode: str) -> None:
        subprocess.run([part.format(mode) for part in remount], check=True)

    refused = pytest.raises(StorageError, match=r"^[^\n]*out[^\n]*: Read-only file system, [^\n]*$")
    try:
        make("ro")
        with refused:
            pack_files([str(source)], folder / "out", SKIPPING, run=run())
        make("rw")
        pack_files([str(source)], folder / "out", SKIPPING, run=run())
        for name in ("manifest.json", "receipts/00003.json"):
            (folder / "out" / name).unlink()
        make("ro")
        with refused:
            pack_files([str(source)], folder / "out", SKIPPING, run=run())
        make("rw")
        pack_files([str(source)], folder / "out", SKIPPING, run=run())
        assert tree(folder / "out") == undisturbed
    finally:
        subprocess.run(["umount", folder], check=True)


WITHOUT_POWERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
"""To root too, what is forbidden is forbidden then."""


def pack_as_anybody(source: Path, out: Path) -> tuple[int, str]:
    powers = WITHOUT_POWERS if os.geteuid() == 0 else []
    options = ["--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip", "--num-proc", "2"]
    command = [sys.executable, "-m", "reasonpack", "pack", source, "-o", out, *options]
    done = subprocess.run(
        [*powers, *map(str, command), "--unit-size", str(UNIT_BYTES)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
@pytest.mark.parametrize(
    ("path", "mode", "fix"),
    [
        ("in/chats.jsonl", 0o000, "check the file and its permissions."),
        ("in", 0o000, "check the file and its permissions."),
        ("in", 0o400, "check the file and its permissions."),
        ("in/below", 0o000, "check the file and its permissions."),
        ("out", 0o500, "check the directory and its permissions."),
        ("out/data", 0o500, "check the directory and its permissions."),
        ("out/receipts", 0o500, "check the directory and its permissions."),
        ("out/receipts/00003.json", 0o000, "check the file and its permissions."),
    ],
)
def test_what_is_forbidden(
    path: str,
    mode: int,
    fix: str,
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
) -> None:
    (tmp_path / "in" / "below").mkdir(parents=True)
    shutil.copy(source, tmp_path / "in")
    out = tmp_path / "out"
    if path != "out":
        pack_files([str(tmp_path / "in")], out, SKIPPING, run=run())
        for old in (*out.glob("data/*"), out / "manifest.json"):
            old.unlink()
    else:
        out.mkdir()
    before = (tmp_path / path).stat().st_mode
    (tmp_path / path).chmod(mode)
    status, said = pack_as_anybody(tmp_path / "in", out)
    (tmp_path / path).chmod(before)
    assert status == 1, said
    line = said.splitlines()[-1]
    assert "Traceback" not in said
    assert f"{tmp_path / path}" in line
    assert "Permission denied" in line
    assert f"Fix: {fix}" in line
    pack_files([str(tmp_path / "in")], out, SKIPPING, run=run())
    shards = {name: data for name, data in undisturbed.items() if name.startswith("data/")}
    assert {name: data for name, data in tree(out).items() if name in shards} == shards
