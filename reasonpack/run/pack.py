"""A whole run: inputs → plan → units, on any engine → manifest.

    pack_files     all units, then the manifest
    pack_part      every Nth unit, on one of N machines       merge_parts     the manifest

After a run was stopped, the same call goes on with it: units whose receipt and shards are
intact are kept (`receipts.done_before`), the others are done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reasonpack.datasets.manifest import Manifest, Share
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import FormatError, UsageError
from reasonpack.records.group_index import Grouped
from reasonpack.records.plan import InputFile
from reasonpack.records.plan import plan as cut
from reasonpack.records.unit import Unit
from reasonpack.records.unknown import UnknownFieldError, together
from reasonpack.run.call_plan import INDEX as GROUPS
from reasonpack.run.call_plan import (
    First,
    PlannedCalls,
    check_columns,
    check_grouping,
    first_records,
    grouping_note,
    kind_of_inputs,
    plan_calls,
)
from reasonpack.run.context import Loaded
from reasonpack.run.copies import INDEX as COPIES
from reasonpack.run.disk import disk_advice
from reasonpack.run.engine import Run, backend_advice, each_files, results_of, shard_advice
from reasonpack.run.finish import end, same_files, summed
from reasonpack.run.lock import locked
from reasonpack.run.named_inputs import named_inputs, spooled, unpacked
from reasonpack.run.output_directory import at_work, claimed, sweep
from reasonpack.run.parts import pack_units
from reasonpack.run.plan_copies import with_copies
from reasonpack.run.plan_file import (
    Plan,
    known_calls,
    known_inputs,
    new_plan,
    planned_columns,
    read_plan,
)
from reasonpack.run.receipts import check_units, done_before
from reasonpack.run.samples_page import write_samples
from reasonpack.run.shuffle import in_stages
from reasonpack.run.stages import stage
from reasonpack.run.unit import Job, unknown_fields
from reasonpack.storage.inputs import check_name
from reasonpack.storage.place import Place, file_names, is_url, join, public_name, remove, stamp
from reasonpack.wording import count, listed

ALONE = Run()
"""A run in this process, without callbacks."""


def pack_files(
    inputs: Sequence[str],
    output: Place,
    options: Options,
    *,
    overwrite: bool = False,
    run: Run = ALONE,
) -> Manifest:
    """Pack chat files into a dataset directory, or go on with such a run that was stopped.

    Args:
        inputs: files, directories and URLs, each perhaps with a share; `-` is standard input.
        output: the directory to write, or its URL.
        options: how to read, lay out and write conversations.
        overwrite: first remove the files that a run left in `output`.
        run: processes or cluster, and callbacks.

    Raises:
        UsageError: `output` holds something else, or is in use.
        NothingPackedError: there was no record, or all were rejected.
        ReasonpackError: anything else that stopped the run; `output` then has no manifest.
    """
    loaded = Loaded(options, run.backend)
    with opened(inputs, output, loaded, run=run, overwrite=overwrite) as (plan, job):
        pack = partial(_receipts, loaded=loaded, run=run)
        receipts = in_stages(plan, job, run, pack)
        local = run.samples and not is_url(output)
        show = partial(write_samples, output, loaded.context.tokenizer) if local else None
        return end(output, plan, receipts, run.watch.on_note, show)


def pack_part(
    inputs: Sequence[str],
    output: Place,
    options: Options,
    *,
    index: int,
    count: int,
    run: Run = ALONE,
) -> Counts:
    """Pack one of `count` parts of the units; when all are done, `merge_parts` ends the run.

    The directory is the same for all parts, and `index` counts them from 0.

    Returns:
        The counts of this part's units.

    Raises:
        UsageError: there is no such part, `options` shuffle, or `output` holds something else.
        ReasonpackError: anything else that stopped it.
    """
    if not 0 <= index < count:
        raise UsageError(
            "--shard-index", index, f"0 to {count - 1}, one less than --shard-count", "count from 0"
        )
    if options.shuffle:
        fix = (
            "leave it out, merge the parts, and then: reasonpack repack DIR --shuffle --output NEW"
        )
        raise UsageError("--shuffle", "a part of a run", "a whole one", fix)
    part, loaded = (index, count), Loaded(options, run.backend)
    with opened(inputs, output, loaded, run=run, part=part) as (plan, job):
        return summed(_receipts(plan, job, _mine(plan, part), loaded=loaded, run=run))


def merge_parts(output: Place, on_note: Callable[[str], object] = lambda _: None) -> Manifest:
    """Check the receipts of all parts and write the manifest.

    `on_note` gets a line for the user if something needs attention.

    Raises:
        FormatError: there is no plan, or units are missing or were altered.
        NothingPackedError: no part holds a packed record.
        UsageError: a run is at work.
    """
    plan = read_plan(output)
    if plan is None:
        fix = "check the path, or pack first"
        raise FormatError(public_name(output), "no plan.json", "the directory of a run", fix)
    with locked(output):
        sweep(output)
        findings = check_units(output, plan, plan.units)
        missing = [
            f"{unit.number} ({finding or 'not done'})"
            for unit, finding in zip(plan.units, findings, strict=True)
            if not isinstance(finding, Receipt)
        ]
        if missing:
            what = f"units {listed(missing, most=8)}"
            fix = "pack again those parts; the part of a unit is its number modulo --shard-count"
            raise FormatError(
                public_name(output), what, f"all {count(len(plan.units), 'unit')}", fix
            )
        receipts = [finding for finding in findings if isinstance(finding, Receipt)]
        return end(output, plan, receipts, on_note)


@contextmanager
def opened(
    inputs: Sequence[str],
    output: Place,
    loaded: Loaded,
    *,
    run: Run,
    overwrite: bool = False,
    part: tuple[int, int] | None = None,
) -> Iterator[tuple[Plan, Job]]:
    """Lock an output directory and make or find the plan of a run in it.

    `part` is the index and number of parts. Yields the plan, and the job of its units.
    """
    options = loaded.options
    named_so = (options.tokenizer, options.chat_template or "", options.group_by)
    for each in (output, *named_so, *options.ignore_fields):
        check_name(each)
    with stage("start-up"):
        context = loaded.context
    for note in context.notes:
        run.watch.on_note(note)
    named, blend = named_inputs(inputs, without=output, on_note=run.watch.on_note)
    name = f"-{part[0]:05d}-of-{part[1]:05d}" if part else ""
    with (
        claimed(output, part=name, overwrite=overwrite),
        unpacked(run.temp_dir) as folder,
        spooled(named, folder if is_url(output) else output) as files,
    ):
        places = [place for place, _ in files]
        stamps = tuple(map(stamp, places))
        known = read_plan(output)
        more: dict[str, Any] = {"folder": folder, "output": output, "known": known}
        plan, calls, index = plan_run(files, blend, loaded, run=run, **more)
        if calls is None:  # calls may have ids only
            with stage("start-up"):
                context.tokenizer.load()
        # A view: a copy of the entries would stay in memory as long as the run.
        entries = calls.entries.view(np.uint8).data if calls else None
        own = _mine(plan, part) if part else None
        indexes = {GROUPS: entries, COPIES: index}
        with at_work(output, plan, known, indexes, own=own) as agreed:
            more = {"places": tuple(places), "stamps": stamps}
            if calls:
                # An agent's answers are there twice: as answers, and in the prompts that follow.
                more |= {"sources": calls.groups.sources, "input_bytes": calls.text_bytes // 2}
            yield agreed, Job.of(plan, output, **more)


def plan_run(
    files: Sequence[tuple[Place, str]],
    blend: Sequence[Share],
    loaded: Loaded,
    *,
    run: Run,
    folder: Path,
    output: Place = "",
    known: Plan | None = None,
) -> tuple[Plan, Grouped | None, bytes | None]:
    """Make the plan of a run.

    `folder` is for unpacked files; `known` is the plan in the directory `output`, if there is one.

    Returns:
        The plan; groups of calls, None for chats; `copies.index`, None if each is packed once.
    """
    options, context = loaded.options, loaded.context
    check_columns(options)
    with stage("plan"):
        grouped, size = None, run.unit_bytes
        firsts = first_records(files, options)
        kind = kind_of_inputs(firsts, options)
        check_grouping(options, kind)
        if kind != "chats":
            calls = known_calls(known, files, options, unit_bytes=size, output=output)
            grouped, columns = calls or _plan_calls(files, firsts, loaded, run, folder)
            inputs, units = grouped.inputs, grouped.units
            run.watch.on_note(grouping_note(grouped.grouping))
        else:
            inputs, units, columns = _plan_chats(files, loaded, run, known)
        plan = new_plan(
            options,
            unit_bytes=size,
            max_position=context.max_position,
            hashes=context.hashes,
            templates=context.templates,
            columns=list(columns),
            grouping=grouped.grouping if grouped else None,
            inputs=inputs,
            units=units,
            blend=list(blend),
        )
        places = [place for place, _ in files]
        plan, index = with_copies(plan, places, options, run, context.reading, grouped)
    for note in same_files(plan.inputs) if options.dedup == "none" else ():
        run.watch.on_note(note)
    return plan, grouped, index


def _plan_calls(
    files: Sequence[tuple[Place, str]],
    firsts: Mapping[str, First],
    loaded: Loaded,
    run: Run,
    folder: Path,
) -> PlannedCalls:
    """Return the groups and optional columns of calls."""
    are_copied = any(first.container not in {"plain", "array"} for first in firsts.values())
    has_text = any(first.has_text for first in firsts.values())
    load = loaded.context.tokenizer.load if has_text else None
    each = partial(each_files, run=run, share=3 if are_copied else 50, beside=load)
    size = run.unit_bytes
    return plan_calls(files, loaded.options, firsts, unit_bytes=size, folder=folder, each=each)


def _plan_chats(
    files: Sequence[tuple[Place, str]], loaded: Loaded, run: Run, known: Plan | None
) -> tuple[list[InputFile], list[Unit], tuple[str, ...]]:
    """Return the inputs, units and optional columns of chats."""
    options, size = loaded.options, run.unit_bytes
    loaded.context.check_template()
    there = known_inputs(known, size)
    each = partial(each_files, run=run, beside=loaded.context.tokenizer.load)
    weighted = options.loss_weights == "auto"
    inputs, units = cut(files, unit_bytes=size, known=there, weighted=weighted, each=each)
    return inputs, units, planned_columns(options, inputs)


def _mine(plan: Plan, part: tuple[int, int]) -> list[Unit]:
    return [unit for unit in plan.units if unit.number % part[1] == part[0]]


def _receipts(
    plan: Plan, job: Job, units: Sequence[Unit] | None = None, *, loaded: Loaded, run: Run
) -> list[Receipt]:
    """Do the units that are not done yet; return the receipts of `units`, or of all, in order."""
    units = plan.units if units is None else units
    done, todo = done_before(job.home, plan, units, run.watch)
    advice = backend_advice(job.input_bytes if todo else 0, run.backend)
    for each in advice, shard_advice(todo), disk_advice(job.output, plan.options, todo):
        if each:
            run.watch.on_note(each)
    told: set[str] = set()

    def add(unit: Unit, receipt: Receipt) -> None:
        done[unit.number] = receipt
        if receipt.backend_fault and receipt.backend_fault not in told:
            told.add(receipt.backend_fault)
            run.watch.on_note(f"{unit}: {receipt.backend_fault}; the ids are right")
        run.watch.on_receipt(receipt)

    try:
        pack_units(todo, job, loaded, add, run)
    except UnknownFieldError as error:
        if len(units) == len(plan.units):  # no run with this plan can get further
            for name in file_names(receipts_ := join(job.home, "receipts")):
                remove(join(receipts_, name))
        run.watch.on_note("found an unknown field: reading on to find all unknown fields")
        raise all_unknown(plan, job, run, loaded) or error from None
    return [done[unit.number] for unit in units]


def all_unknown(plan: Plan, job: Job, run: Run, loaded: Loaded) -> UnknownFieldError | None:
    """Read all of the input; return one error for all unknown fields, None without any."""
    found = results_of(plan.units, partial(unknown_fields, loaded=loaded, job=job), run)
    errors = [error for error in found if error]
    return together(errors) if errors else None
