"""Work units → receipts, by tasks of a Ray cluster; and packing inside a Ray Data pipeline.

    reasonpack pack … --engine ray      the cluster that RAY_ADDRESS names, else this machine
    dataset.map_batches(pack_table)     rows of chats in, packed rows out, no directory

Every node has to reach input, output and tokenizer under the same names: on a shared file
system, or by URLs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from types import FrameType
from typing import Any, TypeVar

import pyarrow as pa

from reasonpack.datasets.options import Options
from reasonpack.errors import ReasonpackError, UsageError
from reasonpack.records.row_files import rows_of
from reasonpack.records.unit import Record, Unit
from reasonpack.run.context import loaded_here
from reasonpack.run.pool import DEATHS, attempt
from reasonpack.run.unit import pack_records
from reasonpack.wording import one_line, printable

__all__ = ["pack_table", "run_ray"]

Result = TypeVar("Result")
LOST_NODES = 20
"""How many losses of its node make a unit fail; they are hardly its own fault."""

CONNECT_SECONDS = 30
"""Seconds in which the cluster of RAY_ADDRESS has to accept a connection."""

WAIT_SECONDS = 0.2
"""Seconds of one wait for a result, and so the most until a Ctrl-C takes effect."""


def run_ray(
    units: Sequence[Unit], process: Callable[[Unit], Result], *, workers: int | None = None
) -> Generator[tuple[Unit, Result], None, None]:
    """Call `process` with each unit, as Ray tasks of one core each.

    Yield each unit and its result as they come.

    Errors are those of `run_pool`: of the first unit that has one. Tasks that are running
    when the iterator is closed are cancelled.

    `workers` is the number of cores to use if Ray is started here; a cluster has its own number.

    Raises:
        UsageError: Ray is not installed, or no cluster answers at RAY_ADDRESS.
    """
    ray = _ray()
    began = not ray.is_initialized()
    try:
        with _late_interrupt():
            if began:
                _join(ray, workers)
            task = ray.remote(num_cpus=1, max_retries=0)(_attempt)
        yield from _results(ray, task, units, process)
    finally:
        if began:
            with _late_interrupt():
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise UsageError(
            "--engine ray", "Ray is not installed", "it to be", "pip install 'reasonpack[ray]'"
        ) from error
    return ray


def _join(ray: Any, workers: int | None) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine.

    Raises:
        UsageError: no cluster answers there.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(address="local", num_cpus=workers, log_to_driver=False, include_dashboard=False)
        return
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(log_to_driver=False)
    except (OSError, ValueError, OverflowError) as error:
        what = f"no cluster answers at {printable(address)} ({one_line(error)})"
        fix = "start it (ray start --head), correct the address, or unset it to use this machine"
        raise UsageError("RAY_ADDRESS", what, "the address of one that runs", fix) from error


@contextlib.contextmanager
def _late_interrupt() -> Iterator[None]:
    """Delay a Ctrl-C to the end of the block: within Ray it causes hangs or crashes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def _attempt(process: Callable[[Unit], Result], unit: Unit) -> Result:
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # a task has one core
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    return attempt(process, unit)


def _results(
    ray: Any, task: Any, units: Sequence[Unit], process: Callable[[Unit], Result]
) -> Generator[tuple[Unit, Result], None, None]:
    with _late_interrupt():
        shared = ray.put(process)
        running = {task.remote(shared, unit): unit for unit in units}
    deaths: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    failed: dict[int, BaseException] = {}
    try:
        while any(not failed or unit.number < min(failed) for unit in running.values()):
            with _late_interrupt():
                ready, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
            if not ready:
                continue
            (reference,) = ready
            unit = running.pop(reference)
            try:
                with _late_interrupt():
                    result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                failed[unit.number] = error.cause if error.cause is not None else error
            except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
                lost[unit.number] += 1
                if lost[unit.number] >= LOST_NODES:
                    failed[unit.number] = _gone(unit, error)
            except ray.exceptions.RayError as error:
                deaths[unit.number] += 1
                if deaths[unit.number] >= DEATHS:
                    failed[unit.number] = _gone(unit, error)
            else:
                yield unit, result
                continue
            if unit.number not in failed:
                with _late_interrupt():
                    running[task.remote(shared, unit)] = unit
    finally:
        with _late_interrupt():
            for reference in running:
                ray.cancel(reference, force=True)
    if failed:
        raise failed[min(failed)]


def _gone(unit: Unit, error: BaseException) -> ReasonpackError:
    return ReasonpackError(
        unit,
        f"its worker died again ({one_line(error)})",
        "it to be packed",
        "if memory ran out, let fewer run at once (--num-proc; in a cluster, fewer CPUs a node); "
        "the same command keeps what is done and tries again",
    )


def pack_table(table: pa.Table, options: Options) -> pa.Table:
    """Pack chats within a pipeline, as the function of `map_batches` in Ray Data.

        dataset.map_batches(
            pack_table,
            batch_format="pyarrow",
            batch_size=5_000,
            fn_kwargs={"options": Options(tokenizer="Qwen/Qwen3-8B")},
        )

    Rows of a batch are packed with each other only. A chat without an id of its own has its
    number in the batch as its id.

    Args:
        table: chats, a row each, in any of the dialects that files may have.
        options: how to read and lay out chats.

    Returns:
        Packed rows, with the columns that `schemas/FORMAT.md` describes.

    Raises:
        RecordError: a chat that cannot be packed.
        UsageError: options that leave out chats, since a table has no place for rejects.
    """
    if options.on_error == "skip" or options.overlong == "skip":
        expected = "to stop at them, since a batch has no place for rejects"
        fix = "leave on_error and overlong at their defaults, or use pack_files"
        raise UsageError("pack_table", "skips records", expected, fix)
    rows = chain.from_iterable(map(rows_of, table.to_batches()))
    records = (Record(f"batch:{number}", *row) for number, row in enumerate(rows, 1))
    return pack_records(records, options, loaded_here(options).context)
