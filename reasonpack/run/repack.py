"""Finished datasets → one, without tokenizing: shortened, divided or joined anew, packed anew.

    DIR…  ──→  plan.json, with the inputs, options and units of all  ──→  units  ──→  manifest

A unit of a source becomes a unit of the new dataset. What stops a run does no more harm than to
`pack`: the same call goes on with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Receipt
from reasonpack.errors import FormatError, UsageError
from reasonpack.records.plan import InputFile
from reasonpack.records.unit import Unit
from reasonpack.rows.schema import planned
from reasonpack.run.context import Loaded
from reasonpack.run.copies import INDEX as COPIES
from reasonpack.run.engine import Run
from reasonpack.run.finish import end, same_files
from reasonpack.run.lay_out_again import Old
from reasonpack.run.length import Limits
from reasonpack.run.output_directory import at_work, claimed
from reasonpack.run.pack import ALONE
from reasonpack.run.plan_copies import with_copies
from reasonpack.run.plan_file import PLAN, Plan, new_plan, read_plan
from reasonpack.run.receipts import add_receipts, done_before
from reasonpack.run.repack_unit import repack_unit
from reasonpack.run.shuffle import in_stages
from reasonpack.run.sources import Source, blend_of, longest_view, options_for, read_sources
from reasonpack.run.unit import Job
from reasonpack.storage.place import Place, is_url, public_name


def repack(
    directories: Sequence[Place],
    output: Place,
    given: Mapping[str, Any],
    *,
    overwrite: bool = False,
    run: Run = ALONE,
) -> Manifest:
    """Pack finished datasets again, as one, or go on where such a run was stopped.

    A directory that is named twice is there twice, one that ends in `:N` N times, with ids of their
    own. For a fraction, or `#N` conversations, the inputs are read again. `given` are options that
    are to be others than they were; see `sources.GIVEN`.

    Raises:
        UsageError: datasets or options that do not go together, or `output` is no place for it.
        FormatError: a dataset is not whole, or its rows do not tell what is to be divided.
    """
    sources = read_sources(directories)
    for source in sources:
        _refuse_itself(source.directory, output)
    plan = _plan(sources, given)
    loaded = Loaded(plan.options)
    with claimed(output, overwrite=overwrite):
        known = read_plan(output)
        for note in same_files(plan.inputs):
            run.watch.on_note(note)
        index = None
        if any(source.is_drawn for source in sources):
            places = [each.path for source in sources for each in source.manifest.inputs]
            of = (plan, places, plan.options, run, loaded.context.reading)
            plan, index = with_copies(*of, output=output, known=known)
        with at_work(output, plan, known, {COPIES: index}) as agreed:
            receipts = _receipts(output, agreed, sources, run, loaded)
            return end(output, agreed, receipts, run.watch.on_note)


def _refuse_itself(directory: Place, output: Place) -> None:
    same = str(directory).rstrip("/") == str(output).rstrip("/")
    if not (is_url(directory) or is_url(output)):
        same = os.path.realpath(directory) == os.path.realpath(output)
    if same:
        what = f"{public_name(output)} is a dataset that is to be packed again"
        raise UsageError("--output", what, "another directory", "choose another --output")


def _plan(sources: Sequence[Source], given: Mapping[str, Any]) -> Plan:
    """Make the plan of a run from the inputs and the units of its sources."""
    options, manifest = options_for(sources, given), sources[0].manifest
    inputs: list[InputFile] = []
    units: list[Unit] = []
    sizes = {source.manifest.unit_bytes for source in sources}
    for source in sources:
        for receipt in source.units:
            old = receipt.unit
            units.append(replace(old, number=len(units), input=len(inputs) + old.input))
        inputs += [InputFile(each.path, each.bytes, each.sha256) for each in source.manifest.inputs]
    return new_plan(
        options,
        unit_bytes=sizes.pop() if len(sizes) == 1 else 0,
        max_position=longest_view(sources, options),
        hashes={"tokenizer": manifest.tokenizer_sha256, "template": manifest.template_sha256},
        templates=manifest.templates,
        columns=list(planned([*manifest.columns, *options.columns])),
        grouping=None,
        inputs=inputs,
        units=units,
        sources=[source.origin for source in sources],
        grouped_by=_grouped_by(sources),
        blend=blend_of(sources),
    )


def _grouped_by(sources: Sequence[Source]) -> list[str]:
    """Return the field that grouped the records of each input; nothing where there are no calls."""
    found: list[str] = []
    for source in sources if "call_id" in sources[0].manifest.columns else ():
        if (plan := read_plan(source.directory)) is None:
            what = f"no {PLAN}, which says how its calls are grouped"
            fix = "copy it again from where it was packed"
            raise FormatError(source.name, what, "a whole dataset", fix)
        fields = plan.grouping and [plan.grouping.field] * len(plan.inputs)
        found += fields or plan.grouped_by
    return found


def _receipts(
    output: Place, plan: Plan, sources: Sequence[Source], run: Run, loaded: Loaded
) -> list[Receipt]:
    """Do the units that are not done yet; return the receipts of all, in order."""
    old: list[Old] = []
    for source in sources:
        limits = Limits(source.manifest.options, source.manifest.max_position)
        inputs = tuple(each.path for each in source.manifest.inputs)
        of = (limits, source.times, inputs, source.is_drawn)
        old += [Old(source.directory, each.unit.number, *of) for each in source.units]

    def pack(plan: Plan, job: Job) -> list[Receipt]:
        done, todo = done_before(job.home, plan, plan.units, run.watch)
        add_receipts(done, todo, partial(repack_unit, job=job, each_old=old), run, loaded)
        return [done[unit.number] for unit in plan.units]

    return in_stages(plan, Job.of(plan, output, plan.options), run, pack)
