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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import quoted
from reasonpack.run.plan import Record
from reasonpack.verify.difference import Sample, explain
from reasonpack.verify.findings import KEPT, Finding, Findings
from reasonpack.verify.manifest import Dataset, place_of, read_rejects
from reasonpack.verify.paths import Print, fingerprint, together
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import DAMAGE, CheckedRow, checked_rows, read_groups, read_rows
from reasonpack.verify.source import Rebuilt, Source, parse, rebuild, records, why_rejected

__all__ = ["check_against"]

NO_VIEWS: Print = (0, 0, 0, 0)
"""Stands for a record whose views cannot be built."""
UNREAD = ("RP004", "RP008", "RP101", "RP103")
"""Violations that leave rows of a shard unread."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """A sample of the dataset; no print where it is not to be compared."""

    shard: int
    row: int
    number: int
    print: Print | None


@dataclass(frozen=True, slots=True)
class _Read:
    """A record of the input; no print where it is not to be compared."""

    where: str
    print: Print | None
    error: str = ""


_One = TypeVar("_One", _Packed, _Read)


@dataclass(frozen=True, slots=True)
class _Different:
    """Samples and records of one id that are not each other's; at least one of both."""

    id: str
    packed: list[_Packed]
    read: list[_Read]


@dataclass(frozen=True, slots=True)
class _Reject:
    reason: str
    digest: bytes


@dataclass(slots=True)
class _Join:
    """What has no match yet: samples and records by id, rejects by place.

    `chosen` are the ids to compare, None for all; `touched` those met since the last match.
    """

    chosen: set[str] | None
    rejects: dict[str, list[_Reject]]
    packed: dict[str, list[_Packed]] = field(default_factory=dict)
    read: dict[str, list[_Read]] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)

    def compares(self, id_: str) -> bool:
        """Whether conversations of this id are to be compared."""
        return self.chosen is None or id_ in self.chosen


def check_against(
    dataset: Dataset,
    source: Source,
    findings: Findings,
    *,
    sample: int | None = None,
    on_shard: Callable[[], object] = lambda: None,
) -> None:
    """Check a dataset and prove that it is what its source gives.

    Args:
        dataset: its manifest and receipts; the shards are checked here.
        source: the inputs, and how they were packed.
        findings: gets what is wrong.
        sample: how many conversations to compare, spread over the dataset; None for all.
            Records are read and matched by id in any case.
        on_shard: called when a shard is done.

    Raises:
        StorageError: an input cannot be read.
        TemplateError: the template cannot be trusted.
    """
    join = _Join(_choose(dataset, sample), _rejects(dataset))
    lines = records(source)
    for number, receipt in enumerate(dataset.receipts):
        for checked in checked_rows(dataset, number, findings):
            _add_samples(join, number, checked)
        for record in itertools.islice(lines, receipt.counts.conversations if receipt else 0):
            _add_record(join, record, source, findings)
        _match(join, dataset.manifest.layout)
        on_shard()
    for record in lines:
        _add_record(join, record, source, findings)
    _match(join, dataset.manifest.layout)
    _report(join, dataset, source, findings)


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
            for group in read_groups(place_of(dataset.directory, shard.path), ["sample_id"]):
                yield from group.column("sample_id").flatten().to_pylist()
        except (*DAMAGE, KeyError):
            continue  # said when the shard is checked


def _rejects(dataset: Dataset) -> dict[str, list[_Reject]]:
    by_place: dict[str, list[_Reject]] = {}
    try:
        for reject in read_rejects(dataset.directory):
            line = base64.b64decode(reject.record_base64 or "")
            if reject.record is not None:
                line = reject.record.encode("utf-8", "backslashreplace")
            entry = _Reject(reject.reason, _digest(line))
            by_place.setdefault(reject.where, []).append(entry)
    except ValueError:
        pass  # said when the dataset was read
    return by_place


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


# --- what waits for its match ----------------------------------------------------------


def _add_samples(join: _Join, shard: int, checked: CheckedRow) -> None:
    row, paths, stops = checked.row, checked.paths, checked.row.sample_stop
    for number, id_ in enumerate(row.sample_id):
        print_ = None
        if paths is not None and join.compares(id_):
            here = slice(row.sample_start[number], stops[number])
            leaves = paths.seen[here][paths.leaf[here]]
            print_ = fingerprint(leaves, paths.predicted[here][paths.trained[here]])
        join.touched[id_] = None
        join.packed.setdefault(id_, []).append(_Packed(shard, checked.number, number, print_))


