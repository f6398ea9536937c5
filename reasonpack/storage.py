"""Paths in, paths out: input files as bytes, and files that appear whole or not at all.

    chats.jsonl.gz ──────── open_bytes ──→ decompressed bytes
    content ── publish ──→ .name.….tmp → fsync → rename → name          on this machine
    content ── publish ──→ temporary file → hash → one upload → size    s3:// gs:// hf:// …
                                                   └→ .name.….tmp → size → name    any other

A place is a path, or a URL that `pyarrow.fs` or else fsspec knows. An object store gets a
file in one piece after it is whole: an exception inside `open(url, "wb")` would publish
what was written so far. Other servers show a file while it grows, and get it under a name
that no reader looks at.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs

from reasonpack.errors import StorageError, UsageError

__all__ = [
    "Container",
    "HashingFile",
    "Place",
    "Stamp",
    "check_name",
    "check_regular",
    "child_names",
    "container",
    "digest",
    "expand_inputs",
    "fetched",
    "file_names",
    "is_url",
    "join",
    "open_arrow",
    "open_bytes",
    "open_file",
    "public_name",
    "publish",
    "publish_text",
    "read_bytes",
    "remove",
    "remove_tree",
    "shows_half",
    "stamp",
]

Place = Path | str
"""Where a file or a directory is: a path, or a URL as text."""
Container = Literal["plain", "gzip", "zstd", "parquet"]
SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""What is taken from a directory that is given as input."""
TEMPORARY = ".tmp"
WHOLE_UPLOADS = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "hf"}
"""Object stores, as pyarrow and fsspec call them: there an upload is seen when it is complete."""
BLOCK = 8 << 20
SMALL = 1 << 30
"""Most that a file may hold which is read whole, in bytes."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC: dict[bytes, Container] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "parquet",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says of a file without reading it.

    Attributes:
        bytes: its size.
        modified_ns: when it was last written, in nanoseconds since 1970; −1 if unknown.
    """

    bytes: int
    modified_ns: int


# --- places ----------------------------------------------------------------------------


def is_url(place: Place) -> bool:
    """Tell a URL from a path.

    >>> is_url("s3://bucket/chats.jsonl"), is_url("chats.jsonl"), is_url(Path("a://b"))
    (True, False, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


def join(place: Place, *names: str) -> Place:
    """Name something in a directory; the query of a URL stays its end.

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
    """Name a place in messages and in files: a URL without user, password and query.

    >>> public_name("s3://key:secret@bucket/chats.jsonl?scheme=http")
    's3://bucket/chats.jsonl'
    """
    if not is_url(place):
        return str(place)
    scheme, host, path, _, _ = urlsplit(str(place))
    return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))


def _file_system(url: str) -> tuple[Any, str]:
    """Find the file system of a URL, and the path in it; it remembers no listing.

    Other processes write there too, and fsspec would go by what it saw before they did.

    Raises:
        StorageError: no file system is known for it, or its client is not installed.
    """
    system, path = _known_file_system(url)
    handler = getattr(system, "handler", None)
    if isinstance(handler, pa.fs.FSSpecHandler):
        handler.fs.dircache.clear()
    return system, path


@lru_cache(maxsize=64)
def _known_file_system(url: str) -> tuple[Any, str]:
    try:
        return _from_pyarrow(url)
    except (pa.ArrowException, OSError, ImportError, ValueError) as error:
        raise StorageError(
            f"{public_name(url)}: {_one_line(error)}, expected a URL of a file system that "
            "pyarrow or fsspec knows. Fix: check it; for s3://, gs:// and hf:// run: "
            "pip install 'reasonpack[s3,hub]'."
        ) from error


def _from_pyarrow(url: str) -> tuple[Any, str]:
    try:
        return pa.fs.FileSystem.from_uri(url)  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        import fsspec  # noqa: PLC0415  an optional dependency

        system, path = fsspec.core.url_to_fs(url)
        return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(system)), path


