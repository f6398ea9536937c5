"""A dataset and its source → what is not the same in both.

    shards ─→ samples ─→ id, fingerprint ──┐
                                           ├─ by id ─→ equal, or not
    inputs ─→ records ─→ id, fingerprint ──┘

A fingerprint stands for the leaves of a conversation's tree of tokens and for all that is
trained. Shards and inputs are read side by side, as far as each receipt says that they
belong together, so that no more than one shard's fingerprints wait for their match. What
differs is read once more, to show where.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator

import numpy as np

from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import FormatError, RecordError, StorageError
from reasonpack.records.unit import Record
from reasonpack.verify.copies import Taken, taken_records
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.length import LeftOut
from reasonpack.verify.manifest import Dataset, RejectLine, read_rejects
from reasonpack.verify.match import NO_VIEWS, Join, Packed, Read, Reject, Thoughts, match
from reasonpack.verify.parts import PARTS, parts_of
from reasonpack.verify.paths import fingerprint
from reasonpack.verify.rebuilt import Rebuilt, whole_size, why_rejected
from reasonpack.verify.report import report
from reasonpack.verify.row import Row
from reasonpack.verify.shards import CheckedRow, checked_rows
from reasonpack.verify.source import Source, decoded, rebuild, records, taken

TESTED = ("json", "encoding", "duplicate-key", "overlong")
"""Reasons of rejects that are wrong where a record can be decoded, and its views fit."""
THOUGHT, RESPONSE = 1, 3
"""The kinds of trained tokens."""


def check_against(
    dataset: Dataset,
    source: Source,
    findings: Findings,
    *,
    sample: int | None = None,
    on_unit: Callable[[], object] = lambda: None,
) -> None:
    """Check a dataset and prove that it is what its source gives.

    Args:
        dataset: its manifest and receipts; the shards are checked here.
        source: the inputs, and how they were packed.
        findings: gets what is wrong.
        sample: how many conversations to compare, spread over the dataset; None for all.
            Records are read and matched by id in any case.
        on_unit: called when the shards of a unit are done.

    Raises:
        StorageError: an input cannot be read.
        TemplateError: the template cannot be trusted.
    """
    findings.taken = taken(source)
    rejects, left_out = _rejects(dataset)
    divided = dataset.manifest.layout == "npass" or dataset.manifest.counts.extra_samples > 0
    in_part = parts_of(dataset.manifest.options.train_on) != PARTS
    join = Join(_choose(dataset, sample), rejects, left_out, divided=divided, in_part=in_part)
    lines = zip(records(source), taken_records(source), strict=False)
    for number, receipt in enumerate(dataset.receipts):
        for checked in checked_rows(dataset, number, findings):
            _add_samples(join, checked)
        for record, taken_ in itertools.islice(lines, receipt.counts.records if receipt else 0):
            _add_record(join, record, source, findings, taken_)
        _match(join, findings)
        on_unit()
    for record, taken_ in lines:
        _add_record(join, record, source, findings, taken_)
    _match(join, findings)
    report(join, dataset, source, findings)
    for what, (number, first) in join.contradictions.items():
        said = f"{what}; of {number:,} messages, the first is in {first}"
        findings.add(Finding("RP313", "manifest.json", said))


def _match(join: Join, findings: Findings) -> None:
    for code, id_, sample, what in match(join):
        findings.add(Finding(code, sample.shard, what, sample.row, id_))


def _choose(dataset: Dataset, count: int | None) -> set[str] | None:
    """Choose `count` ids, one of each stretch of the dataset."""
    total = dataset.manifest.counts.samples
    if count is None or count >= total:
        return None
    random_ = random.Random(0)  # noqa: S311 (to spread, not to hide)
    bounds = [number * total // count for number in range(count + 1)]
    places = {random_.randrange(*stretch) for stretch in itertools.pairwise(bounds)}
    chosen: set[str] = set()
    due = 0
    for place, id_ in enumerate(_ids(dataset)):
        due += place in places
        if due and id_ not in chosen:
            chosen.add(id_)
            due -= 1
    return chosen


def _ids(dataset: Dataset) -> Iterator[str]:
    for shard in dataset.manifest.shards:
        try:
            place = place_of(dataset.directory, shard.path)
            with open_shard(place, unchecked=True) as opened:
                for group in opened.groups(["sample_id"]):
                    yield from group.column("sample_id").flatten().to_pylist()
        except (FormatError, StorageError, LookupError, ValueError):
            continue  # said when the shard is checked


def _rejects(dataset: Dataset) -> tuple[dict[str, list[Reject]], dict[str, list[LeftOut]]]:
    """Read the records that were rejected, and the messages that were left out, by `where`."""
    by_place: dict[str, list[Reject]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    try:
        for reject in read_rejects(dataset.directory):
            if reject.kind == "message":
                left_out.setdefault(reject.where, []).append(reject.left_out)
            else:
                by_place.setdefault(reject.where, []).append(_reject(reject))
    except ValueError:
        pass  # said when the dataset was read
    return by_place, left_out


def _reject(reject: RejectLine) -> Reject:
    if reject.kind == "conversation":
        return Reject(reject.reason, None)
    line = base64.b64decode(reject.record_base64 or "")
    if reject.record is not None:
        line = reject.record.encode("utf-8", "backslashreplace")
    return Reject(reject.reason, _digest(line))


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


# --- what waits for its match ----------------------------------------------------------


def _add_samples(join: Join, checked: CheckedRow) -> None:
    row, paths, stops = checked.row, checked.paths, checked.row.sample_stop
    for number, id_ in enumerate(row.sample_id):
        sample = Packed(checked.shard, checked.number, number, None)
        if paths is not None and join.compares(id_):
            here = slice(row.sample_start[number], stops[number])
            leaves = paths.seen[here][paths.leaf[here]]
            trained, weights = paths.trained[here], row.loss_weights
            own = None if weights is None else weights[here][trained]
            print_ = fingerprint(leaves, paths.predicted[here][trained], own)
            trains_ends = join.in_part or bool(trained[paths.leaf[here]].all())
            also = (_thoughts(row, here), leaves, trains_ends)
            sample = Packed(checked.shard, checked.number, number, print_, *also)
        join.touched[id_] = None
        join.packed.setdefault(id_, []).append(sample)


def _thoughts(row: Row, here: slice) -> Thoughts:
    """Count the trained tokens of a sample by message, and those of reasoning among them.

    A trained token of another kind than reasoning or response is counted as neither.
    """
    of = np.repeat(np.arange(len(row.segment_start)), row.segment_stop - row.segment_start)[here]
    of = of[row.trained[here]]
    kinds, messages = row.segment_kind[of], row.segment_message[of]
    counted = {}
    for message in np.unique(messages).tolist():
        mine = kinds[messages == message]
        thought, said = int((mine == THOUGHT).sum()), int((mine == RESPONSE).sum())
        counted[message] = (thought, thought, thought + said)
    return counted


def _add_record(
    join: Join, record: Record, source: Source, findings: Findings, taken_: Taken | None
) -> None:
    findings.count("records")
    times = 1 if taken_ is None else taken_.times
    if taken_ is not None and not times:
        findings.count("duplicates" if taken_.repeated else "not_taken")
        return
    rejected = _take_reject(join, record)
    id_: str | None = None
    rebuilt: Rebuilt | None = None
    try:
        value = decoded(record, source.reading)
        own = value.get("id")
        id_ = record.where if own in (None, "") else str(own)
        if join.chosen is None or (
            rejected is None and any(map(join.compares, _ids_of(id_, times)))
        ):
            rebuilt = rebuild(source, value, row=record.row is not None)
    except RecordError as error:
        rebuilt = Rebuilt(reason=error.reason, error=str(error))
    if rejected is None and (rebuilt is None or rebuilt.reason == "overlong"):
        rejected = _take_reject(join, record, id_)
    if rejected is not None:
        _check_reason(rejected, record, rebuilt, source, findings)
    elif id_ is None:
        assert rebuilt is not None
        what = f"neither packed nor rejected, and no conversation: {rebuilt.error}"
        findings.add(Finding("RP304", record.where, what))
    else:
        findings.count("copies", times - 1)
        for each in _ids_of(id_, times):
            join.touched[each] = None
            join.read.setdefault(each, []).append(_read(record, rebuilt, source, findings))
        _check_left_out(join, record, id_, rebuilt, findings)
        for what in rebuilt.contradictions if rebuilt is not None else ():
            number, first = join.contradictions.get(what, (0, record.where))
            join.contradictions[what] = (number + 1, first)


def _ids_of(id_: str, times: int) -> list[str]:
    """Name the samples of a record that is packed several times."""
    return [id_ if copy == 1 else f"{id_}#{copy}" for copy in range(1, times + 1)]


def _check_left_out(
    join: Join, record: Record, id_: str, rebuilt: Rebuilt | None, findings: Findings
) -> None:
    """Compare the messages of a record that were left out with those that are too long.

    They are known by the place of the record, or by its id in a dataset that was packed again.
    """
    if rebuilt is None or rebuilt.unknown or rebuilt.reason:
        for where in (record.where, id_):
            join.left_out.pop(where, None)
        return
    both = [join.left_out.get(where, []) for where in dict.fromkeys((record.where, id_))]
    for expected in rebuilt.left_out:
        findings.count("left out")
        of_message = [
            (line != expected, number, line)
            for number, lines in enumerate(both)
            for line in lines
            if line.message == expected.message
        ]
        _, number, found = min(of_message, default=(False, 0, None), key=lambda each: each[:2])
        if found is not None:
            both[number].remove(found)
        if found != expected:
            what = f"{found or 'no line in rejects.jsonl'}, expected {expected}"
            findings.add(Finding("RP314", record.where, what, message=expected.message))


def _read(record: Record, rebuilt: Rebuilt | None, source: Source, findings: Findings) -> Read:
    findings.count("packed")
    if rebuilt is None:
        return Read(record.where, None)
    if rebuilt.unknown:
        findings.leave(rebuilt.unknown, record.where)
        return Read(record.where, None)
    if rebuilt.reason:
        return Read(record.where, NO_VIEWS, rebuilt.error)
    findings.count("conversations")
    findings.count("views", len(rebuilt.views))
    findings.count("naive_tokens", sum(len(view.ids) for view in rebuilt.views))
    findings.count("missing_reasoning", rebuilt.untrained)
    if (most := source.manifest.options.max_length) and source.manifest.counts.extra_samples:
        whole = whole_size(rebuilt.views)
        findings.count("divided", whole > most)
        findings.count("whole tokens", whole)
        findings.count("npass_tokens", rebuilt.npass_tokens)
    for where, number in rebuilt.stops.items():
        findings.count(f"stops: {where}", number)
    return rebuilt.read(record.where)


def _take_reject(join: Join, record: Record, id_: str | None = None) -> Reject | None:
    """Take the reject of this record: of the same place and line, or of its id without any line."""
    waiting = join.rejects.get(record.where if id_ is None else id_, [])
    for reject in waiting:
        same_line = record.row is not None or reject.digest == _digest(record.line)
        if reject.digest is None or (id_ is None and same_line):
            waiting.remove(reject)
            return reject
    return None


def _check_reason(
    rejected: Reject, record: Record, rebuilt: Rebuilt | None, source: Source, findings: Findings
) -> None:
    """Compare a reject with what this check makes of its record.

    It may refuse what could be had, for pack has more rules than this check knows. Only a reason
    that can be tested by itself is held against it.
    """
    findings.count("rejects")
    if rebuilt is None:
        return
    if rebuilt.unknown:
        return
    reason = why_rejected(rebuilt, source.manifest)
    if reason == rejected.reason or (rebuilt.reason and rejected.reason not in TESTED):
        findings.count("rejects confirmed")
    elif rejected.reason in TESTED:
        expected = f"expected {reason!r}" if reason else "expected it packed"
        what = f"rejected for {rejected.reason!r}, {expected}"
        findings.add(Finding("RP307", record.where, what))
