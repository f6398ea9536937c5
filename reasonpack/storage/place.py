"""Places of files and directories, on this machine or at a URL: their names, and what is there.

A place is a path, or a URL that `pyarrow.fs` or else fsspec knows.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs

from reasonpack.errors import DiskFullError, StorageError
from reasonpack.wording import one_line

Place = Path | str
"""Where a file or a directory is: a path, or a URL as text."""
WHOLE_UPLOADS = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "hf"}
"""Object stores, as pyarrow and fsspec call them; an upload to them is visible when complete."""
PATIENCE = 60
"""Seconds for which a request to Google's storage is retried; the default of its client is 900."""
LIMITS = {
    errno.EMFILE: "raise the limit of open files, e.g. `ulimit -n 1024`",
    errno.ENFILE: "raise the system's limit of open files",
    errno.ENOMEM: "raise the limit of memory (ulimit -v), or use fewer processes (--num-proc 1)",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write to another file system",
}
"""Fixes for errors that are caused by a limit of the system, not by the file."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says about a file without reading it.

    Attributes:
        bytes: size of the file.
        modified_ns: when it was last written, in nanoseconds since 1970; −1 if unknown.
        changed_ns: when its content, mode or name last changed; not compared.
        inode: identifies the file, whatever its name; 0 for a URL.
        version: identifies the content in an object store (ETag, version); see `full_stamp`.
    """

    bytes: int
    modified_ns: int
    changed_ns: int = field(default=-1, compare=False)
    inode: int = 0
    version: str = ""


def is_url(place: Place) -> bool:
    """Return whether a place is a URL, not a path.

    >>> is_url("s3://bucket/chats.jsonl"), is_url("chats.jsonl"), is_url(Path("a://b"))
    (True, False, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


def join(place: Place, *names: str) -> Place:
    """Append names to a directory; the query of a URL stays at its end.

    >>> join("s3://bucket/out?scheme=http", "data", "a.parquet")
    's3://bucket/out/data/a.parquet?scheme=http'
    >>> join(Path("out"), "data").as_posix()
    'out/data'
    """
    if not is_url(place):
        return Path(place, *names)
    scheme, host, path, query, _ = urlsplit(str(place))
    return urlunsplit((scheme, host, "/".join([path.rstrip("/"), *names]), query, ""))


def public_name(place: Place) -> str:
    """Return a place as messages and files name it: a URL without user, password and query.

    >>> public_name("s3://key:secret@bucket/chats.jsonl?scheme=http")
    's3://bucket/chats.jsonl'
    """
    if not is_url(place):
        return str(place)
    scheme, host, path, _, _ = urlsplit(str(place))
    return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    The listings that fsspec has cached are dropped, because other processes write there too.

    Raises:
        StorageError: no file system is known for it, or its client is not installed.
    """
    system, path = _known_file_system(url)
    if (through := fsspec_of(system)) is not None:
        through.dircache.clear()
    return system, path


def fsspec_of(system: Any) -> Any:
    """Return the fsspec file system that a pyarrow one wraps; None if it wraps none."""
    handler = getattr(system, "handler", None)
    return handler.fs if isinstance(handler, pa.fs.FSSpecHandler) else None


@lru_cache(maxsize=64)
def _known_file_system(url: str) -> tuple[Any, str]:
    try:
        return _from_pyarrow(url)
    except (pa.ArrowException, OSError, ImportError, ValueError) as error:
        expected = "a URL of a file system that pyarrow or fsspec knows"
        fix = "check it; for s3://, gs:// and hf:// run: pip install 'reasonpack[s3,hub]'"
        raise StorageError(public_name(url), one_line(error), expected, fix) from error


def _from_pyarrow(url: str) -> tuple[Any, str]:
    if url.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in url:
        url += f"{'&' if urlsplit(url).query else '?'}retry_limit_seconds={PATIENCE}"
    try:
        return pa.fs.FileSystem.from_uri(url)  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        import fsspec  # noqa: PLC0415  an optional dependency

        system, path = fsspec.core.url_to_fs(url)
        return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(system)), path


def shows_half(place: Place) -> bool:
    """Return whether a file there is visible while it is being written; not so in object stores.

    >>> shows_half("out"), shows_half("file:///tmp/out")
    (True, True)
    """
    if not is_url(place):
        return True
    system, _ = file_system(str(place))
    through = fsspec_of(system)
    names = system.type_name if through is None else through.protocol
    return WHOLE_UPLOADS.isdisjoint([names] if isinstance(names, str) else names)


@contextlib.contextmanager
def reading(place: Place) -> Iterator[None]:
    """Raise StorageError if the block, which reads a place, cannot; also for a damaged gzip."""
    try:
        yield
    except (OSError, zlib.error, EOFError) as error:
        raise unreadable(place, error) from error


@contextlib.contextmanager
def writing(place: Place) -> Iterator[None]:
    """Raise StorageError if the block, which writes or removes a place, cannot."""
    try:
        yield
    except OSError as error:
        raise unwritable(place, error) from error


