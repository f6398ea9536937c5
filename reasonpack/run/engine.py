"""How a run is done: callbacks; in this process, in several, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.choices import Engine
from reasonpack.datasets.receipt import Receipt
from reasonpack.records.plan import UNIT_BYTES
from reasonpack.records.unit import Unit
from reasonpack.run.disk import unpacked_bytes
from reasonpack.run.pool import run_pool, start_method, usable_cores, worthwhile_workers
from reasonpack.storage.place import is_url, local_size
from reasonpack.tokens.fast_backends import AUTO, Choice, installed
from reasonpack.wording import count

WORTH_ADVICE = 20_000_000
"""Bytes of input from which a fast backend is advised."""
MANY_UNITS, SMALL_UNIT = 1_000, 1_000_000
"""If more inputs than this make units of fewer bytes on average, it is said that they are small."""
WORTH_BESIDE = 20_000_000
"""Bytes of files from which they are read by another process while this one loads something."""
Result = TypeVar("Result")
File = TypeVar("File", bound=tuple[Any, ...])


def _ignore(*_: object) -> None:
    pass


class Watch(Struct, frozen=True, kw_only=True):
    """Callbacks of a run.

    Attributes:
        on_plan: gets the units, and the receipts of those that are done already.
        on_receipt: gets the receipt of each unit when it is done.
        on_note: gets a line for the user if something needs attention; it may quote file names.
    """

    on_plan: Callable[[Sequence[Unit], Sequence[Receipt]], None] = _ignore
    on_receipt: Callable[[Receipt], None] = _ignore
    on_note: Callable[[str], None] = _ignore


class Run(Struct, frozen=True, kw_only=True):
    """How a run is done; the bytes of its output depend on `unit_bytes` only.

    Attributes:
        unit_bytes: input bytes of a unit, about.
        num_proc: worker processes; None for one per core, fewer if the input is small.
        engine: processes of this machine, or tasks of a Ray cluster.
        watch: callbacks.
        backend: choice of what encodes texts; the ids are the same with all backends.
        samples: whether a whole run on this machine writes `samples.html`.
        temp_dir: where compressed files of calls are unpacked, and standard input is stored if
            the output is a URL; None for the system's directory.
    """

    unit_bytes: int = UNIT_BYTES
    num_proc: int | None = 1
    engine: Engine = "local"
    watch: Watch = Watch()
    backend: Choice = AUTO
    samples: bool = False
    temp_dir: str | None = None


def do_units(
    todo: Sequence[Unit],
    do: Callable[[Unit], Result],
    then: Callable[[Unit, Result], object],
    run: Run,
) -> None:
    """Call `do` with each unit, in this process, in several, or on a cluster.

    `do` has to pickle. `then` gets each unit and its result as they come, in this process.
    """
    if run.engine == "ray" and todo:
        from reasonpack.run.ray import run_ray  # noqa: PLC0415  an optional dependency

        results = run_ray(todo, do, workers=run.num_proc)
    elif (workers := processes(run, todo)) == 1:
        results = ((unit, do(unit)) for unit in todo)
    else:
        results = run_pool(todo, do, workers=workers)
    with closing(results):
        for unit, result in results:
            then(unit, result)


def results_of(units: Sequence[Unit], do: Callable[[Unit], Result], run: Run) -> list[Result]:
    """Call `do` with each unit as `do_units` does; return the results in the order of the units."""
    found: dict[int, Result] = {}
    do_units(units, do, lambda unit, result: found.update({unit.number: result}), run)
    return [found[unit.number] for unit in units]


def each_files(
    do: Callable[[Sequence[File]], Result],
    lists: Sequence[Sequence[File]],
    *,
    run: Run,
    share: int = 50,
    beside: Callable[[], object] | None = None,
) -> Iterable[Result]:
    """Return the results of `do` for each list of files, in order; of large ones by processes.

    The first two of a file are its place and its name. `do` is taken to need a `share`-th of the
    time that packing the files needs. If other processes do it, `beside` is called here meanwhile.
    """
    if run.engine != "local" or any(is_url(place) for files in lists for place, *_ in files):
        return map(do, lists)
    sizes = [sum(local_size(place) for place, *_ in files) for files in lists]
    units = [
        Unit(number, number, files[0][1], "plain", 0, size, 1, size // share)
        for number, (files, size) in enumerate(zip(lists, sizes, strict=True))
    ]
    workers = min(processes(replace(run, num_proc=None), units), run.num_proc or len(units))
    has_two = run.num_proc != 1 and usable_cores() > 1 and start_method() == "fork"
    if workers == 1 and not (beside and has_two and sum(sizes) >= WORTH_BESIDE):
        return map(do, lists)
    do_one = partial(_of_files, do=do, lists=lists)
    found = dict(run_pool(units, do_one, workers=workers, beside=beside))
    return [found[unit] for unit in units]


def _of_files(
    unit: Unit, *, do: Callable[[Sequence[File]], Result], lists: Sequence[Sequence[File]]
) -> Result:
    return do(lists[unit.number])


def processes(run: Run, units: Sequence[Unit]) -> int:
    """Return how many processes do these units: as --num-proc says, else as the input justifies."""
    return run.num_proc or max(1, min(len(units), most_processes(run, units)))


def most_processes(run: Run, units: Sequence[Unit]) -> int:
    """Return how many processes were asked for, or else so much input justifies."""
    worthwhile = worthwhile_workers(sum(map(unpacked_bytes, units)))
    return run.num_proc or min(usable_cores(), worthwhile)


def backend_advice(input_bytes: int, backend: Choice) -> str | None:
    """Return advice to install a fast backend if there is none and the input is large, or None."""
    if backend.name != "auto" or input_bytes < WORTH_ADVICE or installed():
        return None
    return (
        "tokenizers does the encoding, which takes most of the time; a checked fast backend "
        "would take about a tenth of that: pip install 'reasonpack[fast]'"
    )


def shard_advice(units: Sequence[Unit]) -> str | None:
    """Return advice to join inputs if there are many small ones, which become a shard each."""
    size = sum(unit.input_bytes for unit in units) / max(1, len(units))
    if len({unit.input for unit in units}) <= MANY_UNITS or size >= SMALL_UNIT:
        return None
    return (
        f"{count(len(units), 'unit')} of {size:,.0f} bytes on average, one or more for each input: "
        "each becomes a shard, and fills rows by itself; join small inputs, as by "
        "cat DIR/*.jsonl > chats.jsonl"
    )
