"""Bounds on the time and memory that a chat template may take.

with bounds(name): …    ──→ TemplateError if the block takes too much time or memory
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

from reasonpack.errors import TemplateError

SECONDS = 10.0
"""Limit of one compilation or rendering, in seconds of its thread's CPU time."""
SECONDS_TOGETHER = 30.0
"""Limit of all renderings in a `bounds_together` block, which learns a template; CPU seconds."""
HEADROOM = 2 << 30
"""Memory that one compilation or rendering may add to the process, in bytes."""


class _SetUp(threading.local):
    """What `ready_for_bounds` installed in this thread, and what limits its current block."""

    done = timed = False
    due = math.inf
    left: float | None = None


_set_up = _SetUp()


class _OutOfTime(BaseException):
    """Raised by the timer; not an Exception, so that no template filter can catch it."""


def _out_of_bounds(name: str, what: str) -> TemplateError:
    expected = f"a rendering within {SECONDS:g} s and {HEADROOM / 2**30:g} GiB"
    fix = "do not use this template, or mend the loop in it"
    return TemplateError(name, f"took {what}", expected, fix)


def out_of_memory(name: str) -> TemplateError:
    """Return the error that says that the template `name` took too much memory."""
    return _out_of_bounds(name, f"{HEADROOM / 2**30:g} GiB more")


@contextlib.contextmanager
def bounds(name: str) -> Iterator[None]:
    """Limit the time and memory of the block, in which the template `name` runs.

    The timer needs the main thread, the memory limit Linux; elsewhere only the sandbox's own
    limits (range, repetition, recursion) hold. The limit is CPU time; the timer measures
    wall-clock time, which passes at least as fast. When it fires, it is set again to what the
    block has left. So a block gets its full CPU time on a busy machine.
    """
    with ready_for_bounds():
        left, began = _set_up.left, time.thread_time()
        seconds = SECONDS if left is None else max(1e-3, min(SECONDS, left))
        _set_up.due = began + seconds
        if _set_up.timed:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        except _OutOfTime:
            if seconds == SECONDS:
                raise _out_of_bounds(name, f"more than {SECONDS:g} s") from None
            what = f"took more than {SECONDS_TOGETHER:g} s for a few small conversations"
            fix = "do not use this template, or mend the loop in it"
            raise TemplateError(name, what, "some milliseconds each", fix) from None
        finally:
            _set_up.due = math.inf
            if left is not None:
                _set_up.left = left - (time.thread_time() - began)


@contextlib.contextmanager
def bounds_together() -> Iterator[None]:
    """Limit the total time of all `bounds` within the block."""
    _set_up.left = SECONDS_TOGETHER
    try:
        yield
    finally:
        _set_up.left = None


@contextlib.contextmanager
def ready_for_bounds() -> Iterator[None]:
    """Install the timer and the memory limit once for all `bounds` within the block.

    Without this, each of them does so itself. Each still has its own time limit; the memory limit
    holds for the whole block.
    """
    if _set_up.done:
        yield
        return
    with _memory_limit():
        is_main = threading.current_thread() is threading.main_thread()
        _set_up.timed = is_main and hasattr(signal, "setitimer")
        previous = signal.signal(signal.SIGALRM, _on_alarm) if _set_up.timed else None
        _set_up.done = True
        try:
            yield
        finally:
            _set_up.done = False
            if _set_up.timed:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)


def _on_alarm(_signum: int, _frame: object) -> None:
    """Interrupt the current block if its CPU time is used up, else set the timer again."""
    left = _set_up.due - time.thread_time()
    if left <= 0:
        raise _OutOfTime
    if left < math.inf:
        signal.setitimer(signal.ITIMER_REAL, left)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    try:
        import resource  # noqa: PLC0415 (not on every platform)

        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 (often done)
            pages = int(file.read(64).split(maxsplit=1)[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + HEADROOM
    tighter = [limit for limit in (soft, hard, wanted) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(tighter), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