def shows_half(place: Place) -> bool:
    """Tell whether others see a file there while it is written, as it is not in object stores.

    >>> shows_half("out"), shows_half("file:///tmp/out")
    (True, True)
    """
    if not is_url(place):
        return True
    system, _ = _file_system(str(place))
    handler = getattr(system, "handler", None)
    if not isinstance(handler, pa.fs.FSSpecHandler):
        return system.type_name not in WHOLE_UPLOADS
    names = handler.fs.protocol
    return not WHOLE_UPLOADS.intersection([names] if isinstance(names, str) else names)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def file_names(directory: Place) -> list[str]:
    """List the files in a directory, without those below it; none if it does not exist.

    Raises:
        StorageError: it cannot be listed.
    """
    try:
        if not is_url(directory):
            return sorted(entry.name for entry in os.scandir(directory) if _is_file(entry))
        return sorted(info.base_name for info in _listed(str(directory), recursive=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(directory, error) from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself: who reads it will say so
        return True


def _listed(url: str, *, recursive: bool) -> list[Any]:
    system, path = _file_system(url)
    selector = pa.fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    return [info for info in system.get_file_info(selector) if info.is_file]


def child_names(directory: Place) -> list[str]:
    """List what is in a directory, directories too; nothing if it does not exist.

    Raises:
        StorageError: it cannot be listed.
    """
    try:
        if not is_url(directory):
            return sorted(os.listdir(directory))  # noqa: PTH208 (a place may be text)
        system, path = _file_system(str(directory))
        selector = pa.fs.FileSelector(path, allow_not_found=True)
        return sorted(info.base_name for info in system.get_file_info(selector))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(directory, error) from error


def stamp(place: Place) -> Stamp | None:
    """Return what the file system says of a file; None if there is none.

    Raises:
        StorageError: it does not answer.
    """
    try:
        if not is_url(place):
            status = os.stat(place)  # noqa: PTH116 (a place may be text)
            return Stamp(status.st_size, status.st_mtime_ns)
        system, path = _file_system(str(place))
        info = system.get_file_info(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(place, error) from error
    if not info.is_file:
        return None
    return Stamp(info.size or 0, -1 if info.mtime_ns is None else info.mtime_ns)


def check_regular(path: Path | str) -> None:
    """Refuse to open what could keep a reader waiting for ever; a link to a file is one.

    Raises:
        OSError: nothing is there, or a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116 (a place may be text)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("is a pipe, a socket or a device")


def remove(place: Place) -> None:
    """Remove a file, if it is there.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        if not is_url(place):
            Path(place).unlink(missing_ok=True)
            return
        system, path = _file_system(str(place))
        with contextlib.suppress(FileNotFoundError):
            system.delete_file(path)
    except OSError as error:
        raise unwritable(place, error) from error


def remove_tree(directory: Place) -> None:
    """Remove a directory and all that is in it, if it is there.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        if not is_url(directory):
            shutil.rmtree(directory)
            return
        system, path = _file_system(str(directory))
        system.delete_dir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritable(directory, error) from error


# --- input -----------------------------------------------------------------------------


def expand_inputs(places: Sequence[Place]) -> list[Place]:
    """List the files that the input arguments name; directories give their chat files.

    Raises:
        UsageError: a path that does not exist, or a directory without any chat file.
        StorageError: a URL that cannot be listed.
    """
    files: list[Place] = []
    for place in places:
        found = _chat_files(place)
        if found == []:
            raise UsageError(
                f"{public_name(place)}: no chat file in this directory, expected "
                f"{', '.join(SUFFIXES)}. Fix: name the files."
            )
        if found is None:
            raise UsageError(
                f"{public_name(place)}: no such file, expected a file of chats. "
                "Fix: check the spelling."
            )
        files += found
    for file in files:
        check_name(file)
    return files


def check_name(place: Place) -> None:
    """Refuse a name that cannot be written down: ids and the manifest are made of it.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{public_name(place)}: its name is not UTF-8, expected one that can be written in the "
            "manifest. Fix: rename it."
        ) from None


def _chat_files(place: Place) -> Sequence[Place] | None:
    """List the chat files at a place: itself, or what a directory holds; None if nothing is."""
    if is_url(place):
        return _chat_objects(str(place))
    mode = _mode(Path(place))
    if mode is None or not stat.S_ISDIR(mode):
        return None if mode is None else [Path(place)]
    files = [path for path in _below(Path(place)) if path.name.endswith(SUFFIXES)]
    modes = [_mode(path) for path in files]
    if None in modes:
        raise UsageError(
            f"{files[modes.index(None)]}: is a link to nothing, expected a file of chats. "
            "Fix: mend or remove it."
        )
    return [path for path, mode in zip(files, modes, strict=True) if mode and stat.S_ISREG(mode)]


def _below(directory: Path) -> list[Path]:
    """List what is below a directory; `Path.rglob` would pass over what it may not read."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or directory, error) from error

    found = os.walk(directory, onerror=refuse)
    return sorted(Path(folder, name) for folder, _, names in found for name in names)


def _mode(path: Path) -> int | None:
    """Return the mode of a file or a directory; None if nothing is there."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a NUL in a name
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UsageError(
            f"{path}: is a pipe or a device, expected a file, which can be read twice. "
            "Fix: send it to standard input and name -."
        )
    return mode


def _chat_objects(url: str) -> list[str] | None:
    try:
        if stamp(url):
            return [url]
        found = _listed(url, recursive=True)
    except OSError as error:
        raise unreadable(url, error) from error
    _, top = _file_system(url)
    names = sorted(info.path[len(top.rstrip("/")) + 1 :] for info in found)
    if not names:
        return None
    return [str(join(url, name)) for name in names if name.endswith(SUFFIXES)]


def container(place: Place) -> Container:
    """Tell how a file is packed, by its first bytes.

    Raises:
        StorageError: it cannot be read.
    """
    with open_file(place) as file:
        head = file.read(4)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "plain")


@contextlib.contextmanager
def open_file(place: Place, *, start: int = 0) -> Iterator[Any]:
    """Open a file for reading, from byte `start` on.

    Raises:
        StorageError: it cannot be read, now or inside the `with` block.
    """
    try:
        if is_url(place):
            system, path = _file_system(str(place))
            with system.open_input_file(path) as file:
                file.seek(start)
                yield file
        else:
            check_regular(place)
            with Path(place).open("rb") as file:
                file.seek(start)
                yield file
    except OSError as error:
        raise unreadable(place, error) from error


@contextlib.contextmanager
def open_arrow(place: Place) -> Iterator[pa.NativeFile]:
    """Open a file for Arrow's readers, which need no Python file below them.

    A thread of Arrow's that lets go of a Python file while the interpreter ends aborts the process.
    A file that fsspec opens is one in any case: read with `use_threads=False`.

    Raises:
        StorageError: it cannot be read, now or inside the `with` block.
    """
    if is_url(place):
        with open_file(place) as file:
            yield file
        return
    try:
        check_regular(place)
        with pa.OSFile(str(place)) as file:
            yield file
    except OSError as error:
        raise unreadable(place, error) from error


@contextlib.contextmanager
def open_bytes(place: Place, kind: Container, *, start: int = 0) -> Iterator[IO[bytes]]:
    """Open a file of lines, decompressed, from byte `start` of a plain one.

    Raises:
        StorageError: it cannot be read, or its compressed stream is damaged or ends early.
    """
    try:
        if kind == "plain" and not is_url(place):
            with open_file(place, start=start) as file:
                yield file
        elif kind == "plain":
            with open_file(place, start=start) as file, pa.BufferedInputStream(file, BLOCK) as near:
                yield near
        elif is_url(place):
            system, path = _file_system(str(place))
            with system.open_input_stream(path, compression=kind, buffer_size=BLOCK) as stream:
                yield stream
        else:
            with pa.input_stream(str(place), compression=kind) as stream:
                yield stream
    except OSError as error:
        raise unreadable(place, error) from error


def read_bytes(place: Place) -> bytes | None:
    """Read a small file whole; None if there is none.

    Raises:
        StorageError: it cannot be read, or is not small.
    """
    try:
        with open_file(place) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = bytes(file.read()) if size <= SMALL else b""
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if size > SMALL:
        raise StorageError(
            f"{public_name(place)}: {size:,} bytes, expected at most {SMALL:,}. "
            "Fix: check that it is what its name says."
        )
    return content


def digest(place: Place) -> tuple[int, str]:
    """Read a file and return its size and SHA-256 in hexadecimal.

    Raises:
        StorageError: it cannot be read.
    """
    hash_, size = hashlib.sha256(), 0
    with open_file(place) as file:
        while block := file.read(BLOCK):
            hash_.update(block)
            size += len(block)
    return size, hash_.hexdigest()


@contextlib.contextmanager
def fetched(place: str, names: Sequence[str] = ()) -> Iterator[str]:
    """Yield a path for what libraries read from paths only; a URL is copied here for a while.

    Args:
        place: a file, or a directory from which the files called `names` are taken.
        names: none of them has to be there.

    Raises:
        StorageError: there is nothing, or it cannot be read.
    """
    if not is_url(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="reasonpack-") as folder:
        if stamp(place):
            name = public_name(place).rpartition("/")[2]
            yield str(_copied(place, Path(folder), name))
            return
        present = [name for name in names if stamp(join(place, name))]
        if not present:
            raise StorageError(
                f"{public_name(place)}: nothing there, expected a file or a directory. "
                "Fix: check the URL."
            )
        for name in present:
            _copied(join(place, name), Path(folder), name)
        yield folder


def _copied(place: Place, folder: Path, name: str) -> Path:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_file(place) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, BLOCK)
    return target


