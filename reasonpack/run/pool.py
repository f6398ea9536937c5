"""Work units → receipts, by processes of this machine.

    units  0 1 2 3 4 …          each worker has a pipe of its own, so that a process that dies
           │ │ │                is known by its unit, and disturbs no other
           A B C   ──→ receipts as they come

An engine is a function of units and of what to do with one; it yields what that returns.
What is raised does not depend on timing: the error of the first unit, in the order of the
plan, that has one.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from reasonpack.errors import ReasonpackError
from reasonpack.records.unit import Unit

Result = TypeVar("Result")
DEATHS = 2
"""How often a unit may kill its worker; the last time it is given up."""
REPAYING = {"fork": 2_000_000, "spawn": 12_000_000}
"""Bytes of input that take as long as to start a process for them, about: 0.2 s, and 1.5 s."""


class Given(Protocol):
    """What a process is given once, with which it does units; it pickles."""

    def load(self) -> object:
        """Make ready what doing a unit needs."""


def usable_cores() -> int:
    """Count the cores that this process may use, where the machine has more."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def repaid(input_bytes: int) -> int:
    """Count the processes whose start so much input repays."""
    return max(1, input_bytes // REPAYING[_start_method()])


def run_pool(
    units: Sequence[Unit],
    process: Callable[..., Result],
    *,
    workers: int,
    given: Given | None = None,
    started: Sequence[Worker] = (),
) -> Generator[Result, None, None]:
    """Do units in several processes.

    Close the iterator to stop early; the processes are then killed.

    `process` has to pickle; it is called with a unit, and what is `given`, if anything is. Some
    processes may be `started`, by `early_workers`, and given the same.

    Raises:
        Exception: what `process` raised for the first unit for which it did.
        ReasonpackError: that unit killed its process twice, or no process can start.
    """
    pool = _Pool(units, process, workers, given)
    pool.idle += started[: pool.size]
    try:
        yield from pool.results()
    finally:
        pool.stop()
    if pool.failed:
        raise pool.failed[min(pool.failed)]


class Worker(Struct, eq=False):
    """A process that does one unit after another, and the pipe to it.

    Attributes:
        process: it.
        pipe: units go there, results come from there.
        told: what it was last told to do with a unit.
        ready: whether it has said that it works.
    """

    process: BaseProcess
    pipe: Connection
    told: object = None
    ready: bool = False


class _Pool(Generic[Result]):
    """The state of one run: what is to do, who does what, what went wrong."""

    def __init__(
        self,
        units: Sequence[Unit],
        process: Callable[..., Result],
        workers: int,
        given: Given | None,
    ) -> None:
        self.todo = list(reversed(units))
        self.process, self.given = process, given
        self.size = min(workers, len(units))
        self.idle: list[Worker] = []
        self.busy: dict[Any, tuple[Worker, Unit]] = {}  # by pipe
        self.deaths: Counter[tuple[int, int]] = Counter()
        self.false_starts = 0
        self.failed: dict[tuple[int, int], BaseException] = {}

    def results(self) -> Iterator[Result]:
        """Yield results as they come, until all is done or nothing before a failure is left."""
        while self._goes_on():
            while self.todo and len(self.busy) < self.size:
                self._give(self.todo.pop())
            for pipe in wait(list(self.busy)):
                worker, unit = self.busy[pipe]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    del self.busy[pipe]
                    self._bury(worker, unit)
                    continue
                if answer is None:
                    worker.ready = True
                    continue
                del self.busy[pipe]
                self.idle.append(worker)
                result, error, trace = answer
                if error is None:
                    yield result
                else:
                    error.__cause__ = RemoteError(trace)
                    self._fail(unit, error)

    def _goes_on(self) -> bool:
        """Tell whether a unit is left that counts: after a failure only those before it do."""
        if not self.failed:
            return bool(self.todo or self.busy)
        first = min(self.failed)
        return any(unit.order < first for unit in self.todo) or any(
            unit.order < first for _, unit in self.busy.values()
        )

    def _give(self, unit: Unit) -> None:
        worker = self.idle.pop() if self.idle else _start(self.size, self.given)
        process = None if worker.told is self.process else self.process
        try:
            worker.pipe.send((process, unit))
        except OSError:  # it died while it had nothing to do
            self._bury(worker, unit)
            return
        worker.told = self.process
        self.busy[worker.pipe] = worker, unit

    def _bury(self, worker: Worker, unit: Unit) -> None:
        _kill(worker)
        if worker.ready:
            self.deaths[unit.order] += 1
            if self.deaths[unit.order] >= DEATHS:
                self._fail(unit, _killed(unit, worker))
                return
        else:
            self.false_starts += 1
            if self.false_starts > 2 * self.size:
                raise _no_start(worker)
        self.todo.append(unit)

    def _fail(self, unit: Unit, error: BaseException) -> None:
        self.failed[unit.order] = error
        self.todo = [other for other in self.todo if other.order < unit.order]

    def stop(self) -> None:
        """Kill every process; what it was writing has no name yet."""
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            _kill(worker)


@contextlib.contextmanager
def early_workers(count: int, given: Given) -> Iterator[Sequence[Worker]]:
    """Start processes for `run_pool` before it is known what they are to do.

    What they are given is loaded before they are forked, else in each of them while this one goes
    on; it may leave no thread. What that raises goes unnoticed: the work itself will say it.
    """
    if _start_method() == "fork":
        with contextlib.suppress(Exception):
            given.load()
    workers: list[Worker] = []
    try:
        workers.extend(_start(count, given, early=True) for _ in range(count))
        yield workers
    finally:
        for worker in workers:
            _kill(worker)


def _start_method() -> Literal["fork", "spawn"]:
    """Choose how processes come into being.

    One that is forked has all that is loaded, in memory that they share. That is safe only from a
    process of a single thread: others would be missing in it, with the locks that they hold.
    """
    with contextlib.suppress(OSError):  # what is not Linux has no such directory
        return "fork" if len(list(Path("/proc/self/task").iterdir())) == 1 else "spawn"
    return "spawn"


def _start(workers: int, given: Given | None, *, early: bool = False) -> Worker:
    """Start one of so many processes, which a Ctrl-C on the terminal does not reach.

    It inherits that signal blocked, so that none can strike before it ignores them.
    """
    context: Any = multiprocessing.get_context(_start_method())
    own, its = context.Pipe()
    threads = max(1, usable_cores() // workers)
    begun = its, threads, given, early, gc.get_threshold()
    process = context.Process(target=_work, args=begun, daemon=True)
    with _blocked_interrupt():
        process.start()
    its.close()
    return Worker(process, own)


@contextlib.contextmanager
def _blocked_interrupt() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _kill(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _work(
    pipe: Connection,
    threads: int,
    given: Given | None,
    early: bool,
    collected: tuple[int, int, int],
) -> None:
    """Do in a process what it is told to, until it is killed."""
    gc.set_threshold(*collected)  # a process that is spawned has Python's own
    _prepare(threads)
    if given and early:
        with contextlib.suppress(Exception):
            given.load()
    pipe.send(None)
    known: Callable[..., object] | None = None
    while True:
        process, unit = pipe.recv()
        known = process or known
        assert known is not None
        try:
            answer: Any = (attempt(known, unit, given), None, "")
        except BaseException as error:  # noqa: BLE001 (which the parent raises)
            answer = (None, error, traceback.format_exc())
        pipe.send(answer)


def _prepare(threads: int) -> None:
    """Begin a worker: no interrupts, its share of the cores, and no life after its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # The threads of tokenizers; they are counted when it is first used.
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    # Also with one: without its pool of threads it takes an eighth more time.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Stop at once when the parent is gone: its lock is free, and another run may begin."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class RemoteError(Exception):
    """Where in a worker an error came from."""


def done(process: Callable[..., Result], unit: Unit, given: Given | None) -> Result:
    """Do a unit, with what is given if anything is."""
    return process(unit) if given is None else process(unit, given)


def attempt(process: Callable[..., Result], unit: Unit, given: Given | None) -> Result:
    """Do a unit, and see that what it raises can be sent to the parent whole."""
    try:
        return done(process, unit, given)
    except Exception as error:
        try:
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
            whole = type(copy) is type(error) and str(copy) == str(error)
        except Exception:  # noqa: BLE001 (whatever its own methods raise)
            whole = False
        if whole:
            raise
        fix = "pass --num-proc 1 to see where it comes from"
        raise ReasonpackError("worker", f"{type(error).__name__}: {error}", "none", fix) from error


def _killed(unit: Unit, worker: Worker) -> ReasonpackError:
    return ReasonpackError(
        unit,
        f"its worker died {DEATHS} times, the last time with exit code {worker.process.exitcode}",
        "it to be packed",
        "if memory ran out (-9), use fewer workers (--num-proc); the same command keeps what is "
        "done and tries again",
    )


def _no_start(worker: Worker) -> ReasonpackError:
    what = f"processes die when they start, with exit code {worker.process.exitcode}"
    fix = "in a script, call this under `if __name__ == '__main__':`, or use one process"
    return ReasonpackError("worker", what, "them to work", fix)
