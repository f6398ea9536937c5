"""Errors of the system (no memory, no thread, no network, …) → one line instead of a traceback.

Errors about the files of a run are not handled here: they already say what is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from reasonpack.errors import ReasonpackError

FILES = "raise the limit of open files, e.g. `ulimit -n 1024`"
MEMORY = "raise the limit of memory (ulimit -v), or use fewer processes (--num-proc 1)"
NETWORK = "check the connection and the URLs, and repeat the command: what is done is kept"
FIXES = {errno.EMFILE: FILES, errno.ENFILE: FILES, errno.ENOMEM: MEMORY, errno.EAGAIN: MEMORY}
LEAST_MEMORY = 768 << 20
"""Address space, in bytes, that a process needs to load its libraries."""
UNMAPPED = ("failed to map segment", "cannot allocate memory", "cannot map")
"""Texts of the library loader's errors when memory is short."""
CLIENTS = ("httpx", "httpcore", "aiohttp.")
"""Modules of the HTTP clients of fsspec's file systems; their errors are no `OSError`s."""


def denied(error: BaseException) -> ReasonpackError | None:
    """Return what the system denied, with a fix; None for any other error."""
    text = " ".join(str(error).split())
    said: tuple[str, str, str, str] | None = None
    if isinstance(error, MemoryError):
        said = "memory", "none is left", "more", MEMORY
    elif isinstance(error, RuntimeError) and "start new thread" in text:
        said = "threads", text, "one more", f"{MEMORY}, or of processes (ulimit -u)"
    elif isinstance(error, ImportError) and any(words in text.lower() for words in UNMAPPED):
        said = "memory", text, "to load it", MEMORY
    elif any(each.__module__.startswith(CLIENTS) for each in type(error).__mro__):
        said = "network", text or type(error).__name__, "an answer", NETWORK
    elif isinstance(error, OSError) and error.errno is not None:
        reason, fix = os.strerror(error.errno), FIXES.get(error.errno)
        if error.errno == errno.ENAMETOOLONG:
            said = error.filename, reason, "a shorter one", "choose another"
        elif fix:
            said = error.filename or "this process", reason, "more", fix
        elif error.filename is None:
            said = "standard output", reason, "to write to it", "send it elsewhere"
    return said and ReasonpackError(*said)


def short_of_memory() -> ReasonpackError | None:
    """Return an error if memory is too short to load libraries, which would abort silently.

    None if there is enough, or if the system has no such limit.
    """
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= LEAST_MEMORY:
        return None
    expected = f"at least {LEAST_MEMORY >> 20:,} MiB for each process"
    fix = "raise the limit (ulimit -v)"
    return ReasonpackError("memory", f"limited to {limit >> 20:,} MiB", expected, fix)


class _ErrorsIgnored(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def mend_standard_streams() -> None:
    """Open missing standard streams on the null device.

    Otherwise the first files to be opened would take their descriptors, and receive what libraries
    print. Writing to a missing standard output is an error. Failing to write to standard error,
    which may be missing, full or a closed pipe, is not: no work depends on it.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:  # a stream that the caller set stays
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        buffer = sys.stderr.buffer if sys.stderr else open(2, "wb", closefd=False)  # noqa: SIM115
        sys.stderr = _ErrorsIgnored(buffer, encoding, "backslashreplace", line_buffering=True)


def give_up_standard_output_if_broken() -> None:
    """Point a broken standard output at the null device, or Python would complain again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
