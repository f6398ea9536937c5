"""Bounds on the time and memory that a chat template may take.

with bounds(name): …    ──→ TemplateError where it takes too long or too much memory
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
"""Longest that one compilation or rendering may take, in seconds of CPU time of its thread."""
SECONDS_TOGETHER = 30.0
"""Longest that the renderings by which a template is learned may take together, likewise."""
HEADROOM = 2 << 30
"""Memory that one compilation or rendering may add to the process, in bytes."""


_set_up = threading.local()


class _OutOfTime(BaseException):
    """Raised by the timer; not an Exception, so that no template filter can catch it."""


def _out_of_bounds(name: str, what: str) -> TemplateError:
    expected = f"a rendering within {SECONDS:g} s and {HEADROOM / 2**30:g} GiB"
    fix = "do not use this template, or mend the loop in it"
    return TemplateError(name, f"took {what}", expected, fix)


def out_of_memory(name: str) -> TemplateError:
    """Say that the template `name` took more memory than it may."""
    return _out_of_bounds(name, f"{HEADROOM / 2**30:g} GiB more")


def bounds(name: str) -> contextlib.AbstractContextManager[None]:
    """Bound the time and memory of what the template `name` does.

    The timer needs the main thread, the memory limit Linux; elsewhere the sandbox's
    own limits (range, repetition, recursion) remain.
    """
    return _Bounds(name) if getattr(_set_up, "done", False) else _bounds_alone(name)


@contextlib.contextmanager
def _bounds_alone(name: str) -> Iterator[None]:
    with ready_for_bounds(), _Bounds(name):
        yield


class _Bounds:
    """A block within bounds; `ready_for_bounds` is around it.

    The timer of the block before goes on, by the clock on the wall, which is never behind that of
    the CPU. When it rings, it is set to what is left for the block that there is then. So on a
    machine that is busy with other work, a block has no less time.
    """

    __slots__ = ("_began", "_name", "_seconds")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        left: float | None = getattr(_set_up, "left", None)
        self._seconds = SECONDS if left is None else max(1e-3, min(SECONDS, left))
        self._began = time.thread_time()
        # First: should the timer ring from now on, it is this block's.
        _set_up.due = due = self._began + self._seconds
        if _set_up.timed and due < _set_up.rings:
            _set_timer(due, self._seconds)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        _set_up.due = math.inf
        if getattr(_set_up, "left", None) is not None:
            _set_up.left -= time.thread_time() - self._began
        if isinstance(error, _OutOfTime):
            if self._seconds < SECONDS:
                raise _out_of_time_together(self._name) from None
            raise _out_of_bounds(self._name, f"more than {SECONDS:g} s") from None


def _set_timer(due: float, seconds: float) -> None:
    _set_up.rings = due
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _out_of_time_together(name: str) -> TemplateError:
    what = f"took more than {SECONDS_TOGETHER:g} s for a few small conversations"
    fix = "do not use this template, or mend the loop in it"
    return TemplateError(name, what, "some milliseconds each", fix)


@contextlib.contextmanager
def bounds_together() -> Iterator[None]:
    """Bound the time that all `bounds` in the block take together."""
    _set_up.left = SECONDS_TOGETHER
    try:
        yield
    finally:
        _set_up.left = None


@contextlib.contextmanager
def ready_for_bounds() -> Iterator[None]:
    """Set up once what many `bounds` in the block need; without it, each does so itself.

    The memory limit is then that of the block, and still each of them has its own time.
    """
    if getattr(_set_up, "done", False):
        yield
        return
    with _memory_limit():
        _set_up.timed = _timed()
        _set_up.due = _set_up.rings = math.inf
        previous = signal.signal(signal.SIGALRM, _on_alarm) if _set_up.timed else None
        _set_up.done = True
        try:
            yield
        finally:
            _set_up.done = False
            if _set_up.timed:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)


def _timed() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


def _on_alarm(_signum: int, _frame: object) -> None:
    """Stop the block that there is, if its time is over."""
    _set_up.rings = math.inf
    left = _set_up.due - time.thread_time()
    if left <= 0:
        raise _OutOfTime
    if left < math.inf:
        _set_timer(_set_up.due, left)


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
