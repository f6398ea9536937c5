"""Work units → receipts, by processes of this machine.

    units  0 1 2 3 4 …          each worker is a pool of one process, so that a process that
           │ │ │                dies is known by its unit, and disturbs no other
           A B C   ──→ receipts as they come

An engine is a function of units and of what to do with one; it yields what that returns.
What is raised does not depend on timing: the error of the first unit, in the order of the
plan, that has one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from reasonpack.errors import ReasonpackError
from reasonpack.records.unit import Unit

Result = TypeVar("Result")
DEATHS = 2
"""How often a unit may kill its worker; the last time it is given up."""


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


def run_here(
    units: Sequence[Unit], process: Callable[[Unit], Result]
) -> Generator[Result, None, None]:
    """Do one unit after another in this process."""
    for unit in units:
        yield process(unit)


def run_pool(
    units: Sequence[Unit],
    process: Callable[[Unit], Result],
    *,
    workers: int,
    started: Sequence[Worker] = (),
) -> Generator[Result, None, None]:
    """Do units in several processes.

    Close the iterator to stop early; the processes are then killed.

    `process` has to pickle; some processes may be `started`, by `early_workers`.

    Raises:
        Exception: what `process` raised for the first unit for which it did.
        ReasonpackError: that unit killed its process twice, or no process can start.
    """
    pool = _Pool(units, process, workers)
    pool.idle += started[: pool.size]
    try:
        yield from pool.results()
    finally:
        pool.stop()
    if pool.failed:
        raise pool.failed[min(pool.failed)]


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and a pool that talks to it."""

    executor: ProcessPoolExecutor
    process: BaseProcess
    ready: Future[None]


class _Pool(Generic[Result]):
    """The state of one run: what is to do, who does what, what went wrong."""

    def __init__(
        self, units: Sequence[Unit], process: Callable[[Unit], Result], workers: int
    ) -> None:
        self.todo = list(reversed(units))
        self.process = process
        self.size = min(workers, len(units))
        self.idle: list[Worker] = []
        self.busy: dict[Future[Result], tuple[Worker, Unit]] = {}
        self.deaths: Counter[int] = Counter()
        self.false_starts = 0
        self.failed: dict[int, BaseException] = {}

    def results(self) -> Iterator[Result]:
        """Yield results as they come, until all is done or nothing before a failure is left."""
        while self._goes_on():
            while self.todo and len(self.busy) < self.size:
                self._give(self.todo.pop())
            done, _ = wait(self.busy, return_when=FIRST_COMPLETED)
            for future in done:
                worker, unit = self.busy.pop(future)
                error = future.exception()
                if error is None:
                    self.idle.append(worker)
                    yield future.result()
                elif isinstance(error, BrokenProcessPool):
                    self._bury(worker, unit)
                else:
                    self.idle.append(worker)
                    self._fail(unit, error)

    def _goes_on(self) -> bool:
        """Tell whether a unit is left that counts: after a failure only those before it do."""
        if not self.failed:
            return bool(self.todo or self.busy)
        first = min(self.failed)
        return any(unit.number < first for unit in self.todo) or any(
            unit.number < first for _, unit in self.busy.values()
        )

    def _give(self, unit: Unit) -> None:
        worker = self.idle.pop() if self.idle else _start(self.size)
        try:
            future = worker.executor.submit(attempt, self.process, unit)
        except BrokenProcessPool:  # it died while it had nothing to do
            _kill(worker)
            self.todo.append(unit)
            return
        self.busy[future] = worker, unit

    def _bury(self, worker: Worker, unit: Unit) -> None:
        _kill(worker)
        if worker.ready.exception() is None:
            self.deaths[unit.number] += 1
            if self.deaths[unit.number] >= DEATHS:
                self._fail(unit, _killed(unit, worker))
                return
        else:
            self.false_starts += 1
            if self.false_starts > 2 * self.size:
                raise _no_start(worker)
        self.todo.append(unit)

    def _fail(self, unit: Unit, error: BaseException) -> None:
        self.failed[unit.number] = error
        self.todo = [other for other in self.todo if other.number < unit.number]

    def stop(self) -> None:
        """Kill every process; what it was writing has no name yet."""
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            _kill(worker)


@contextlib.contextmanager
def early_workers(count: int, prepare: Callable[[], object]) -> Iterator[Sequence[Worker]]:
    """Start processes for `run_pool` that prepare themselves while this one makes the plan.

    What each does first has to pickle. What it raises goes unnoticed: the work itself will say it.
    """
    workers: list[Worker] = []
    try:
        for _ in range(count):
            workers.append(_start(count))
            with contextlib.suppress(BrokenProcessPool):  # died; the pool will see it too
                workers[-1].executor.submit(attempt, prepare)
        yield workers
    finally:
        for worker in workers:
            _kill(worker)


def _start(workers: int) -> Worker:
    """Start one of so many processes, which a Ctrl-C on the terminal does not reach.

    It inherits that signal blocked, so that none can strike before it ignores them.
    """
    executor = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(max(1, usable_cores() // workers),),
    )
    with _blocked_interrupt():
        ready = executor.submit(_nothing)
    (process,) = (executor._processes or {}).values()  # public from Python 3.14 on
    return Worker(executor, process, ready)


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
    worker.executor.shutdown(wait=True, cancel_futures=True)


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
        connection.wait([parent.sentinel])
        os._exit(1)


def _nothing() -> None:
    """Show that the process has started."""


def attempt(process: Callable[..., Result], *units: Unit) -> Result:
    """Do a unit, and see that what it raises can be sent to the parent whole."""
    try:
        return process(*units)
    except Exception as error:
        try:
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
            whole = type(copy) is type(error) and str(copy) == str(error)
        except Exception:  # noqa: BLE001 (whatever its own methods raise)
            whole = False
        if whole:
            raise
        raise ReasonpackError(
            "worker",
            f"{type(error).__name__}: {error}",
            "none",
            "pass --num-proc 1 to see where it comes from",
        ) from error


def _killed(unit: Unit, worker: Worker) -> ReasonpackError:
    return ReasonpackError(
        unit,
        f"its worker died {DEATHS} times, the last time with exit code {worker.process.exitcode}",
        "it to be packed",
        "if memory ran out (-9), use fewer workers (--num-proc); the same command keeps what is "
        "done and tries again",
    )


def _no_start(worker: Worker) -> ReasonpackError:
    return ReasonpackError(
        "worker",
        f"processes die when they start, with exit code {worker.process.exitcode}",
        "them to work",
        "in a script, call this under `if __name__ == '__main__':`, or use one process",
    )
