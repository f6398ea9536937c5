"""Work units → receipts, by processes of this machine.

    units  0 1 2 3 4 …          each worker has a pipe of its own, so that the unit of a process
           │ │ │                that dies is known, and no other process is disturbed
           A B C   ──→ receipts as they come

An engine takes units and a function, calls it with each unit, and yields what it returns. If units
fail, the error of the first one in the plan is raised, whatever the timing.
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
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

from reasonpack.errors import ReasonpackError
from reasonpack.records.unit import Unit

Result = TypeVar("Result")
DEATHS = 2
"""How many deaths of its worker make a unit fail."""
START_COST = {"fork": 2_000_000, "spawn": 12_000_000}
"""Bytes of input that take as long as the start of a process, about: 0.2 s, and 1.5 s."""


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and its cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def worthwhile_workers(input_bytes: int) -> int:
    """Return how many processes are worth their start for so much input; at least 1."""
    return max(1, input_bytes // START_COST[start_method()])


def run_pool(
    units: Sequence[Unit],
    process: Callable[[Unit], Result],
    *,
    workers: int,
    beside: Callable[[], object] | None = None,
) -> Generator[tuple[Unit, Result], None, None]:
    """Call `process`, which has to pickle, with each unit in several processes.

    Yield each unit and its result as they come. Close the iterator to stop early; the processes
    are then killed. `beside` is called here once they are at work; an error of it is ignored.

    Raises:
        Exception: the error of the first unit, in the order of the plan, that has one.
        ReasonpackError: that unit's process died twice, or no process can start.
    """
    pool = _Pool(units, process, workers)
    try:
        pool.start()
        if beside:
            with contextlib.suppress(Exception):
                beside()
        yield from pool.results()
    finally:
        pool.stop()
    if pool.failed:
        raise pool.failed[min(pool.failed)]


class Worker(Struct, eq=False):
    """A process that does one unit after another, and the pipe to it.

    Units go into the pipe, results come from it. A worker is `ready` once it has reported that it
    has started.
    """

    process: BaseProcess
    pipe: Connection
    ready: bool = False


class _Pool(Generic[Result]):
    """The state of `run_pool`: units to do, idle and busy workers, failures."""

    def __init__(
        self, units: Sequence[Unit], process: Callable[[Unit], Result], workers: int
    ) -> None:
        self.todo, self.process = list(reversed(units)), process
        self.size = min(workers, len(units))
        self.idle: list[Worker] = []
        self.busy: dict[Any, tuple[Worker, Unit]] = {}  # by pipe
        self.deaths: Counter[tuple[int, int]] = Counter()
        self.false_starts = 0
        self.failed: dict[tuple[int, int], BaseException] = {}

    def start(self) -> None:
        """Give units to as many processes as are to be at work."""
        while self.todo and len(self.busy) < self.size:
            self._give(self.todo.pop())

    def results(self) -> Iterator[tuple[Unit, Result]]:
        """Yield results as they come, until all units, or all before a failed one, are done."""
        while self._goes_on():
            self.start()
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
                    yield unit, result
                else:
                    error.__cause__ = RemoteError(trace)
                    self._fail(unit, error)

    def _goes_on(self) -> bool:
        """Return whether units remain to be done; after a failure only those before it count."""
        if not self.failed:
            return bool(self.todo or self.busy)
        first = min(self.failed)
        return any(unit.order < first for unit in self.todo) or any(
            unit.order < first for _, unit in self.busy.values()
        )

    def _give(self, unit: Unit) -> None:
        worker = self.idle.pop() if self.idle else _start(self.size, self.process)
        try:
            worker.pipe.send(unit)
        except OSError:  # it died while it had nothing to do
            self._bury(worker, unit)
            return
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
        """Kill every process; a file that it was writing still has a temporary name."""
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            _kill(worker)


def start_method() -> Literal["fork", "spawn"]:
    """Choose how to start processes.

    A forked process shares the memory of all that is loaded. Forking is safe only from a process
    with a single thread: locks that other threads hold would never be released in the new one.
    """
    with contextlib.suppress(OSError):  # only Linux has this directory
        return "fork" if len(list(Path("/proc/self/task").iterdir())) == 1 else "spawn"
    return "spawn"


def _start(workers: int, process: Callable[[Unit], object]) -> Worker:
    """Start one of `workers` processes, which ignores a Ctrl-C on the terminal.

    It inherits the signal blocked, so that none arrives before it is ignored.
    """
    context: Any = multiprocessing.get_context(start_method())
    own, its = context.Pipe()
    threads = max(1, usable_cores() // workers)
    begun = its, threads, process, gc.get_threshold()
    started = context.Process(target=_work, args=begun, daemon=True)
    with _blocked_interrupt():
        started.start()
    its.close()
    return Worker(started, own)


@contextlib.contextmanager
def _blocked_interrupt() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if start_method() == "spawn":
        resource_tracker.ensure_running()  # starting it would end with the signal unblocked
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
    process: Callable[[Unit], object],
    collected: tuple[int, int, int],
) -> None:
    """Do the units that come through the pipe, in a worker, until it is killed."""
    gc.set_threshold(*collected)  # a spawned process has Python's default
    _prepare(threads)
    pipe.send(None)
    while True:
        unit = pipe.recv()
        try:
            answer: Any = (attempt(process, unit), None, "")
        except BaseException as error:  # noqa: BLE001 (the parent raises it)
            answer = (None, error, traceback.format_exc())
        pipe.send(answer)


def _prepare(threads: int) -> None:
    """Set up a worker: ignore interrupts, use a share of the cores, die with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # The number of threads of tokenizers, which reads it when it is first used.
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    # Also with one thread: without a pool of threads tokenizers takes an eighth more time.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Exit at once when the parent is gone: its lock is released, so another run may begin."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class RemoteError(Exception):
    """The traceback of an error in a worker."""


def attempt(process: Callable[[Unit], Result], unit: Unit) -> Result:
    """Do a unit; replace an error that cannot be pickled, and so not be sent to the parent."""
    try:
        return process(unit)
    except Exception as error:
        try:
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
            whole = type(copy) is type(error) and str(copy) == str(error)
        except Exception:  # noqa: BLE001 (whatever its own methods raise)
            whole = False
        if whole:
            raise
        fix = "pass --num-proc 1 to see where it comes from"
        what = f"{type(error).__name__}: {error}"
        raise ReasonpackError("worker", what, "no error", fix) from error


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
    return ReasonpackError("worker", what, "them to start", fix)