def _add_record(join: _Join, record: Record, source: Source, findings: Findings) -> None:
    findings.count("records")
    rejected = _take_reject(join, record)
    id_: str | None = None
    rebuilt: Rebuilt | None = None
    try:
        conversation = parse(record, source)
        id_ = conversation.id
        if join.chosen is None or (rejected is None and id_ in join.chosen):
            rebuilt = rebuild(source, conversation)
    except RecordError as error:
        rebuilt = Rebuilt(reason=error.reason, error=str(error))
    if rejected is not None:
        _check_reason(rejected, record, rebuilt, source, findings)
    elif id_ is None:
        assert rebuilt is not None
        what = f"neither packed nor rejected, and no conversation: {rebuilt.error}"
        findings.add(Finding("RP304", record.where, what))
    else:
        join.touched[id_] = None
        join.read.setdefault(id_, []).append(_read(record, rebuilt, findings))


def _read(record: Record, rebuilt: Rebuilt | None, findings: Findings) -> _Read:
    findings.count("packed")
    if rebuilt is None:
        return _Read(record.where, None)
    if rebuilt.reason:
        return _Read(record.where, NO_VIEWS, rebuilt.error)
    findings.count("conversations")
    findings.count("views", len(rebuilt.views))
    findings.count("naive_tokens", sum(len(view.ids) for view in rebuilt.views))
    findings.count("missing_reasoning", rebuilt.untrained)
    return _Read(record.where, rebuilt.fingerprint())


def _take_reject(join: _Join, record: Record) -> _Reject | None:
    """Take the reject that is of this record: the same place, and the same line."""
    waiting = join.rejects.get(record.where, [])
    for reject in waiting:
        if record.row is not None or reject.digest == _digest(record.line):
            waiting.remove(reject)
            return reject
    return None


def _check_reason(
    rejected: _Reject,
    record: Record,
    rebuilt: Rebuilt | None,
    source: Source,
    findings: Findings,
) -> None:
    findings.count("rejects")
    if rebuilt is None:
        return
    reason = why_rejected(rebuilt, source.manifest)
    if reason != rejected.reason:
        expected = f"expected {reason!r} {rebuilt.error}" if reason else "expected it packed"
        what = f"rejected for {rejected.reason!r}, {expected.rstrip()}"
        findings.add(Finding("RP307", record.where, what))


def _match(join: _Join, layout: str) -> None:
    """Let go of what is equal, of the ids met since the last call."""
    for id_ in join.touched:
        if id_ in join.packed and id_ in join.read:
            packed, read = _unequal(join.packed.pop(id_), join.read.pop(id_), layout)
            if packed:
                join.packed[id_] = packed
            if read:
                join.read[id_] = read
    join.touched.clear()


def _unequal(
    packed: list[_Packed], read: list[_Read], layout: str
) -> tuple[list[_Packed], list[_Read]]:
    """Return the samples and records of one id that are not each other's.

    A sample that is not to be compared goes with any record. In the npass layout a record
    has several samples, which are equal to it together.
    """
    equal = Counter(each.print for each in packed) & Counter(each.print for each in read)
    samples, left = _without(packed, equal), _without(read, equal)
    sound = [each for each in samples if each.print is not None]
    unsound = [each for each in samples if each.print is None]
    if layout == "onepass":
        return sound + unsound[len(left) :], left[len(unsound) :]
    prints = [each.print for each in sound if each.print is not None]
    wanted = [each.print for each in left if each.print is not None]
    if unsound or len(wanted) < len(left):
        return [], []
    alike = prints and wanted and NO_VIEWS not in wanted and together(*prints) == together(*wanted)
    return ([], []) if alike else (sound, left)


def _without(ones: Sequence[_One], prints: Counter[Print | None]) -> list[_One]:
    """Leave out as many as are counted of each print."""
    left, kept = Counter(prints), []
    for one in ones:
        if left[one.print]:
            left[one.print] -= 1
        else:
            kept.append(one)
    return kept


# --- what is left ----------------------------------------------------------------------


