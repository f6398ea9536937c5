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


class _State(threading.local):
    """What is installed in this thread, and what limits its current block."""

    caught = ready = armed = False
    due = math.inf
    left: float | None = None


_state = _State()


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
    if not _state.ready:
        with ready_for_bounds(), bounds(name):
            yield
        return
    left, began = _state.left, time.thread_time()
    seconds = SECONDS if left is None else max(1e-3, min(SECONDS, left))
    _state.due = began + seconds
    if _state.caught and not _state.armed:
        _state.armed = True
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
        _state.due = math.inf
        if left is not None:
            _state.left = left - (time.thread_time() - began)


@contextlib.contextmanager
def bounds_together() -> Iterator[None]:
    """Limit the total time of all `bounds` within the block."""
    _state.left = SECONDS_TOGETHER
    try:
        yield
    finally:
        _state.left = None


@contextlib.contextmanager
def ready_for_bounds() -> Iterator[None]:
    """Set the memory limit and stop the timer once for all `bounds` within the block.

    Without this, each of them does so itself. Each still has its own time limit; the memory limit
    holds for the whole block.
    """
    if _state.ready:
        yield
        return
    with _memory_limit(), catching_alarms():
        _state.ready = True
        try:
            yield
        finally:
            _state.ready = False
            if _state.armed:
                _state.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def catching_alarms() -> Iterator[None]:
    """Install the handler of the timer once for all blocks with a timer within this one."""
    is_main = threading.current_thread() is threading.main_thread()
    if _state.caught or not (is_main and hasattr(signal, "setitimer")):
        yield
        return
    previous = signal.signal(signal.SIGALRM, _on_alarm)
    _state.caught = True
    try:
        yield
    finally:
        _state.caught = False
        signal.signal(signal.SIGALRM, previous)


def _on_alarm(_signum: int, _frame: object) -> None:
    """Interrupt the current block if its CPU time is used up, else set the timer again."""
    left = _state.due - time.thread_time()
    _state.armed = 0 < left < math.inf
    if _state.armed:
        signal.setitimer(signal.ITIMER_REAL, left)
    elif left <= 0:
        raise _OutOfTime


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    try:
        import resource  # noqa: PLC0415 (not on every platform)

        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 (often done)
            taken = int(file.read(64).split(maxsplit=1)[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = (soft, hard, taken * resource.getpagesize() + HEADROOM)
    tighter = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(tighter), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
