"""Samples and records without a match → findings; those that differ are read again to explain."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import open_shard
from reasonpack.records.strict_json import quoted
from reasonpack.records.unit import Record
from reasonpack.verify.answer_parts import PARTS, parts_of
from reasonpack.verify.call_values import identity_of
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.explain import SampleAt, explain, other_value
from reasonpack.verify.findings import KEPT, Finding, Findings
from reasonpack.verify.join import (
    NO_VIEWS,
    TRAINED,
    Different,
    Expected,
    Join,
    calls_of,
    equal_together,
)
from reasonpack.verify.manifest import Dataset
from reasonpack.verify.paths import together
from reasonpack.verify.rebuilt import Rebuilt, expected_of, weighed
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import CheckedRow, read_rows
from reasonpack.verify.source import Source, decoded, rebuild, records

UNREAD = ("RP004", "RP008", "RP101", "RP103")
"""Violations after which rows of a shard are not read."""


def report(join: Join, dataset: Dataset, source: Source) -> None:
    """Report all samples, records, rejects and left-out messages that have no match."""
    findings = join.findings
    before = findings.total
    _report_differences(join, dataset, source)
    if any(code in findings.counts for code in UNREAD):
        findings.warnings.append("A shard could not be read, so its records were not looked for.")
        return
    for id_, packed in join.packed.items():
        for sample in packed:
            what = "no record of this id in the input, expected one"
            findings.report("RP305", sample.shard, what, sample.row, id_)
    for id_, expected in join.expected.items():
        for record in (each for each in expected if not each.is_optional):
            if record.again and join.as_context:
                _count_kept(record.again(), findings)
                findings.count("packed", -1)
                continue
            named = quoted(id_, limit=200)
            what = f"record {named} is neither packed nor rejected, expected one of the two"
            findings.report("RP304", record.where, what)
    for where, rejects in join.rejects.items():
        for _ in rejects:
            what = "in rejects.jsonl, expected the same record in the input"
            findings.report("RP306", where, what)
    for where, lines in join.left_out.items():
        for line in lines:
            what = f"{line}, expected it trained"
            findings.add(Finding("RP314", where, what, message=line.message))
    if findings.total == before:
        _check_counts(join)


def _check_counts(join: Join) -> None:
    """Compare the manifest's counts of views, copies and so on with those of the source."""
    manifest, findings = join.manifest, join.findings
    expected_counts = Counter(findings.checked)
    names = ["packed", "copies", "duplicates", "not_taken"]
    if join.of_calls and (join.chosen is not None or findings.unchecked):
        names = names[2:]  # groups that are not compared may train nothing, and have no sample
    if join.chosen is None and not findings.unchecked:
        names += ["views", "naive_tokens"]
        if not expected_counts["calls with ids"]:
            names += ["missing_reasoning"] * (not join.as_context)
            _check_kept(join)
        in_view = not join.as_context and not expected_counts["unsized"]
        if manifest.options.shuffle and in_view and not join.of_calls:
            names.append("npass_tokens")
        if manifest.counts.extra_samples and in_view:
            names += ["npass_tokens", "divided", "extra_tokens"]
            more = expected_counts["tokens"] - expected_counts["whole tokens"]
            expected_counts["extra_tokens"] = more
    for name in names:
        both = getattr(manifest.counts, name), expected_counts[name]
        findings.compare("RP311", "manifest.json", f"counts.{name}", *both, "as in the source")


def _check_kept(join: Join) -> None:
    """Compare with the manifest how many messages were kept as context instead of trained.

    If some parts are trained, more may lack these; in a dataset that was packed again, more may
    be of records that were left out since.
    """
    counts, found = join.manifest.counts, join.findings.checked
    if not join.as_context or counts.copies or "more" in counts.notes:
        return
    kept = (number for note, number in counts.notes.items() if note.startswith("kept "))
    said, expected = counts.missing_reasoning + sum(kept), found.get("kept as context", 0)
    if parts_of(join.manifest.options.train_on) == PARTS and not join.manifest.sources:
        expected += sum(found.get(name, 0) for name in ("missing_reasoning", "context"))
    else:
        expected = max(said, expected)
    what = "messages that were to be trained and are context,"
    join.findings.compare("RP311", "manifest.json", what, said, expected, "as in the source")


def _differing(join: Join) -> list[Different]:
    """Take from `join` samples and records with the same id: in pairs, or all of an id together."""
    differing: list[Different] = []
    for id_ in [id_ for id_ in join.packed if id_ in join.expected]:
        packed, expected = join.packed.pop(id_), join.expected.pop(id_)
        if join.divided or join.of_calls:
            differing.append(Different(id_, packed, expected))
            continue
        pairs = min(len(packed), len(expected))
        differing += [Different(id_, [packed[at]], [expected[at]]) for at in range(pairs)]
        join.packed[id_], join.expected[id_] = packed[pairs:], expected[pairs:]
    return sorted(differing, key=lambda each: (each.packed[0].row, each.packed[0].number))