def file_names(directory: Place, *, folders: bool = False) -> list[str]:
    """List the files, or files and `folders`, directly in a directory; none if it is not there."""
    with reading(directory), contextlib.suppress(FileNotFoundError):
        if is_url(directory):
            found = infos_below(str(directory), recursive=False)
            return sorted(each.base_name for each in found if folders or each.is_file)
        with os.scandir(directory) as entries:
            return sorted(each.name for each in entries if folders or _is_file(each))
    return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, which reading it reports
        return True


def infos_below(url: str, *, recursive: bool) -> list[Any]:
    """Return pyarrow's description of each file and directory below a URL, or directly below it."""
    system, path = file_system(url)
    found: list[Any] = system.get_file_info(
        pa.fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    )
    return found


def local_size(place: Place) -> int:
    """Return the bytes of a file of this machine; 0 if there is none."""
    found = None if is_url(place) else stamp(place)
    return found.bytes if found else 0


def stamp(place: Place) -> Stamp | None:
    """Return what the file system says about a file; None if there is none."""
    with reading(place), contextlib.suppress(FileNotFoundError):
        if not is_url(place):
            of = os.stat(place)  # noqa: PTH116 (a place may be text)
            return Stamp(of.st_size, of.st_mtime_ns, of.st_ctime_ns, inode=of.st_ino)
        system, path = file_system(str(place))
        info = system.get_file_info(path)
        if info.is_file:
            return Stamp(info.size or 0, -1 if info.mtime_ns is None else info.mtime_ns)
    return None


VERSIONS = ("ETag", "etag", "VersionId", "generation", "md5Hash", "blob_id", "oid")
"""Keys of metadata, in Arrow or fsspec, whose values identify the content of an object."""


def full_stamp(place: Place) -> Stamp | None:
    """Return a stamp that includes the version of an object, which costs another request."""
    found = stamp(place)
    if found is None or not is_url(place):
        return found
    system, path = file_system(str(place))
    with reading(place):
        if (through := fsspec_of(system)) is not None:
            said = through.info(path)
        else:
            with system.open_input_stream(path) as stream:
                said = stream.metadata()
    said = {key.decode() if isinstance(key, bytes) else key: value for key, value in said.items()}
    return replace(found, version=" ".join(str(said[key]) for key in VERSIONS if said.get(key)))


def check_regular(path: Path | str) -> None:
    """Refuse what could keep a reader waiting for ever; links are followed.

    Raises:
        OSError: nothing is there, or it is a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116 (a place may be text)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("is a pipe, a socket or a device")


def remove(place: Place) -> None:
    """Remove a file, if it exists."""
    with writing(place), contextlib.suppress(FileNotFoundError):
        if is_url(place):
            system, path = file_system(str(place))
            system.delete_file(path)
        else:
            Path(place).unlink()


def remove_tree(directory: Place) -> None:
    """Remove a directory and everything in it, if it exists."""
    with writing(directory), contextlib.suppress(FileNotFoundError):
        if not is_url(directory):
            shutil.rmtree(directory)
            return
        system, path = file_system(str(directory))
        # Google's file system does not raise FileNotFoundError if nothing is there.
        if system.get_file_info(pa.fs.FileSelector(path, allow_not_found=True)):
            system.delete_dir(path)


def unreadable(place: Place, error: OSError | zlib.error | EOFError) -> StorageError:
    """Return the error for a place that cannot be read."""
    reason = getattr(error, "strerror", None) or one_line(error)
    damaged = isinstance(error, gzip.BadGzipFile | zlib.error | EOFError)
    if "too much memory" in reason:  # of a zstd stream
        fix = f"unpack it with zstd -d --long=31 {public_name(place)}"
    elif damaged or re.search("compress|inflate|truncated", reason, re.IGNORECASE):
        fix = "the file is cut off or damaged; copy it again"
    else:
        number = getattr(error, "errno", None) or 0
        what = "the connection, the URL" if is_url(place) else "the file"
        fix = LIMITS.get(number, f"check {what} and its permissions")
    return StorageError(public_name(place), reason, "a readable file", fix)


def free_bytes(place: Place) -> int | None:
    """Return how many bytes are free on a place's disk; None if unknown. It need not exist."""
    if is_url(place):
        return None
    folder = Path(place).absolute()
    with contextlib.suppress(OSError):
        return shutil.disk_usage(
            next(each for each in (folder, *folder.parents) if each.exists())
        ).free
    return None


def unwritable(place: Place, error: OSError) -> StorageError:
    """Return the error for a place that cannot be written."""
    reason = error.strerror or one_line(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        left = free_bytes(place)
        there = "" if left is None else f" where {left:,} bytes are left"
        fix = f"free some space{there}, and repeat the command: what is done is kept"
        return DiskFullError(public_name(place), reason, "to write it", fix)
    fix = LIMITS.get(error.errno or 0, "check the directory and its permissions")
    return StorageError(public_name(place), reason, "to write it", fix)
