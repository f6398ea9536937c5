"""What has no match → findings: what differs is read once more, to show where."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from reasonpack.datasets.shards import open_shard
from reasonpack.records.strict_json import quoted
from reasonpack.records.unit import Record
from reasonpack.verify.difference import Sample, explain
from reasonpack.verify.findings import KEPT, Finding, Findings
from reasonpack.verify.manifest import Dataset, place_of
from reasonpack.verify.match import NO_VIEWS, Different, Join
from reasonpack.verify.paths import together
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import CheckedRow, read_rows
from reasonpack.verify.source import Rebuilt, Source, TokenView, decoded, rebuild, records

__all__ = ["report"]

UNREAD = ("RP004", "RP008", "RP101", "RP103")
"""Violations that leave rows of a shard unread."""


def report(join: Join, dataset: Dataset, source: Source, findings: Findings) -> None:
    """Report what of a dataset and its source has no match in the other.

    Raises:
        StorageError: an input cannot be read again.
    """
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


def _check_counts(join: Join, dataset: Dataset, findings: Findings) -> None:
    """Compare with the source what only it can tell."""
    names = ["packed"]
    if join.chosen is None and not findings.unchecked:
        names += ["views", "naive_tokens", "missing_reasoning"]
    for name in names:
        found, expected = getattr(dataset.manifest.counts, name), findings.checked.get(name, 0)
        if found != expected:
            what = f"counts.{name} {found:,}, expected {expected:,} as in the source"
            findings.add(Finding("RP311", "manifest.json", what))


def _differing(join: Join, layout: str) -> list[Different]:
    """Take out samples and records of one id that differ: in pairs, or in npass all together."""
    differing: list[Different] = []
    for id_ in [id_ for id_ in join.packed if id_ in join.read]:
        packed, read = join.packed.pop(id_), join.read.pop(id_)
        if layout == "npass":
            differing.append(Different(id_, packed, read))
            continue
        pairs = min(len(packed), len(read))
        differing += [Different(id_, [packed[at]], [read[at]]) for at in range(pairs)]
        join.packed[id_], join.read[id_] = packed[pairs:], read[pairs:]
    return sorted(differing, key=lambda each: (each.packed[0].row, each.packed[0].number))


def _report_differences(
    differing: list[Different], dataset: Dataset, source: Source, findings: Findings
) -> None:
    """Report samples and records that differ; the first are read again and explained."""
    as_context = dataset.manifest.options.on_message_error == "context"
    shown = differing if as_context else differing[: max(0, KEPT - len(findings.listed))]
    wanted = {record.where for each in shown for record in each.read}
    again = {record.where: record for record in records(source) if record.where in wanted}
    rows = _read_again(dataset, {(one.shard, one.row) for each in shown for one in each.packed})
    for number, each in enumerate(differing):
        finding = _bare_difference(each, dataset)
        if finding.code != "RP308" and number < len(shown):
            samples = [Sample(rows[one.shard, one.row], one.number) for one in each.packed]
            rebuilt = [_rebuilt(source, again[record.where]) for record in each.read]
            views = [view for one in rebuilt for view in one.views]
            if as_context and (left := _left_out(views, each)):
                findings.count("kept as context", len(left))
                findings.count("views", -len(left))
                findings.count("naive_tokens", -sum(len(view.ids) for view in left))
                continue
            finding = explain(samples, views, source.tokenizer)
        findings.add(finding)


def _left_out(views: Sequence[TokenView], each: Different) -> list[TokenView]:
    """List the views that the samples leave out, if they are of the others; none if they are not.

    Which messages were kept as context is what packing decided: it is taken as it is.
    """
    have = together(*(one.print for one in each.packed if one.print is not None))
    trained = {message for one in each.packed for message in one.thoughts}
    kept = tuple(view for view in views if view.message in trained)
    alike = kept and Rebuilt(kept).fingerprint() == have
    return [view for view in views if view.message not in trained] if alike else []


def _rebuilt(source: Source, record: Record) -> Rebuilt:
    return rebuild(source, decoded(record, source.reading), row=record.row is not None)


def _bare_difference(each: Different, dataset: Dataset) -> Finding:
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
            with open_shard(place_of(dataset.directory, shard.path)) as opened:
                rows = itertools.chain.from_iterable(map(read_rows, opened.groups()))
                for number, row in enumerate(rows, before):
                    if (index, number) in wanted:
                        paths = check_row(row)[1]
                        found[index, number] = CheckedRow(shard.path, number, row, paths)
        before += shard.rows
    return found
