"""A unit of a finished dataset → the unit of a new one: its samples, cut, divided and packed anew.

rows ─→ samples ─→ conversations ─→ laid out again where limits ask for it ─→ rows ─→ shard
                        └── what fits no longer ──→ rejects
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from reasonpack.datasets.receipt import Counts, Receipt, Shard, place_of, read_receipt
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError
from reasonpack.records.unit import Unit
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.rows.sample import Sample
from reasonpack.run.context import Loaded
from reasonpack.run.copies import read_times
from reasonpack.run.lay_out_again import Again, Group, Old
from reasonpack.run.length import Limits
from reasonpack.run.read_again import ReadAgain
from reasonpack.run.unit import Job, publish_unit
from reasonpack.run.work import Laid, count_samples, ids_of_copies, without_rows
from reasonpack.storage.place import public_name
from reasonpack.storage.read import digest, read_bytes


def repack_unit(unit: Unit, loaded: Loaded, job: Job, each_old: Sequence[Old]) -> Receipt:
    """Pack one unit again and publish its shards, its rejects and its receipt.

    `each_old` is for each unit the one that it is made of.

    Raises:
        FormatError: a shard of the source is damaged, or does not tell what it was made of.
        UsageError: a conversation would be left without any view.
    """
    old, options = each_old[unit.number], job.options
    receipt = read_receipt(old.directory, old.number)
    groups = {shard.split: _groups(_samples(old, shard), receipt, old) for shard in receipt.shards}
    records = ReadAgain(old, receipt, loaded)
    if options.split != old.limits.options.split:
        groups = records.by_split([*itertools.chain.from_iterable(groups.values())])
    limits = Limits(options, job.plan.max_position)
    again, turns = Again(old, receipt, limits, groups), {}
    if again.weighs_anew and options.loss_weights == "turn":
        turns = records.turns(again.every)
    before: list[dict[str, Any]] = []  # what was left out before
    if receipt.rejects is not None:
        content = read_bytes(place_of(old.directory, receipt.rejects.path)) or b""
        before = [json.loads(line) for line in content.splitlines()]
    if old.is_drawn:
        _draw(again, records, before, unit, job)
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
    place = place_of(old.directory, shard.path)
    if digest(place) != (shard.bytes, shard.sha256):
        what = "it is not the shard that the manifest names"
        fix = "copy it again from where it was packed"
        raise FormatError(public_name(place), what, "a sound dataset", fix)
    return [row for batch in read_shard(place) for row in cut_rows(batch)]


def _groups(rows: Sequence[Sequence[Sample]], receipt: Receipt, old: Old) -> list[Group]:
    """Put the samples of each conversation together, in the order of the input if that is known.

    It is where each row holds one sample, or where ids are places in the input.
    """
    samples = [sample for row in rows for sample in row]
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

    Nor does it where a unit is of groups of calls, which are in an order of their own.
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
        times = again.drawn.get(id_, again.old.times)
        found += (
            dataclasses.replace(one, id=copy) for copy in ids_of_copies(id_, times) for one in each
        )
    return found


# --- what is said of it ----------------------------------------------------------------


def _draw(
    again: Again, records: ReadAgain, left_out: Sequence[dict[str, Any]], unit: Unit, job: Job
) -> None:
    """Say how often each conversation is packed, and count those that are not."""
    again.check_told()
    left = Counter(line["where"] for line in left_out if line.get("kind") == "message")
    times = read_times(job.output, job.plan.copies, unit.number)
    assert times is not None, "planned where conversations are drawn"
    drawn = records.drawn(again.every, times, left)
    rejects = (line for line in left_out if line.get("kind") != "message")
    counts = dataclasses.replace(
        again.receipt.counts,
        notes=drawn.counts.notes,
        missing_reasoning=drawn.counts.missing_reasoning,
        not_taken=drawn.counts.not_taken,
    )
    counts.conversations -= counts.not_taken
    counts.rejected -= sum(drawn.times.get(line["where"]) == 0 for line in rejects)
    again.drawn, again.receipt = drawn.times, dataclasses.replace(again.receipt, counts=counts)


def _rejects(again: Again, before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was left out before, with the limit that leaves it out now, and what is since."""
    receipt = again.receipt
    lines = [_line_now(line, again.limits) for line in before if again.drawn.get(line["where"], 1)]
    lines += again.rejects
    places = [_place(line["where"], receipt.unit) for line in lines]
    if None in places:
        return lines
    order = sorted(range(len(lines)), key=lambda at: (places[at], lines[at].get("message", -1)))
    return [lines[at] for at in order]


_LIMIT = re.compile(
    r"of ([\d,]+) tokens, expected at most ([\d,]+ \((--[a-z-]+)\)\. Fix: raise \3)"
)
"""What the refusal of a conversation that is too long says of its length and of the limit."""


def _line_now(line: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Give a message or a conversation that was left out the limit for which it would be now."""
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
"""Counts that a copy of a conversation adds to, beside those of its samples."""


def _counts(again: Again, laid: Laid) -> Counts:
    """Count samples anew; of the rest the receipt tells, but for what was laid out anew."""
    found = Counter((line.get("kind") == "message", line["reason"]) for line in laid.rejects)
    left_out = {reason: number for (is_message, reason), number in found.items() if is_message}
    rejected = {reason: number for (is_message, reason), number in found.items() if not is_message}
    counts = dataclasses.replace(
        again.receipt.counts,
        left_out=dict(sorted(left_out.items())),
        rejects=dict(sorted(rejected.items())),
    )
    for name in (each.name for each in dataclasses.fields(Counts) if isinstance(each.default, int)):
        change = getattr(again.after, name) - getattr(again.before, name)
        setattr(counts, name, getattr(counts, name) + change)
    more = counts.packed * (again.old.times - 1)
    counts.copies += more
    counts.conversations += more
    for name in OF_CONVERSATIONS:
        setattr(counts, name, getattr(counts, name) * again.old.times)
    counts = without_rows(counts)
    count_samples(laid.samples, counts)
    return counts
