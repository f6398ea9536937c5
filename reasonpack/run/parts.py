"""Fewer units than processes → parts of units, which several processes lay out at the same time.

    unit 0 ─┬─ lines 1 to 260     ── process A ──→ samples ─┐
            └─ lines 261 to 498   ── process B ──→ samples ─┴─→ rows ─→ the shard of unit 0

The published files are those of the whole unit, byte for byte, because a sample depends only on
its own record. Samples go through a pipe, which takes a twentieth more CPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from reasonpack.datasets.receipt import MOST_NOTES, Receipt
from reasonpack.errors import RecordError
from reasonpack.records.plan import divide
from reasonpack.records.unit import Unit
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Run, do_units, most_processes, processes
from reasonpack.run.plan_file import Plan
from reasonpack.run.pool import start_method
from reasonpack.run.unit import Job, lay_out_unit, process, publish_unit
from reasonpack.run.work import Laid
from reasonpack.storage.place import Place


def pack_units(
    todo: Sequence[Unit],
    job: Job,
    loaded: Loaded,
    then: Callable[[Unit, Receipt], object],
    run: Run,
) -> None:
    """Pack units, in parts if there are more processes than units; see `do_units`."""
    parts = parts_of(todo, job.plan, job.places, run)
    every = [part for own in parts.values() for part in own]
    of: dict[str, Any] = {"loaded": loaded, "job": job}
    load_for_all(loaded, every or todo, job, run)
    if len(every) <= len(todo):
        do_units(todo, partial(process, **of), then, run)
        return
    whole = {unit.number: unit for unit in todo}
    done: defaultdict[Unit, dict[int, Laid]] = defaultdict(dict)

    def put(part: Unit, laid: Laid) -> None:
        unit = whole[part.number]
        done[unit][part.start] = laid
        if len(done[unit]) == len(parts[unit]):
            in_order = [each for _, each in sorted(done.pop(unit).items())]
            then(unit, _published(unit, loaded, job, in_order))

    try:
        do_units(every, partial(lay_out_unit, **of), put, run)
    except UnknownFieldError:
        raise
    except RecordError:  # an earlier record may fail too: only whole units tell the first one
        do_units(todo, partial(process, **of), then, replace(run, num_proc=1))


def load_for_all(loaded: Loaded, units: Sequence[Unit], job: Job, run: Run) -> None:
    """Load what units need before several processes are forked for them, so once for all."""
    several = run.engine == "local" and units and processes(run, units) > 1
    if several and job.input_bytes and start_method() == "fork":
        with suppress(Exception):  # the units will raise it
            loaded.load(job.input_bytes)


def parts_of(
    units: Sequence[Unit], plan: Plan, places: Sequence[Place], run: Run
) -> dict[Unit, list[Unit]]:
    """Divide each unit into a part per process that it gets; empty if that is at most one."""
    one_each = plan.grouping is None and plan.copies is None
    divides = run.engine == "local" and units and one_each
    most = most_processes(run, units) // len(units) if divides else 1
    return {unit: divide(unit, places[unit.input], most) for unit in units if most > 1}


def _published(unit: Unit, loaded: Loaded, job: Job, parts: Sequence[Laid]) -> Receipt:
    """Join the parts of a unit, and publish it."""
    if len({note for laid in parts for note in laid.counts.notes}) > MOST_NOTES:
        return process(unit, loaded, job)  # the order of records decides which are counted
    whole = Laid()
    for laid in parts:
        whole.add(laid)
    whole.put_into_rows(job.plan.options)
    return publish_unit(unit, job, whole)
