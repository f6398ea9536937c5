"""How a run is done: callbacks, this process, several or a cluster, and workers started early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.choices import Engine
from reasonpack.datasets.receipt import Receipt
from reasonpack.datasets.shares import STDIN, read_part
from reasonpack.errors import ReasonpackError
from reasonpack.records.plan import UNIT_BYTES, Named
from reasonpack.records.unit import Unit
from reasonpack.run.context import Loaded
from reasonpack.run.disk import unpacked_bytes
from reasonpack.run.plan_file import PLAN
from reasonpack.run.pool import (
    Given,
    Worker,
    call,
    early_workers,
    run_pool,
    usable_cores,
    worthwhile_workers,
)
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, is_url, stamp
from reasonpack.storage.read import container
from reasonpack.tokens.fast_backends import AUTO, Choice, installed

WORTH_ADVICE = 20_000_000
WORTH_STARTING = 4_000_000
"""Bytes of input from which a fast backend is advised, and workers start before the plan."""
Result = TypeVar("Result")


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


@contextmanager
def started_early(
    inputs: Sequence[str], output: Place, loaded: Loaded, *, run: Run, overwrite: bool = False
) -> Iterator[Sequence[Worker]]:
    """Start the workers of a long run before its plan is made; yield them, none if it is short.

    They load what they need while this process plans, or are forked while it has a single thread.
    """
    anew = overwrite or is_url(output) or not Path(output, PLAN).exists()
    several = run.engine == "local" and run.num_proc != 1 and anew
    size = _local_bytes(inputs, run) if several else 0
    workers = _most(run, size)
    if workers == 1 or size <= WORTH_STARTING:
        yield ()
        return
    loaded.input_bytes = size
    with early_workers(workers, loaded) as started:
        yield started


def _local_bytes(inputs: Sequence[str], run: Run) -> int:
    """Return the bytes of local inputs; 0 if they may make only one unit, or are not all local."""
    if STDIN in inputs or any(map(is_url, inputs)):
        return 0
    try:
        paths = [read_part(each).path for each in inputs]
        files = [Path(place) for place in expand_inputs(paths)]
        size = sum(file.stat().st_size for file in files)
        # One file of another kind may be one unit, which needs no process.
        several = len(files) > 1 or all(container(file) in {"plain", "array"} for file in files)
    except (OSError, ReasonpackError):  # reported when the plan is made
        return 0
    return size if several and size > run.unit_bytes else 0


def do_units(
    todo: Sequence[Unit],
    do: Callable[..., Result],
    then: Callable[[Result], object],
    run: Run,
    given: Given | None = None,
    started: Sequence[Worker] = (),
) -> None:
    """Call `do` with each unit, in this process, in several, or on a cluster.

    `do` gets a unit, and `given` unless that is None; both have to pickle. `then` gets each
    result as it comes, in this process.
    """
    if run.engine == "ray" and todo:
        from reasonpack.run.ray import run_ray  # noqa: PLC0415  an optional dependency

        results = run_ray(todo, do, workers=run.num_proc, given=given)
    elif (workers := processes(run, todo)) == 1:
        results = (call(do, unit, given) for unit in todo)
    else:
        results = run_pool(todo, do, workers=workers, given=given, started=started)
    with closing(results):
        for result in results:
            then(result)


def results_of(
    units: Sequence[Unit], do: Callable[..., Result], run: Run, given: Given | None = None
) -> list[Result]:
    """Call `do` with each unit as `do_units` does; return the results in the order of the units."""
    found: dict[int, Result] = {}
    do_units(units, partial(_numbered, do=do), lambda each: found.update([each]), run, given)
    return [found[unit.number] for unit in units]


def _numbered(
    unit: Unit, given: Given | None = None, *, do: Callable[..., Result]
) -> tuple[int, Result]:
    return unit.number, call(do, unit, given)


def each_file(
    do: Callable[[Named], Result], files: Sequence[Named], *, run: Run
) -> Iterable[Result]:
    """Return the results of `do` for each file, in order; in several processes for large files.

    `do` is taken to need a fiftieth of the time that packing the file needs.
    """
    if run.engine != "local" or any(is_url(place) for place, *_ in files):
        return map(do, files)
    sizes = [stamp_.bytes if (stamp_ := stamp(place)) else 0 for place, *_ in files]
    units = [
        Unit(number, number, file[1], "plain", 0, size, 1, size // 50)
        for number, (file, size) in enumerate(zip(files, sizes, strict=True))
    ]
    workers = min(processes(replace(run, num_proc=None), units), run.num_proc or len(units))
    return results_of(units, partial(_of_file, do=do, files=files), replace(run, num_proc=workers))


def _of_file(unit: Unit, *, do: Callable[[Named], Result], files: Sequence[Named]) -> Result:
    return do(files[unit.number])


def processes(run: Run, units: Sequence[Unit]) -> int:
    """Return how many processes do these units: as --num-proc says, else as the input justifies."""
    most = _most(run, sum(map(unpacked_bytes, units)))
    return most if run.num_proc else max(1, min(len(units), most))


def processes_a_unit(run: Run, units: Sequence[Unit]) -> int:
    """Return how many processes there are for each unit, rounded down; 1 on a cluster."""
    if run.engine != "local" or not units:
        return 1
    return _most(run, sum(map(unpacked_bytes, units))) // len(units)


def _most(run: Run, input_bytes: int) -> int:
    """Return how many processes were asked for, or else so much input justifies."""
    return run.num_proc or min(usable_cores(), worthwhile_workers(input_bytes))


def backend_advice(todo: Sequence[Unit], backend: Choice) -> str | None:
    """Return advice to install a fast backend if there is none and the input is large, or None."""
    input_bytes = sum(unit.input_bytes for unit in todo)
    if backend.name != "auto" or input_bytes < WORTH_ADVICE or installed():
        return None
    return (
        "tokenizers does the encoding, which takes most of the time; a checked fast backend "
        "would take about a tenth of that: pip install 'reasonpack[fast]'"
    )
