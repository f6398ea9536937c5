"""A dataset and its source → findings where the two differ.

    shards ─→ samples ─→ id, fingerprint ──┐
                                           ├─ by id ─→ equal, or a finding
    inputs ─→ records ─→ id, fingerprint ──┘

A fingerprint is a hash of the leaves of a conversation's token tree and of its trained tokens.
Shards and inputs are read in step: a receipt says how many records a unit has. So only the
fingerprints of one unit are in memory, unless rows were shuffled. Conversations that differ are
read a second time to find the first token that differs.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace

from reasonpack.datasets.receipt import Receipt, place_of
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import FormatError, RecordError, StorageError
from reasonpack.records.unit import Record
from reasonpack.rows.kind import Kind
from reasonpack.verify.against_calls import add_groups
from reasonpack.verify.answer_parts import PARTS, parts_of
from reasonpack.verify.call_values import identities_in, of_row
from reasonpack.verify.copies import Copies, copies_of_groups, copies_of_records, count_not_packed
from reasonpack.verify.differences import report
from reasonpack.verify.findings import Findings
from reasonpack.verify.groups import find_groups, grouped_by
from reasonpack.verify.join import NO_VIEWS, TRAINED, Expected, Join, Kinds, Packed, match
from reasonpack.verify.manifest import Dataset
from reasonpack.verify.order import Order
from reasonpack.verify.paths import fingerprint
from reasonpack.verify.rebuilt import (
    Rebuilt,
    count_built,
    expect,
    not_rebuilt,
    weighed,
    why_rejected,
)
from reasonpack.verify.rejects import check_left_out, check_reason, read_all, take_reject
from reasonpack.verify.row import Row
from reasonpack.verify.shards import CheckedRow, checked_rows
from reasonpack.verify.source import Source, decoded, rebuild, records, taken_from_manifest
from reasonpack.wording import count


def check_against(
    dataset: Dataset,
    source: Source,
    findings: Findings,
    *,
    sample: int | None = None,
    on_unit: Callable[[], object] = lambda: None,
) -> None:
    """Check a dataset and compare it with its source; report differences to `findings`.

    Only `sample` conversations, spread over the dataset, are compared; None compares all. All
    records are read and matched by id in either case. `on_unit` is called after each unit.

    Raises:
        UsageError: the plan of a dataset of calls does not name the field that groups them.
        StorageError: an input or copies.index cannot be read.
    """
    findings.taken = taken_from_manifest(source)
    rejects, left_out = read_all(dataset)
    join = Join(dataset.manifest, findings, _choose(dataset, sample), rejects, left_out)
    findings.of_calls = join.of_calls
    if dataset.manifest.options.shuffle and None not in dataset.receipts:
        join.order = Order()
    done = upto = 0
    with ExitStack() as opened:
        adding = _adding(join, dataset, source, opened)
        for number, receipt in enumerate(dataset.receipts):
            for checked in checked_rows(dataset, number, findings):
                _add_samples(join, checked)
            if join.order is not None:
                join.order.unit = dataset.units[number]
            upto += _records_of(receipt)
            while done < upto:
                done = next(adding, upto)
            match(join)
            on_unit()
        deque(adding, maxlen=0)
        match(join)
        report(join, dataset, source)
    if join.order is not None:
        join.order.check(dataset.manifest, findings)
    for what, (number, first) in join.contradictions.items():
        said = f"{what}; of {count(number, 'message')}, the first is in {first}"
        findings.report("RP313", "manifest.json", said)


def _adding(join: Join, dataset: Dataset, source: Source, opened: ExitStack) -> Iterator[int]:
    """Add the records of the source to `join`; yield after each how many were added so far."""
    if join.of_calls:
        by = grouped_by(dataset)
        join.findings.taken.append("the field that groups the records")
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="reasonpack-")))
        groups = find_groups(source.files, by, folder)
        times = copies_of_groups(groups, source, dataset, join)
        yield from add_groups(join, source, groups, times)
        return
    lines = zip(records(source), copies_of_records(source, dataset, join), strict=False)
    for done, (record, copies) in enumerate(lines, 1):
        _add_record(join, record, source, copies)
        yield done


def _records_of(receipt: Receipt | None) -> int:
    """Return how many records a unit covers, 0 without a receipt; for calls, all of its groups."""
    if receipt is None:
        return 0
    unit = receipt.unit
    return unit.stop - unit.start if unit.container == "groups" else receipt.counts.records


def _choose(dataset: Dataset, number: int | None) -> set[str] | None:
    """Choose `number` ids of the dataset, the same ones each time; None for all."""
    if number is None or number >= dataset.manifest.counts.samples:
        return None
    ids = sorted({*_ids(dataset)})
    return {*random.Random(0).sample(ids, min(number, len(ids)))}  # noqa: S311 (not to hide)


def _ids(dataset: Dataset) -> Iterator[str]:
    for shard in dataset.manifest.shards:
        try:
            place = place_of(dataset.directory, shard.path)
            with open_shard(place, unchecked=True) as opened:
                for group in opened.groups(["sample_id"]):
                    yield from group.column("sample_id").flatten().to_pylist()
        except (FormatError, StorageError, LookupError, ValueError):
            continue  # reported when the shard is checked


# --- samples and records that wait for their match --------------------------------------


def _add_samples(join: Join, checked: CheckedRow) -> None:
    """Add the samples of a row; one that is not compared, or whose row has a fault, by its id."""
    row, paths = checked.row, checked.paths
    if join.order is not None:
        join.order.add_row(checked)
    in_part = join.of_calls or parts_of(join.manifest.options.train_on) != PARTS
    if paths is not None:
        target, trained, kinds = row.target, row.trained, _kinds(row)
        (weights, values), calls = of_row(row), identities_in(row)
    for number, id_ in enumerate(row.sample_id):
        sample = Packed(checked.shard, checked.number, number)
        if paths is not None and join.compares(id_):
            here = slice(int(row.sample_start[number]), int(row.sample_stop[number]))
            leaves, targets = (np.flatnonzero(of[here]) + here.start for of in (paths.leaf, target))
            beside = weights[targets], values[targets]
            sample = replace(
                sample,
                fingerprint=fingerprint(paths.seen[leaves], paths.predicted[targets], *beside),
                kinds=kinds[number],
                ends=paths.seen[leaves],
                trains_ends=in_part or bool(trained[leaves].all()),
                calls=frozenset(call.key for of, call in calls if of == number),
            )
        join.touched[id_] = None
        join.packed.setdefault(id_, []).append(sample)


def _kinds(row: Row) -> list[Kinds]:
    """Count the tokens of each sample by call, message and kind."""
    targets = np.add.reduceat(row.target.astype(int), row.segment_start)
    sizes, calls = row.segment_stop - row.segment_start, row.segment_call
    counted = [Kinds() for _ in row.sample_id]
    for at, start in enumerate(row.segment_start.tolist()):
        of = counted[row.sample_of(start)]
        id_ = row.call_id[calls[at]] if calls is not None and row.call_id and calls[at] >= 0 else ""
        message, kind = int(row.segment_message[at]), int(row.segment_kind[at])
        if kind in (Kind.CONTEXT, Kind.R_IN):
            of[id_, message, kind] += int(sizes[at])
        elif targets[at]:
            of[id_, message, kind] += int(targets[at])
            of[id_, message, TRAINED] += int(targets[at])
    return counted


def _add_record(join: Join, record: Record, source: Source, copies: Copies) -> None:
    findings, times = join.findings, copies.times
    findings.count("records")
    if not times:
        count_not_packed(copies, record.where, findings)
        return
    rejected = take_reject(join, record)
    id_: str | None = None
    rebuilt: Rebuilt | None = None
    try:
        value = decoded(record, source.reading)
        own = value.get("id")
        id_ = record.where if own in (None, "") else str(own)
        if join.chosen is None or (rejected is None and join.compares(id_, times)):
            rebuilt = rebuild(source, value, row=record.row is not None)
    except RecordError as error:
        rebuilt = not_rebuilt(error)
    if rejected is None and (rebuilt is None or rebuilt.reason == "overlong"):
        rejected = take_reject(join, record, id_)
    if rejected is not None:
        reason = "" if rebuilt is None else why_rejected(rebuilt, source.manifest)
        check_reason(rejected, record, rebuilt, reason, findings)
    elif id_ is None:
        assert rebuilt is not None
        what = f"neither packed nor rejected, and no conversation: {rebuilt.error}"
        findings.report("RP304", record.where, what)
    else:
        findings.count("copies", times - 1)
        if rebuilt is not None and rebuilt.unknown:
            findings.leave_unchecked(rebuilt.unknown, record.where)
        join.add_expected(id_, _expected(join, record, rebuilt, times), times)
        check_left_out(join, record, id_, rebuilt)


def _expected(join: Join, record: Record, rebuilt: Rebuilt | None, times: int) -> Expected:
    """Return what each of the `times` copies of a record is compared with, and count them all."""
    join.findings.count("packed", times)
    if rebuilt is None or rebuilt.unknown:
        return Expected(record.where, None)
    if rebuilt.reason:
        return Expected(record.where, NO_VIEWS, rebuilt.error)
    join.findings.count("conversations", times)
    count_built(join, rebuilt.built, record.where, times)
    views = weighed(rebuilt.views, rebuilt.long)
    return expect(join, views, record.where, rebuilt.split, times)
