"""A published file is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from encoded import encoded_view, lay_out

from reasonpack.choices import ShardFormat
from reasonpack.errors import StorageError
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import rows_to_table
from reasonpack.storage.publish import publish, publish_text

PUBLISH = importlib.import_module("reasonpack.storage.publish")
TEMPORARY = ".name.parquet.1-ab.tmp"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PUBLISH, "_token", lambda: "1-ab")
    return tmp_path / "name.parquet"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_publish_writes_counts_and_hashes(target: Path) -> None:
    with publish(target) as file:
        assert [file.write(part) for part in (b"ab", memoryview(b"cde"), b"")] == [2, 3, 0]
        assert file.write(np.array([1, 2], np.int32)) == 8
    content = b"abcde" + np.array([1, 2], np.int32).tobytes()
    assert target.read_bytes() == content
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_nothing_has_the_final_name_before_the_end(target: Path) -> None:
    with publish(target) as file:
        file.write(b"x")
        (temporary,) = names(target.parent)
        assert temporary == TEMPORARY
        assert not temporary.endswith(".parquet")
    assert names(target.parent) == ["name.parquet"]


def test_what_is_written_is_on_disk_before_it_has_its_name(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int | None]] = []  # what is there, and the size of what is synchronised
    sync = os.fsync

    def recording(descriptor: int) -> None:
        status = os.fstat(descriptor)
        (name,) = names(target.parent)
        calls.append((name, None if stat.S_ISDIR(status.st_mode) else status.st_size))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    with publish(target) as file:
        file.write(b"12345")
    assert calls == [(TEMPORARY, 5), ("name.parquet", None)]


def publish_then_raise(target: Path, error: BaseException) -> None:
    with publish(target) as file:
        file.write(b"x" * 1_000_000)
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("before", [None, b"the old content"])
def test_an_exception_leaves_what_was_there(
    target: Path, error: BaseException, before: bytes | None
) -> None:
    if before is not None:
        target.write_bytes(before)
    with pytest.raises(type(error)) as caught:
        publish_then_raise(target, error)
    assert caught.value is error
    assert names(target.parent) == ([] if before is None else ["name.parquet"])
    assert before is None or target.read_bytes() == before


def test_a_file_is_replaced(target: Path) -> None:
    target.write_bytes(b"the old content")
    (target.parent / TEMPORARY).write_bytes(b"left behind by a run that was killed")
    publish_text(target, "né")
    assert target.read_bytes() == b"n\xc3\xa9"
    assert names(target.parent) == ["name.parquet"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no such files here")
@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_an_open_file_is_written_through_its_number(folder: str, tmp_path: Path) -> None:
    """As /dev/stdout is, where a shell sends it to a file: the link was replaced by a file."""
    with (tmp_path / "page.html").open("wb") as file:
        publish_text(Path(folder, str(file.fileno())), "whole")
    assert (tmp_path / "page.html").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_device_or_a_pipe_stays_one(target: Path, *, linked: bool) -> None:
    os.mkfifo(target)
    asked = target.with_name("link") if linked else target
    if linked:
        asked.symlink_to(target)
    there = names(target.parent)
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    publish_text(asked, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(target.stat().st_mode)
    assert names(target.parent) == there


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk(target: Path, size: int) -> None:
    """Linux has a device that is always full: a small write fails when flushed, a large at once."""
    (target.parent / TEMPORARY).symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device") as caught:
        publish_text(target, "x" * size)
    assert str(caught.value).startswith(f"{target}: ")
    assert str(caught.value).endswith("and repeat the command: what is done is kept.")
    assert names(target.parent) == []


class Filling:
    """A file on a disk with so many bytes left."""

    def __init__(self, file: Any, *, left: int) -> None:
        self.file = file
        self.left = left

    def write(self, data: memoryview) -> int:
        self.left -= data.nbytes
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))


def one_sample(length: int, number: int) -> Sample:
    tokens = np.random.default_rng(number).integers(0, 1 << 17, length, np.int32)
    return lay_out(str(number), [encoded_view(tokens.tolist(), [])]).samples[0]


def publish_filling(target: Path, table: pa.Table, *, format_: ShardFormat, left: int) -> None:
    with publish(target) as file:
        filling: Any = Filling(file.file, left=left)
        file.file = filling
        write_shard([table], file, table.schema, format_=format_, compression=None)


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.parametrize("left", [0, 3, 500, 100_000])
def test_a_disk_that_fills_up_under_arrow(target: Path, format_: ShardFormat, left: int) -> None:
    """The error comes through Arrow's writers with its number."""
    samples = [one_sample(5_000, number) for number in range(20)]
    table = rows_to_table(samples, [[index] for index in range(20)], schema())
    with pytest.raises(StorageError, match="No space left on device"):
        publish_filling(target, table, format_=format_, left=left)
    assert names(target.parent) == []


