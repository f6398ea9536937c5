"""One run at a time in one output directory.

    .lock                    one run of everything, or a merge
    .lock-00003-of-00008     one part of a run of several machines

On local file systems the kernel holds the lock, and releases it when the process dies, however
it dies. Elsewhere (an object store, a file system without locks) the file alone is the lock: a
run that was killed on another machine leaves it in place.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from reasonpack.errors import StorageError, UsageError
from reasonpack.storage.place import (
    Place,
    file_names,
    is_url,
    join,
    public_name,
    remove,
    writing,
)
from reasonpack.storage.publish import publish_text
from reasonpack.storage.read import read_bytes

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
"""Refuses a link in place of the lock: its target would be emptied."""


class Holder(Struct, frozen=True):
    """The process that holds a lock; `started` distinguishes two processes with the same pid."""

    host: str
    pid: int
    started: str


def _me() -> Holder:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
    return Holder(socket.gethostname(), os.getpid(), now)


@contextlib.contextmanager
def locked(output: Place, part: str = "") -> Iterator[None]:
    """Hold the lock of an output directory, or of one part of a run in it.

    The directory has to exist. `part` is empty, or a suffix such as `-00003-of-00008`; a part
    excludes runs of the whole, but not other parts.

    Raises:
        UsageError: another run holds it, which the message names.
        StorageError: the directory cannot be written.
    """
    own = join(output, LOCK + part)
    with _by_kernel(Path(own)) if fcntl and not is_url(output) else _by_file(own):
        for name in file_names(output):
            rival = name.startswith(LOCK) and (name == LOCK) == bool(part)
            if rival and is_held(join(output, name)):
                raise _refused(join(output, name))
        yield


@contextlib.contextmanager
def _by_kernel(path: Path) -> Iterator[None]:
    with writing(path):
        descriptor = _acquire(path)
    if descriptor is None:
        with _by_file(path):
            yield
        return
    try:
        with writing(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(_me()), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """Open and lock a file, and return its descriptor; None if the file system has no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held it before may have removed the file that was opened here.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _refused(path) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)


@contextlib.contextmanager
def _by_file(place: Place) -> Iterator[None]:
    if _is_held_by_file(place):
        raise _refused(place)
    mine = msgspec.json.encode(_me())
    publish_text(place, mine.decode())
    if read_bytes(place) != mine:
        raise _refused(place)
    try:
        yield
    finally:
        if read_bytes(place) == mine:
            remove(place)


def is_held(place: Place) -> bool:
    """Return whether a process that may still be alive holds a lock."""
    if is_url(place) or not fcntl:
        return _is_held_by_file(place)
    try:
        descriptor = os.open(str(place), os.O_RDWR | NO_LINKS)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _is_held_by_file(place)
    finally:
        os.close(descriptor)
    return False


def _is_held_by_file(place: Place) -> bool:
    """Return whether another process wrote a lock file and may still be alive."""
    holder = _holder(place)
    if holder is None:
        return False
    if holder.host != socket.gethostname():
        return True
    return holder.pid != os.getpid() and _is_alive(holder.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _holder(place: Place) -> Holder | None:
    try:
        return msgspec.json.decode(read_bytes(place) or b"", type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, StorageError):
        return None


def _refused(place: Place) -> UsageError:
    holder = _holder(place)
    who = (
        f"process {holder.pid} on {holder.host} since {holder.started}"
        if holder
        else "another process"
    )
    fix = "wait for it or stop it; if it is dead for certain, remove this file"
    return UsageError(public_name(place), f"held by {who}", "no other run in this directory", fix)
