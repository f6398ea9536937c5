"""Paths in, paths out: input files as lines or rows, and files that appear whole or not at all.

chats.jsonl.gz ── open_lines ──→ bytes lines
content ── publish ──→ .name.tmp → fsync → rename → name
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa

from reasonpack.errors import StorageError, UsageError

__all__ = [
    "Container",
    "HashingFile",
    "container",
    "expand_inputs",
    "open_bytes",
    "publish",
    "publish_text",
]

Container = Literal["plain", "gzip", "zstd", "parquet"]
SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""What is taken from a directory that is given as input."""
_MAGIC: dict[bytes, Container] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "parquet",
}


def expand_inputs(paths: list[str]) -> list[Path]:
    """List the files that the input arguments name; directories give their chat files.

    Raises:
        UsageError: a path that does not exist, or a directory without any chat file.
    """
    files: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found = sorted(
                entry
                for entry in path.rglob("*")
                if entry.name.endswith(SUFFIXES) and entry.is_file()
            )
            if not found:
                raise UsageError(
                    f"{text}: no chat file in this directory, expected {', '.join(SUFFIXES)}. "
                    "Fix: name the files."
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(
                f"{text}: no such file, expected a file of chats. Fix: check the spelling."
            )
    return files


def container(path: Path) -> Container:
    """Tell how a file is packed, by its first bytes.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise unreadable(path, error) from error
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "plain")


@contextlib.contextmanager
def open_bytes(path: Path, kind: Container) -> Iterator[IO[bytes]]:
    """Open a file of lines, decompressed.

    Raises:
        StorageError: it cannot be read, or its compressed stream is damaged or ends early.
    """
    try:
        if kind == "plain":
            with path.open("rb") as file:
                yield file
        else:
            with pa.input_stream(str(path), compression=kind) as stream:
                yield stream
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> StorageError:
    """Say that `path` cannot be read."""
    reason = error.strerror or str(error)
    if "ompress" in reason or "truncated" in reason.lower():
        fix = "the file is cut off or damaged; copy it again."
    else:
        fix = "check the file and its permissions."
    return StorageError(f"{path}: {reason}, expected a readable file. Fix: {fix}")


@dataclass(slots=True)
class HashingFile:
    """A binary file that counts and hashes what is written through it."""

    file: IO[bytes]
    bytes: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)
    closed: bool = False

    def write(self, data: Any) -> int:
        """Write bytes, or anything that has a buffer."""
        view = memoryview(data)
        self._hash.update(view)
        self.bytes += view.nbytes
        self.file.write(view)
        return view.nbytes

    def flush(self) -> None:
        """Flush the file beneath."""
        self.file.flush()

    @property
    def sha256(self) -> str:
        """Hash of all that was written, in hexadecimal."""
        return str(self._hash.hexdigest())


@contextlib.contextmanager
def publish(path: Path) -> Iterator[HashingFile]:
    """Write a file that appears under its name only when it is whole and on disk.

    The temporary name begins with a dot and ends in `.tmp`, so that no reader that
    goes by file names takes it for a shard.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            hashing = HashingFile(file)
            yield hashing
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def unwritable(path: Path, error: OSError) -> StorageError:
    """Say that `path` cannot be written."""
    full = error.errno == errno.ENOSPC
    fix = "free some space." if full else "check the directory and its permissions."
    return StorageError(f"{path}: {error.strerror or error}, expected to write it. Fix: {fix}")


def publish_text(path: Path, text: str) -> None:
    """Publish a small UTF-8 file."""
    with publish(path) as file:
        file.write(text.encode())


def _sync_directory(path: Path) -> None:
    """Make a rename durable, where the platform allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