def make_directory(target: Path) -> None:
    target.mkdir()


def make_temporary_directory(target: Path) -> None:
    (target.parent / TEMPORARY).mkdir()


@pytest.mark.parametrize("obstacle", [make_directory, make_temporary_directory])
def test_a_name_that_is_taken(target: Path, obstacle: Callable[[Path], None]) -> None:
    obstacle(target)
    before = names(target.parent)
    with pytest.raises(StorageError, match="directory") as caught:
        publish_text(target, "x")
    assert str(caught.value).startswith(f"{target}: ")
    assert names(target.parent) == before


def test_the_current_directory_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="directory"):
        publish_text(Path(), "x")
    assert names(tmp_path) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        publish_text(tmp_path / "missing" / "name", "x")
    assert names(tmp_path) == []


def test_no_permission(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match=r"Permission denied.*check the directory"):
        publish_text(target, "x")
    assert names(target.parent) == []


class Broken(Exception):  # noqa: N818 (what happens)
    pass


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a file system of fsspec's that shows files while they are written, and may break off."""
    fsspec: Any = pytest.importorskip("fsspec")
    memory: Any = pytest.importorskip("fsspec.implementations.memory")

    class Growing(memory.MemoryFileSystem):  # type: ignore[misc]
        protocol, store, pseudo_dirs, breaks, seen = "growing", {}, [""], False, []

        def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
            whole = Path(lpath).read_bytes()
            with self.open(rpath, "wb") as file:  # which publishes when it is left, however it is
                file.write(whole[: len(whole) // 2])
                self.seen.append(rpath)
                if Growing.breaks:
                    raise Broken
                file.write(whole[len(whole) // 2 :])

    fsspec.register_implementation("growing", Growing, clobber=True)
    return Growing


def test_a_server_that_shows_half_a_file_shows_it_under_another_name(growing: Any) -> None:
    url = "growing://data/train.parquet"
    publish_text(url, "the old content")
    publish_text(url, "the content")
    assert list(growing.store) == [url]
    growing.breaks = True
    with pytest.raises(Broken):
        publish_text(url, "another content")
    assert {path: file.getvalue() for path, file in growing.store.items()} == {url: b"the content"}
    assert all(
        re.fullmatch(r"growing://data/\.train\.parquet\.[^/]*\.tmp", path) for path in growing.seen
    )


def test_what_killed_uploads_left_is_removed_a_day_later(
    growing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (".reasonpack.1-ab.tmp", ".reasonpack.2-ab.tmp", ".another.1-ab.tmp"):
        (tmp_path / name).touch()
        if "1-ab" in name:
            os.utime(tmp_path / name, (0, 0))
    PUBLISH._sweep.cache_clear()
    publish_text("growing://data/train.parquet", "x")
    assert names(tmp_path) == [".another.1-ab.tmp", ".reasonpack.2-ab.tmp"]


def test_the_disk_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a URL that is the one of temporary files."""
    pytest.importorskip("fsspec")
    monkeypatch.setattr(PUBLISH, "_temporary_for", lambda _: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(StorageError, match=r"^/dev/full: No space left on device, .* free some"):
        publish_text("memory://out/name", "x")