def unreadable(place: Place, error: OSError) -> StorageError:
    """Say that a place cannot be read."""
    reason = error.strerror or _one_line(error)
    if re.search("compress|inflate|truncated", reason, re.IGNORECASE):
        fix = "the file is cut off or damaged; copy it again."
    else:
        fix = "check the file and its permissions."
    return StorageError(f"{public_name(place)}: {reason}, expected a readable file. Fix: {fix}")


# --- output ----------------------------------------------------------------------------


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
        self.file.write(view)
        self._hash.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Flush the file beneath."""
        self.file.flush()

    @property
    def sha256(self) -> str:
        """Hash of all that was written, in hexadecimal."""
        return str(self._hash.hexdigest())


@contextlib.contextmanager
def publish(place: Place) -> Iterator[HashingFile]:
    """Write a file that appears under its name only when it is whole and on disk.

    The temporary name begins with a dot and ends in `.tmp`, so that no reader that
    goes by file names takes it for a shard. It is another one each time: two processes
    that publish the same file do not meet in it.

    Raises:
        StorageError: it cannot be written.
    """
    temporary: Path | None = None
    at = place
    try:
        temporary = _temporary_for(place)
        at = temporary if is_url(place) else place  # the disk that may be full
        with temporary.open("wb") as file:
            hashing = HashingFile(file)
            yield hashing
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


def _temporary_for(place: Place) -> Path:
    name = _token() + TEMPORARY
    if is_url(place):
        return Path(tempfile.gettempdir(), f".reasonpack.{name}")
    path = Path(place)
    return path.with_name(f".{path.name}.{name}")


def _token() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _upload(file: Path, url: str) -> None:
    """Copy a whole file to a URL, and see that all of it arrived.

    Raises:
        OSError: it did not.
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
    """Give a file another name, which may be taken."""
    (system, path), (_, target) = _file_system(url), _file_system(new)
    handler = getattr(system, "handler", None)
    if not isinstance(handler, pa.fs.FSSpecHandler):
        system.move(path, target)
        return
    if stamp(new):
        remove(new)  # not every server replaces a file
    handler.fs.mv(path, target)


