"""Finished datasets → one dataset, without tokenizing: other limits, packing, order or format.

    DIR…  ──→  plan.json, with the inputs, options and units of all  ──→  units  ──→  manifest
    unit: rows ─→ conversations ─→ laid out again if limits require it ─→ rows ─→ shard
                        └── conversations that no longer fit ──→ rejects

A unit of a source becomes a unit of the new dataset. As with `pack`, the same call goes on with a
run that was stopped.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Counts, Receipt, Shard, place_of
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError, UsageError
from reasonpack.records.plan import InputFile
from reasonpack.records.unit import Unit
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import planned
from reasonpack.run.context import Loaded
from reasonpack.run.copies import INDEX as COPIES
from reasonpack.run.copies import read_times
from reasonpack.run.engine import Run
from reasonpack.run.finish import end, same_files
from reasonpack.run.finished_unit import Again, Group, Old
from reasonpack.run.length import Limits
from reasonpack.run.output_directory import at_work, claimed
from reasonpack.run.pack import ALONE
from reasonpack.run.plan_copies import with_copies, with_old_copies
from reasonpack.run.plan_file import PLAN, Plan, new_plan, read_plan
from reasonpack.run.receipts import do_others, done_before
from reasonpack.run.records_again import ReadAgain
from reasonpack.run.shuffle import in_stages
from reasonpack.run.sources import Source, blend_of, longest_view, options_for, read_sources
from reasonpack.run.unit import Job, publish_unit
from reasonpack.run.work import Laid, counts_of_samples, ids_of_copies, without_rows
from reasonpack.storage.place import Place, is_url, public_name
from reasonpack.storage.read import digest, read_bytes


def repack(
    directories: Sequence[Place],
    output: Place,
    given: Mapping[str, Any],
    *,
    overwrite: bool = False,
    run: Run = ALONE,
) -> Manifest:
    """Pack finished datasets again, as one, or go on with such a run that was stopped.

    A directory that is named twice is packed twice. One that ends in `:N` is packed N times, its
    copies with ids of their own; for a fraction, or `#N` conversations, the inputs are read again.
    `given` are the options to change; see `sources.GIVEN`.

    Raises:
        UsageError: datasets or options do not go together, or `output` cannot be used.
        FormatError: a dataset is not whole, or its rows lack views of what is to be divided.
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
        if any(source.is_drawn for source in sources):
            places = [each.path for source in sources for each in source.manifest.inputs]
            reading = loaded.context.reading
            plan, index = with_copies(plan, places, plan.options, run, reading)
        else:
            plan, index = with_old_copies(plan, sources)
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
    """Return the field that grouped the records of each input; empty for chats."""
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
    old = [Old(source, receipt) for source in sources for receipt in source.units]

    def pack(plan: Plan, job: Job) -> list[Receipt]:
        done, todo = done_before(job.home, plan, plan.units, run.watch)
        do = partial(repack_unit, loaded=loaded, job=job, each_old=old)
        return do_others(done, todo, do, run)

    return in_stages(plan, Job.of(plan, output), run, pack)


# --- a unit ----------------------------------------------------------------------------


def repack_unit(unit: Unit, loaded: Loaded, job: Job, each_old: Sequence[Old]) -> Receipt:
    """Pack one unit again and publish its shards, its rejects and its receipt.

    `each_old` has for each unit the source's unit that it is made of.

    Raises:
        FormatError: a shard of the source is damaged, or lacks views that are to be laid out.
        UsageError: a conversation would be left without any view.
    """
    old, options = each_old[unit.number], job.plan.options
    receipt, records = old.receipt, ReadAgain(old, loaded)
    groups = {shard.split: _groups(_samples(old, shard), old) for shard in receipt.shards}
    if options.split != old.limits.options.split:
        groups = records.by_split([*itertools.chain.from_iterable(groups.values())])
    limits = Limits(options, job.plan.max_position)
    again, turns = Again(old, limits, groups), {}
    if again.weighs_anew and options.loss_weights == "turn":
        turns = records.turns(again.every)
    before: list[dict[str, Any]] = []  # what was left out before
    if receipt.rejects is not None:
        content = read_bytes(place_of(old.source.directory, receipt.rejects.path)) or b""
        before = [json.loads(line) for line in content.splitlines()]
    if old.source.is_drawn:
        again.drawn, again.counts = _drawn(again, records, before, unit, job)
    laid = Laid(backend=receipt.backend, backend_faults=[*filter(None, [receipt.backend_fault])])
    for split, samples in again.lay_out(turns).items():
        laid.samples += (made := _repeated(samples, again))
        laid.splits += [split] * len(made)
    laid.rejects = _rejects(again, before)
    laid.counts = _counts(again, laid)
    laid.put_into_rows(options)
    return publish_unit(unit, job, laid)


# --- a source → conversations ----------------------------------------------------------


def _samples(old: Old, shard: Shard) -> list[list[Sample]]:
    """Read the rows of a shard, each as its samples."""
    place = place_of(old.source.directory, shard.path)
    if digest(place) != (shard.bytes, shard.sha256):
        what = "it is not the shard that the manifest names"
        fix = "copy it again from where it was packed"
        raise FormatError(public_name(place), what, "a sound dataset", fix)
    return [row for batch in read_shard(place) for row in cut_rows(batch)]


