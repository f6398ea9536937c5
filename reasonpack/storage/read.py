"""Read files: their bytes, decompressed, or a local copy.

chats.jsonl.gz ──────── open_bytes ──→ decompressed bytes
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from reasonpack.errors import StorageError
from reasonpack.storage.place import (
    Place,
    check_regular,
    file_system,
    is_url,
    join,
    public_name,
    reading,
    stamp,
)

Container = Literal["plain", "array", "gzip", "zstd", "parquet", "arrow"]
"""Format of an input file; `array` is an uncompressed file that is one JSON list."""
BLOCK = 8 << 20
HEAD = 1 << 16
"""How many bytes are read to recognise a JSON list, which blanks may precede."""
BLANK = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
SMALL = 1 << 30
"""Largest size, in bytes, of a file that `read_bytes` reads whole."""
_MAGIC: dict[bytes, Container] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x50\x2a\x4d\x18": "zstd",  # as pzstd writes it
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",  # a stream
}


def container(place: Place) -> Container:
    """Return the format of an input file, by its first bytes."""
    with open_file(place) as file:
        head = file.read(HEAD)
    plain: Container = "array" if is_list(head) else "plain"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), plain)


def is_list(head: bytes) -> bool:
    r"""Return whether a file that begins with `head` is a JSON list.

    >>> is_list(b'\n[{"a": 1}]'), is_list(b'{"a": 1}\n')
    (True, False)
    """
    return head.removeprefix(BOM).lstrip(BLANK).startswith(b"[")


@contextlib.contextmanager
def open_file(place: Place, *, start: int = 0) -> Iterator[Any]:
    """Open a file for reading, from byte `start` on.

    Raises:
        StorageError: it cannot be read, now or inside the `with` block.
    """
    with reading(place), contextlib.ExitStack() as opened:
        if is_url(place):
            system, path = file_system(str(place))
            file = opened.enter_context(system.open_input_file(path))
        else:
            check_regular(place)
            file = opened.enter_context(Path(place).open("rb"))
        file.seek(start)
        yield file


@contextlib.contextmanager
def open_arrow(place: Place) -> Iterator[pa.NativeFile]:
    """Open a file for Arrow's readers, without a Python file beneath.

    If a thread of Arrow's releases a Python file while the interpreter ends, the process aborts.
    fsspec opens Python files in any case: read those with `use_threads=False`.

    Raises:
        StorageError: it cannot be read, now or inside the `with` block.
    """
    if is_url(place):
        with open_file(place) as file:
            yield file
        return
    with reading(place):
        check_regular(place)
        with pa.OSFile(str(place)) as file:
            yield file


def has_end(stream: pa.NativeFile) -> bool:
    """Return whether an Arrow stream has its end mark.

    Arrow does not notice that a stream was cut off between two batches.
    """
    size = stream.size()
    return bool(size >= len(_END_OF_STREAM) and stream.read_at(8, size - 8) == _END_OF_STREAM)


def validated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches; refuse one whose offsets point outside its memory.

    Raises:
        pa.ArrowInvalid: a batch is damaged.
    """
    for batch in batches:
        batch.validate(full=True)
        yield batch


@contextlib.contextmanager
def open_bytes(place: Place, kind: Container, *, start: int = 0) -> Iterator[Any]:
    """Open a file of records, decompressed; a plain one from byte `start` on.

    Raises:
        StorageError: it cannot be read, or its compressed stream is damaged or ends early.
    """
    with reading(place):
        if kind == "gzip":
            # Arrow's reader takes zeros after the last member, as on tapes, for damage.
            once = _stream(str(place), None) if is_url(place) else open_file(place)
            with once as file, gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        elif kind == "plain" and not is_url(place):
            with open_file(place, start=start) as file:
                yield file
        elif kind == "plain":
            with open_file(place, start=start) as file, pa.BufferedInputStream(file, BLOCK) as near:
                yield near
        elif is_url(place):
            with _stream(str(place), kind) as stream:
                yield stream
        else:
            with pa.input_stream(str(place), compression=kind) as stream:
                yield stream


def _stream(url: str, compression: str | None) -> Any:
    """Open a URL to be read once, from its beginning, without seeking."""
    system, path = file_system(url)
    return system.open_input_stream(path, compression=compression, buffer_size=BLOCK)


def read_bytes(place: Place) -> bytes | None:
    """Read a small file whole; return None if there is none.

    Raises:
        StorageError: it cannot be read, or is larger than `SMALL`.
    """
    try:
        with open_file(place) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = bytes(file.read()) if size <= SMALL else b""
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
    if size > SMALL:
        fix = "check that it is what its name says"
        raise StorageError(public_name(place), f"{size:,} bytes", f"at most {SMALL:,}", fix)
    return content


def digest(place: Place) -> tuple[int, str]:
    """Read a file and return its size and SHA-256 in hexadecimal."""
    hash_, size = hashlib.sha256(), 0
    with open_file(place) as file:
        while block := file.read(BLOCK):
            hash_.update(block)
            size += len(block)
    return size, hash_.hexdigest()


@contextlib.contextmanager
def fetched(place: str, names: Sequence[str] = ()) -> Iterator[str]:
    """Yield a path for libraries that read only paths; a URL is copied to a temporary folder.

    The URL of a file is copied as a file; of a directory, those of the files `names` that exist.

    Raises:
        StorageError: nothing is there, or it cannot be read.
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
                public_name(place), "nothing there", "a file or a directory", "check the URL"
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


def lacks_memory(error: BaseException) -> bool:
    """Return whether Arrow ran out of memory; False if a damaged length asked for 1 TiB or more."""
    asked = map(int, re.findall(r"\d+", str(error)))
    return isinstance(error, MemoryError) and max(asked, default=0) < 1 << 40
