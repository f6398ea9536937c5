"""Publish files so that they appear whole or not at all.

    content ── publish ──→ .name.….tmp → fsync → rename → name          on this machine
    content ── publish ──→ temporary file → hash → one upload → size    s3:// gs:// hf:// …
                                                   └→ .name.….tmp → size → name    any other

A file is sent to an object store in one upload when it is whole: an exception inside
`open(url, "wb")` would publish what was written so far. Other servers show a file while it
grows, so it is uploaded under a name that no reader looks at, and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs
from msgspec import Struct, field

from reasonpack.errors import StorageError
from reasonpack.storage.place import (
    Place,
    file_system,
    fsspec_of,
    is_url,
    remove,
    shows_half,
    stamp,
    unwritable,
)
from reasonpack.storage.read import digest

TEMPORARY = ".tmp"
UPLOADED = ".reasonpack."
"""Prefix of the names of local files that are written to be uploaded."""
OPEN_FILES = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
DAY = 24 * 60 * 60


class HashingFile(Struct):
    """A binary file that counts and hashes the bytes that are written to it."""

    file: IO[bytes]
    bytes: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)
    closed: bool = False

    def write(self, data: Any) -> int:
        """Write bytes, or an object that has a buffer; return the number of bytes."""
        view = memoryview(data)
        self.file.write(view)
        self._hash.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Flush the underlying file."""
        self.file.flush()

    @property
    def sha256(self) -> str:
        """Hash of everything written, in hexadecimal."""
        return str(self._hash.hexdigest())


@contextlib.contextmanager
def publish(place: Place) -> Iterator[HashingFile]:
    """Write a file that appears under its name only when it is whole and on disk.

    The temporary name begins with a dot and ends in `.tmp`, so that no reader takes the file for a
    shard. It is unique, so that two processes that publish the same file do not write to one
    temporary file. A device or a pipe is written directly: renaming a file to `/dev/null` would
    remove the device.
    """
    temporary: Path | None = None
    at = place
    try:
        if _is_stream(place):
            with Path(place).open("wb") as file:
                yield HashingFile(file)
            return
        temporary = _temporary_for(place)
        at = temporary if is_url(place) else place  # the disk that may be full
        with temporary.open("wb") as file:
            yield HashingFile(file)
            file.flush()
            os.fsync(file.fileno())
        at = place
        if is_url(place):
            _upload(temporary, str(place))
        else:
            temporary.replace(place)
            _sync_directory(Path(place).parent)
    except OSError as error:
        raise unwritable(at, error) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_stream(place: Place) -> bool:
    """Return whether a place is a device or a pipe, or a name of an open file like `/dev/stdout`.

    `/dev/stdout` links to the file that a shell sends standard output to, and must stay a link.
    """
    path = Path(place)
    if is_url(place) or not path.exists():
        return False
    return path.parent in OPEN_FILES or not (path.is_file() or path.is_dir())


def _temporary_for(place: Place) -> Path:
    name = _token() + TEMPORARY
    if is_url(place):
        _sweep()
        return Path(tempfile.gettempdir(), UPLOADED + name)
    path = Path(place)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    return path.with_name(f".{path.name}.{name}")


@cache
def _sweep() -> None:
    """Remove local files that killed uploads left a day ago or earlier; once per process."""
    for left in Path(tempfile.gettempdir()).glob(f"{UPLOADED}*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY:
                left.unlink()


def _token() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _upload(file: Path, url: str) -> None:
    """Copy a whole file to a URL, where it appears under its name only when all of it arrived.

    Raises:
        OSError: not all of it arrived.
    """
    if not shows_half(url):
        _send(file, url)
        return
    scheme, host, path, query, _ = urlsplit(url)
    folder, _, name = path.rpartition("/")
    hidden = f"{folder}/.{name}.{_token()}{TEMPORARY}"
    half = urlunsplit((scheme, host, hidden, query, ""))
    try:
        _send(file, half)
        _rename(half, url)
    except BaseException:
        with contextlib.suppress(StorageError, OSError):
            remove(half)
        raise


def _rename(url: str, new: str) -> None:
    """Rename a file, and replace a file that has the new name."""
    (system, path), (_, target) = file_system(url), file_system(new)
    if (through := fsspec_of(system)) is None:
        system.move(path, target)
        return
    if stamp(new):
        remove(new)  # not every server replaces a file
    through.mv(path, target)


def _send(file: Path, url: str) -> None:
    """Copy a whole file to a URL in one call, and check that all of it arrived.

    Raises:
        OSError: not all of it arrived.
    """
    (system, path), size = file_system(url), file.stat().st_size
    if system.type_name not in {"s3", "gcs"}:  # these have no directories
        system.create_dir(path.rpartition("/")[0], recursive=True)
    if (through := fsspec_of(system)) is not None:
        through.put_file(str(file), path)
    else:
        _stream(file, url, size)
    arrived = stamp(url)
    if arrived is None or arrived.bytes != size:
        found = "nothing" if arrived is None else f"{arrived.bytes:,} bytes"
        raise OSError(f"{found} arrived of {size:,} bytes")


def _stream(file: Path, url: str, size: int) -> None:
    """Write a file to an object; if that fails, leave nothing there.

    A stream that is not closed closes itself when it is deleted, which publishes what was written
    so far. With a single write this is all, or an empty object, which is then removed.
    """
    system, path = file_system(url)
    stream = None
    try:
        stream = system.open_output_stream(path)
        if size:
            with pa.memory_map(str(file)) as whole:
                stream.write(whole.read_buffer())
        stream.close()
    except BaseException:
        stream = None
        with contextlib.suppress(StorageError, OSError):
            there = stamp(url)
            if size and there and not there.bytes:
                system.delete_file(path)
        raise


def publish_text(place: Place, text: str) -> None:
    """Publish a small text as a UTF-8 file."""
    with publish(place) as file:
        file.write(text.encode())


def publish_once(place: Place, content: bytes | memoryview) -> None:
    """Publish a file, unless it already exists with this content."""
    if stamp(place) is None or digest(place)[1] != hashlib.sha256(content).hexdigest():
        with publish(place) as file:
            file.write(content)


def _sync_directory(path: Path) -> None:
    """Make a rename durable, where the platform allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