def _send(file: Path, url: str) -> None:
    """Copy a whole file to a URL, in one call, and see that all of it arrived.

    Raises:
        OSError: it did not.
    """
    (system, path), size = _file_system(url), file.stat().st_size
    if system.type_name not in {"s3", "gcs"}:  # these have no directories
        system.create_dir(path.rpartition("/")[0], recursive=True)
    handler = getattr(system, "handler", None)
    if isinstance(handler, pa.fs.FSSpecHandler):
        handler.fs.put_file(str(file), path)
    else:
        _stream(file, url, size)
    arrived = stamp(url)
    if arrived is None or arrived.bytes != size:
        found = "nothing" if arrived is None else f"{arrived.bytes:,} bytes"
        raise OSError(f"{found} arrived of {size:,} bytes")


def _stream(file: Path, url: str, size: int) -> None:
    """Write a file to an object; nothing of it is left there if that is broken off.

    A stream that is forgotten open closes itself, and so publishes what was written so far.
    With a single write that is all or nothing, and nothing is an empty object.
    """
    system, path = _file_system(url)
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


def unwritable(place: Place, error: OSError) -> StorageError:
    """Say that a place cannot be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    fix = "free some space." if full else "check the directory and its permissions."
    reason = error.strerror or _one_line(error)
    return StorageError(f"{public_name(place)}: {reason}, expected to write it. Fix: {fix}")


def publish_text(place: Place, text: str) -> None:
    """Publish a small UTF-8 file."""
    with publish(place) as file:
        file.write(text.encode())


def _sync_directory(path: Path) -> None:
    """Make a rename durable, where the platform allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