def _groups(rows: Sequence[Sequence[Sample]], old: Old) -> list[Group]:
    """Return the samples of each conversation, in the order of the input if that is known.

    It is known if each row holds one sample, or if ids are places in the input.
    """
    samples, receipt = [sample for row in rows for sample in row], old.receipt
    if old.limits.options.layout == "onepass" and not receipt.counts.extra_samples:
        groups = [[sample] for sample in samples]
    else:
        by_id: dict[str, Group] = {}
        for sample in samples:
            by_id.setdefault(sample.id, []).append(sample)
        groups = list(by_id.values())
    places = [_place(group[0].id, receipt.unit) for group in groups]
    if len(samples) > len(rows) and None not in places:
        order = sorted(range(len(groups)), key=lambda each: places[each] or 0)
        groups = [groups[each] for each in order]
    return groups


def _place(id_: str, unit: Unit) -> int | None:
    """Return the number of the line or element that an id names; None if it names none.

    None for groups of calls too, since these have an order of their own.
    """
    match = re.fullmatch(r"(.*)(?::(\d+)|\[(\d+)\])(?:#\d+)?", id_, re.DOTALL)
    if match is None or match[1] != unit.name or unit.container == "groups":
        return None
    return int(match[2] or match[3])


def _repeated(samples: Sequence[Sample], again: Again) -> list[Sample]:
    """Repeat the samples of each conversation under the ids of its copies."""
    found: list[Sample] = []
    for id_, own in itertools.groupby(samples, key=lambda sample: sample.id):
        each = list(own)
        times = again.drawn.get(id_, again.old.source.times)
        found += (
            dataclasses.replace(one, id=copy) for copy in ids_of_copies(id_, times) for one in each
        )
    return found


# --- rejects and counts ----------------------------------------------------------------


def _drawn(
    again: Again, records: ReadAgain, left_out: Sequence[dict[str, Any]], unit: Unit, job: Job
) -> tuple[Mapping[str, int], Counts]:
    """Return how often each conversation is packed, by id, and the counts of those that are."""
    again.check_told()
    left = Counter(line["where"] for line in left_out if line.get("kind") == "message")
    times = read_times(job.output, job.plan.copies, unit.number)
    assert times is not None, "planned where conversations are drawn"
    often, drawn = records.drawn(again.every, times, left)
    rejects = (line for line in left_out if line.get("kind") != "message")
    counts = dataclasses.replace(
        again.counts,
        notes=drawn.notes,
        missing_reasoning=drawn.missing_reasoning,
        not_taken=drawn.not_taken,
    )
    counts.conversations -= counts.not_taken
    counts.rejected -= sum(often.get(line["where"]) == 0 for line in rejects)
    return often, counts


def _rejects(again: Again, before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return old lines of rejects.jsonl, with the limits that apply now, and new ones, in order."""
    lines = [_line_now(line, again.limits) for line in before if again.drawn.get(line["where"], 1)]
    lines += again.rejects
    places = [_place(line["where"], again.old.receipt.unit) for line in lines]
    if None in places:
        return lines
    order = sorted(range(len(lines)), key=lambda at: (places[at], lines[at].get("message", -1)))
    return [lines[at] for at in order]


_LIMIT = re.compile(
    r"of ([\d,]+) tokens, expected at most ([\d,]+ \((--[a-z-]+)\)\. Fix: raise \3)"
)
"""The length and the limit in the error of a conversation that is too long."""


def _line_now(line: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Return an old line of rejects.jsonl with the limit for which it would be left out now."""
    if line["reason"] == "overlong" and (found := _LIMIT.search(line["error"])):
        now = limits.too_long(0, int(found[1].replace(",", "")))
        said = now and f"{now.limit:,} ({now.option}). Fix: raise {now.option}"
        return {**line, "error": line["error"].replace(found[2], said or found[2])}
    if line.get("kind") != "message" or "tokens" not in line:
        return line
    left = limits.too_long(line["message"], line["tokens"])
    return left.line(line["where"]) if left else line


OF_CONVERSATIONS = (
    *("packed", "views", "missing_reasoning", "npass_tokens", "naive_tokens"),
    *("divided", "extra_samples", "extra_tokens"),
)
"""Counts that grow with each copy of a conversation, besides those of its samples."""


def _counts(again: Again, laid: Laid) -> Counts:
    """Return the counts of a unit: of its samples, and of the old receipt with what has changed."""
    found = Counter((line.get("kind") == "message", line["reason"]) for line in laid.rejects)
    left_out = {reason: number for (is_message, reason), number in found.items() if is_message}
    rejected = {reason: number for (is_message, reason), number in found.items() if not is_message}
    counts = dataclasses.replace(
        again.counts,
        left_out=dict(sorted(left_out.items())),
        rejects=dict(sorted(rejected.items())),
    )
    for name in (each.name for each in dataclasses.fields(Counts) if isinstance(each.default, int)):
        change = getattr(again.after, name) - getattr(again.before, name)
        setattr(counts, name, getattr(counts, name) + change)
    more = counts.packed * (again.old.source.times - 1)
    counts.copies += more
    counts.conversations += more
    for name in OF_CONVERSATIONS:
        setattr(counts, name, getattr(counts, name) * again.old.source.times)
    counts = without_rows(counts)
    counts.add(counts_of_samples(laid.samples))
    return counts
