"""Inputs of chats or calls → records that cannot be packed, by reason; nothing is written.

Every record is read, rendered, encoded and laid out, as `pack` does it. If records have unknown
fields, all records are laid out again without these fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct, field

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.records.group_index import Grouping
from reasonpack.records.unit import Unit
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Run, results_of
from reasonpack.run.named_inputs import unpacked
from reasonpack.run.pack import all_unknown, opened
from reasonpack.run.parts import load_for_all
from reasonpack.run.plan_file import Plan
from reasonpack.run.unit import Job, lay_out_unit
from reasonpack.show.rejects import reject_lines, rejected
from reasonpack.wording import count


class Records(Struct):
    """How many records can be packed, and why others cannot.

    Attributes:
        counts: of all records.
        first: one error for each reason, with its place.
        grouping: how calls are grouped; None for chats.
    """

    counts: Counts = field(default_factory=Counts)
    first: dict[str, str] = field(default_factory=dict)
    grouping: Grouping | None = None

    @property
    def read(self) -> int:
        """How many records were read."""
        return self.grouping.records if self.grouping else self.counts.conversations


def check_records(inputs: Sequence[str], options: Options, run: Run) -> Records:
    """Lay out all records of the inputs as `pack` would.

    Raises:
        ReasonpackError: an input does not exist or cannot be read.
    """
    options = dataclasses.replace(options, on_error="skip")
    loaded = Loaded(options, run.backend)
    with (
        unpacked(run.temp_dir) as folder,
        opened(inputs, str(folder / "check"), loaded, run=run) as (plan, job),
    ):
        try:
            return _of_units(plan, job, run, loaded)
        except UnknownFieldError as error:
            unknown = all_unknown(plan, job, run, loaded) or error
            names = tuple({each.name for each in unknown.fields})
            without = dataclasses.replace(options, ignore_fields=(*options.ignore_fields, *names))
            found = _of_units(plan, job, run, Loaded(without, run.backend))
    found.counts.rejects[unknown.reason] = sum(each.count for each in unknown.fields)
    found.first[unknown.reason] = str(unknown)
    return found


def _of_units(plan: Plan, job: Job, run: Run, loaded: Loaded) -> Records:
    found = Records(grouping=plan.grouping)
    load_for_all(loaded, plan.units, job, run)
    for each in results_of(plan.units, partial(_of_unit, loaded=loaded, job=job), run):
        found.counts.add(each.counts)
        found.first = {**each.first, **found.first}
    return found


def _of_unit(unit: Unit, loaded: Loaded, job: Job) -> Records:
    laid = lay_out_unit(unit, loaded, job)
    first = {each["reason"]: each["error"] for each in reversed(laid.rejects)}
    return Records(laid.counts, first)


def record_lines(found: Records) -> Iterator[tuple[str, str]]:
    """Yield the result as lines, each a label and a text."""
    counts = found.counts
    groups = f" in {count(found.grouping.groups, 'group')}" if found.grouping else ""
    yield (
        "records",
        f"{found.read:,} read{groups}, {count(counts.views, 'answer')} could be trained",
    )
    yield from reject_lines(counts, found.first)
    if not counts.reasons:
        yield "sound", "pack takes all of them"


def records_json(found: Records) -> dict[str, Any]:
    """Return the result as values for JSON."""
    return {
        "ok": not found.counts.reasons,
        "records": found.read,
        "answers": found.counts.views,
        "faults": {
            each.reason: {
                "meaning": each.words,
                "kind": each.kind,
                "count": each.count,
                "example": each.example,
            }
            for each in rejected(found.counts, found.first)
        },
    }
