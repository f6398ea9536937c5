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
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

from reasonpack.errors import ReasonpackError
from reasonpack.run.plan import Unit
from reasonpack.run.preload import REQUEST

__all__ = ["attempt", "preloaded", "run_here", "run_pool", "usable_cores"]

Result = TypeVar("Result")
FORKS = sys.platform == "linux"
"""Whether processes are forked, from one that has no threads; elsewhere they are spawned."""
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
) -> Generator[Result, None, None]:
    """Do units in several processes.

    Close the iterator to stop early; the processes are then killed.

    Args:
        units: what to do, in the order of the plan.
        process: what to do with one; it has to pickle.
        workers: how many processes.

    Raises:
        Exception: what `process` raised for the first unit for which it did.
        ReasonpackError: that unit killed its process twice, or no process can start.
    """
    pool = _Pool(units, process, workers)
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
def preloaded(request: str) -> Iterator[None]:
    """Have the processes of `run_pool` forked from one that loads what they need, meanwhile.

    What goes wrong there goes unnoticed: then each of them loads for itself, and says it. Where
    processes are not forked, or the program has such a process already, nothing is loaded.

    Args:
        request: for `reasonpack.run.preload`; empty to load nothing.
    """
    server: Any = forkserver._forkserver  # what follows is not public
    if not FORKS or server._forkserver_pid is not None:
        yield
        return
    os.environ[REQUEST] = request
    try:
        if request:
            _start_server()
        del os.environ[REQUEST]
        yield
    finally:
        os.environ.pop(REQUEST, None)
        if server._forkserver_pid is not None:
            os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()


def _start_server() -> None:
    """Start the process that others are forked from, unless there is one.

    It inherits the signal of a Ctrl-C blocked, and they from it, so that none can strike before
    they ignore it.
    """
    multiprocessing.set_forkserver_preload(["reasonpack.run.preload"])
    with _blocked_interrupt():
        forkserver.ensure_running()


def _start(workers: int) -> Worker:
    """Start one of so many processes, which a Ctrl-C on the terminal does not reach."""
    for attempts_left in (2, 1, 0):
        executor = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("forkserver" if FORKS else "spawn"),
            initializer=_prepare,
            # A process that was there before has the environment of its own start.
            initargs=(max(1, usable_cores() // workers), dict(os.environ)),
        )
        try:
            if FORKS:
                _start_server()
                ready = executor.submit(_nothing)  # waits for the server, which may be loading
            else:
                with _blocked_interrupt():
                    ready = executor.submit(_nothing)
        except (EOFError, ConnectionError):  # the server died; the next attempt starts another
            executor.shutdown(wait=False)
            if not attempts_left:
                raise
            continue
        (process,) = (executor._processes or {}).values()  # public from Python 3.14 on
        return Worker(executor, process, ready)
    raise AssertionError


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


def _prepare(threads: int, environment: Mapping[str, str]) -> None:
    """Begin a worker: no interrupts, its share of the cores, and no life after its parent's."""
    os.environ.clear()
    os.environ.update(environment)
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
        raise ReasonpackError(f"{type(error).__name__}: {error}") from error


def _killed(unit: Unit, worker: Worker) -> ReasonpackError:
    return ReasonpackError(
        f"{unit}: its worker died {DEATHS} times, the last time with exit code "
        f"{worker.process.exitcode}, expected it to be packed. Fix: if memory ran out (-9), use "
        "fewer workers (--num-proc); the same command keeps what is done and tries again."
    )


def _no_start(worker: Worker) -> ReasonpackError:
    return ReasonpackError(
        f"worker: processes die when they start, with exit code {worker.process.exitcode}, "
        "expected them to. Fix: in a script, call this under `if __name__ == '__main__':`, "
        "or use one process."
    )
