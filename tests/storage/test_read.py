"""What an input is, told by its content; what cannot be read says so."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from reasonpack.errors import StorageError, UsageError
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.read import Container, container, open_bytes

SKIPPED = b"\x50\x2a\x4d\x18\4\0\0\0abcd"
"""A frame with nothing of the content, with which pzstd begins."""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "plain"),
        (b"\x1f", "plain"),
        (b'{"messages": []}\n', "plain"),
        (b"\xef\xbb\xbf{}\n", "plain"),
        (gzip.compress(b"{}\n", mtime=0), "gzip"),
        (pa.Codec("zstd").compress(b"{}\n", asbytes=True), "zstd"),
        (SKIPPED + pa.Codec("zstd").compress(b"{}\n", asbytes=True), "zstd"),
    ],
)
def test_the_container_is_told_by_content(tmp_path: Path, content: bytes, kind: Container) -> None:
    path = tmp_path / "whatever.parquet"
    path.write_bytes(content)
    assert container(path) == kind


def test_zstd_streams_with_frames_to_skip_and_those_that_take_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(2 * (SKIPPED + pa.Codec("zstd").compress(b"{}\n", asbytes=True)))
    with open_bytes(path, "zstd") as file:
        assert file.read() == b"{}\n{}\n"
    path.write_bytes(b"\x28\xb5\x2f\xfd\0\xa8\x19\0\0{}\n")  # it asks for a window of 2 GiB
    said = f"Fix: unpack it with zstd -d --long=31 {path}"
    with pytest.raises(StorageError, match=said), open_bytes(path, "zstd") as file:
        file.read()


def test_parquet_is_told_by_content(tmp_path: Path) -> None:
    pq.write_table(pa.table({"messages": [1]}), tmp_path / "whatever.jsonl")
    assert container(tmp_path / "whatever.jsonl") == "parquet"


def test_an_input_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Is a directory"):
        container(tmp_path)
    for kind in ("plain", "gzip"):
        with pytest.raises(StorageError) as caught, open_bytes(tmp_path / "missing", kind):
            pass
        assert str(caught.value).startswith(f"{tmp_path / 'missing'}: ")


def test_an_input_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "secret.jsonl").touch()
    monkeypatch.setattr(Path, "open", refuse)
    for read in (container, lambda path: open_bytes(path, "plain").__enter__()):
        with pytest.raises(StorageError, match=r"Permission denied.*check the file and its perm"):
            read(tmp_path / "secret.jsonl")


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    """It can be read once only, and an input is read three times; with no writer it would hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe"):
        expand_inputs([str(tmp_path / "pipe")])