def _report_differences(join: Join, dataset: Dataset, source: Source) -> None:
    """Report samples that differ from their records; read the first ones again to explain them."""
    differing, findings = _differing(join), join.findings
    shown = differing if join.as_context else differing[: max(0, KEPT - len(findings.listed))]
    wanted = {record.where for each in shown for record in each.expected if not record.again}
    lines = records(source) if wanted else ()
    again = {record.where: record for record in lines if record.where in wanted}
    rows = _read_again(dataset, {(one.shard, one.row) for each in shown for one in each.packed})
    for number, each in enumerate(differing):
        finding = _bare_difference(each)
        if finding.code != "RP308" and number < len(shown):
            rebuilt = [
                _rebuilt(join, source, again[one.where]) for one in each.expected if not one.again
            ]
            built = [(one.views, one.long) for one in rebuilt]
            built += [(one.again(), ()) for one in each.expected if one.again]
            left = _kept_as_context(built, each, join) if join.as_context else None
            if left is not None:
                _count_kept(left, findings)
                continue
            if doubt := next((one.built.doubt for one in rebuilt if one.built.doubt), ""):
                findings.leave_unchecked(doubt, each.expected[0].where)
                continue
            views = [view for own, long in built for view in weighed(own, long)]
            samples = [SampleAt(rows[one.shard, one.row], one.number) for one in each.packed]
            if views and finding.code in ("RP316", "RP317"):  # too large a group has no views here
                finding = other_value(samples, views) or finding
            elif views:
                finding = explain(samples, views, source.tokenizer)
        findings.add(finding)


def _kept_as_context(
    built: Sequence[tuple[Sequence[TokenView], Sequence[TokenView]]], each: Different, join: Join
) -> list[TokenView] | None:
    """Return the views of messages that pack kept as context, if the rest equals the samples.

    Which messages those are is taken from the samples. `built` has the views of each record or
    group, and those that are too long. None if the samples differ otherwise.
    """
    kinds = (place for one in each.packed for place in one.kinds)
    trained = {message for _, message, kind in kinds if kind == TRAINED}
    kept, expected, named = list[TokenView](), list[Expected](), calls_of(each.packed)
    for views, long in built:
        parted = dict[bool, list[TokenView]]({True: [], False: []})
        for view in views:
            is_there = identity_of(view.call).key in named if view.call else view.message in trained
            parted[is_there].append(view)
        kept += parted[False]
        if there := weighed(parted[True], long):
            own = expected_of(there, "", "", weighs=join.weighs, divided=join.divided)
            expected.append(own)
    return kept if equal_together(each.packed, expected) else None


def _count_kept(views: Sequence[TokenView], findings: Findings) -> None:
    """Count views as messages that pack kept as context, and no longer as views."""
    findings.count("kept as context", len(views))
    findings.count("views", -len(views))
    findings.count("naive_tokens", -sum(len(view.ids) for view in views))


def _rebuilt(join: Join, source: Source, record: Record) -> Rebuilt:
    made = rebuild(source, decoded(record, source.reading), row=record.row is not None)
    kept = join.not_left_out.get(record.where, ())
    return replace(made, long=tuple(each for each in made.long if each.message not in kept))


def _bare_difference(each: Different) -> Finding:
    """Report that samples and records differ, by their fingerprints alone."""
    shard, row = each.packed[0].shard, each.packed[0].row
    for record in each.expected:
        if record.fingerprint == NO_VIEWS:
            what = f"packed, but the views of {record.where} cannot be built: {record.error}"
            return Finding("RP308", shard, what, row, each.id)
    have = together(*(one.fingerprint for one in each.packed if one.fingerprint is not None))
    want = together(*(one.fingerprint for one in each.expected if one.fingerprint is not None))
    code = "RP310" if have[:2] == want[:2] else "RP309"
    beside = have[4:] != want[4:] or calls_of(each.packed) != calls_of(each.expected)
    if have[2:4] == want[2:4] and beside:
        code = "RP317" if any(record.again for record in each.expected) else "RP316"
    what = f"differs from {', '.join(record.where for record in each.expected)}"
    return Finding(code, shard, what, row, each.id)


def _read_again(
    dataset: Dataset, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], CheckedRow]:
    """Read the rows `wanted`, each a shard and a row number counted over all shards."""
    found: dict[tuple[str, int], CheckedRow] = {}
    before = 0
    for shard in dataset.manifest.shards:
        if any(each == shard.path for each, _ in wanted):
            place = place_of(dataset.directory, shard.path)
            with open_shard(place, unchecked=True) as opened:
                rows = itertools.chain.from_iterable(map(read_rows, opened.groups()))
                for number, row in enumerate(rows, before):
                    if (shard.path, number) in wanted:
                        paths = check_row(row)[1]
                        found[shard.path, number] = CheckedRow(shard.path, number, row, paths)
        before += shard.rows
    return found