def _report(join: _Join, dataset: Dataset, source: Source, findings: Findings) -> None:
    before = findings.total
    differ = _differing(join, dataset.manifest.layout)
    _report_differences(differ, dataset, source, findings)
    if any(code in findings.counts for code in UNREAD):
        findings.warnings.append("A shard could not be read, so its records were not looked for.")
        return
    for id_, packed in join.packed.items():
        for sample in packed:
            shard = dataset.manifest.shards[sample.shard].path
            what = "no record in the input that it is of, expected one"
            findings.add(Finding("RP305", shard, what, sample.row, id_))
    for id_, read in join.read.items():
        for record in read:
            named = quoted(id_, limit=200)
            what = f"record {named} is neither packed nor rejected, expected one of the two"
            findings.add(Finding("RP304", record.where, what))
    for where, rejects in join.rejects.items():
        for _ in rejects:
            what = "in rejects.jsonl, expected the same record in the input"
            findings.add(Finding("RP306", where, what))
    if findings.total == before:
        _check_counts(join, dataset, findings)


def _check_counts(join: _Join, dataset: Dataset, findings: Findings) -> None:
    """Compare with the source what only it can tell."""
    names = ["packed"]
    if join.chosen is None:
        names += ["views", "naive_tokens", "missing_reasoning"]
    for name in names:
        found, expected = getattr(dataset.manifest.counts, name), findings.checked.get(name, 0)
        if found != expected:
            what = f"counts.{name} {found:,}, expected {expected:,} as in the source"
            findings.add(Finding("RP311", "manifest.json", what))


def _differing(join: _Join, layout: str) -> list[_Different]:
    """Take out samples and records of one id that differ: in pairs, or in npass all together."""
    differing: list[_Different] = []
    for id_ in [id_ for id_ in join.packed if id_ in join.read]:
        packed, read = join.packed.pop(id_), join.read.pop(id_)
        if layout == "npass":
            differing.append(_Different(id_, packed, read))
            continue
        pairs = min(len(packed), len(read))
        differing += [_Different(id_, [packed[at]], [read[at]]) for at in range(pairs)]
        join.packed[id_], join.read[id_] = packed[pairs:], read[pairs:]
    return sorted(differing, key=lambda each: (each.packed[0].row, each.packed[0].number))


def _report_differences(
    differing: list[_Different], dataset: Dataset, source: Source, findings: Findings
) -> None:
    """Report samples and records that differ; the first are read again and explained."""
    shown = differing[: max(0, KEPT - len(findings.listed))]
    wanted = {record.where for each in shown for record in each.read}
    again = {record.where: record for record in records(source) if record.where in wanted}
    rows = _read_again(dataset, {(one.shard, one.row) for each in shown for one in each.packed})
    for number, each in enumerate(differing):
        finding = _bare_difference(each, dataset)
        if finding.code != "RP308" and number < len(shown):
            samples = [Sample(rows[one.shard, one.row], one.number) for one in each.packed]
            rebuilt = [rebuild(source, parse(again[record.where], source)) for record in each.read]
            views = [view for one in rebuilt for view in one.views]
            finding = explain(samples, views, source.tokenizer)
        findings.add(finding)


def _bare_difference(each: _Different, dataset: Dataset) -> Finding:
    """Say that samples and records differ, without having them at hand."""
    shard, row = dataset.manifest.shards[each.packed[0].shard].path, each.packed[0].row
    for record in each.read:
        if record.print == NO_VIEWS:
            what = f"packed, but the views of {record.where} cannot be built: {record.error}"
            return Finding("RP308", shard, what, row, each.id)
    have = together(*(one.print for one in each.packed if one.print is not None))
    want = together(*(one.print for one in each.read if one.print is not None))
    code = "RP310" if have[:2] == want[:2] else "RP309"
    what = f"differs from {', '.join(record.where for record in each.read)}"
    return Finding(code, shard, what, row, each.id)


def _read_again(
    dataset: Dataset, wanted: set[tuple[int, int]]
) -> dict[tuple[int, int], CheckedRow]:
    """Read rows again, given by shard and by number over all shards."""
    found: dict[tuple[int, int], CheckedRow] = {}
    before = 0
    for index, shard in enumerate(dataset.manifest.shards):
        if any(each == index for each, _ in wanted):
            groups = read_groups(place_of(dataset.directory, shard.path))
            rows = itertools.chain.from_iterable(map(read_rows, groups))
            for number, row in enumerate(rows, before):
                if (index, number) in wanted:
                    found[index, number] = CheckedRow(shard.path, number, row, check_row(row)[1])
        before += shard.rows
    return found
