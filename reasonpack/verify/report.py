r"""What has no match → findings: what differs is read once more, to show the first token.

view     … <|im_start|> assistant \n  Four
sample   … <|im_start|> assistant \n  Five         found 'Five' (87), expected 'Four' (86)
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import TokenizerError
from reasonpack.records.strict_json import quoted
from reasonpack.records.unit import Record
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.findings import KEPT, Finding, Findings
from reasonpack.verify.manifest import Dataset
from reasonpack.verify.match import NO_VIEWS, Different, Join, equal_together
from reasonpack.verify.paths import together
from reasonpack.verify.rebuilt import Rebuilt, TokenView
from reasonpack.verify.row import Row
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import CheckedRow, read_rows
from reasonpack.verify.source import Source, decoded, rebuild, records

UNREAD = ("RP004", "RP008", "RP101", "RP103")
"""Violations that leave rows of a shard unread."""


def report(join: Join, dataset: Dataset, source: Source, findings: Findings) -> None:
    """Report what of a dataset and its source has no match in the other.

    Raises:
        StorageError: an input cannot be read again.
    """
    before = findings.total
    differ = _differing(join)
    _report_differences(differ, dataset, source, findings)
    if any(code in findings.counts for code in UNREAD):
        findings.warnings.append("A shard could not be read, so its records were not looked for.")
        return
    for id_, packed in join.packed.items():
        for sample in packed:
            what = "no record in the input that it is of, expected one"
            findings.add(Finding("RP305", sample.shard, what, sample.row, id_))
    for id_, read in join.read.items():
        for record in read:
            named = quoted(id_, limit=200)
            what = f"record {named} is neither packed nor rejected, expected one of the two"
            findings.add(Finding("RP304", record.where, what))
    for where, rejects in join.rejects.items():
        for _ in rejects:
            what = "in rejects.jsonl, expected the same record in the input"
            findings.add(Finding("RP306", where, what))
    for where, lines in join.left_out.items():
        for line in lines:
            what = f"{line}, expected it trained"
            findings.add(Finding("RP314", where, what, message=line.message))
    if findings.total == before:
        _check_counts(join, dataset, findings)


def _check_counts(join: Join, dataset: Dataset, findings: Findings) -> None:
    """Compare with the source what only it can tell."""
    expected_counts = Counter(findings.checked)
    names, manifest = ["packed", "copies", "duplicates", "not_taken"], dataset.manifest
    if join.chosen is None and not findings.unchecked:
        names += ["views", "naive_tokens", "missing_reasoning"]
        if manifest.counts.extra_samples and manifest.options.on_message_error == "reject":
            names += ["npass_tokens", "divided", "extra_tokens"]
            more = expected_counts["tokens"] - expected_counts["whole tokens"]
            expected_counts["extra_tokens"] = more
    for name in names:
        found, expected = getattr(manifest.counts, name), expected_counts[name]
        if found != expected:
            what = f"counts.{name} {found:,}, expected {expected:,} as in the source"
            findings.add(Finding("RP311", "manifest.json", what))


def _differing(join: Join) -> list[Different]:
    """Take out samples and records of one id that differ: in pairs, or all together."""
    differing: list[Different] = []
    for id_ in [id_ for id_ in join.packed if id_ in join.read]:
        packed, read = join.packed.pop(id_), join.read.pop(id_)
        if join.divided:
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
        finding = _bare_difference(each)
        if finding.code != "RP308" and number < len(shown):
            samples = [_Sample(rows[one.shard, one.row], one.number) for one in each.packed]
            rebuilt = [_rebuilt(source, again[record.where]) for record in each.read]
            views = [view for one in rebuilt for view in one.views]
            if as_context and (left := _kept_as_context(views, rebuilt, each)):
                findings.count("kept as context", len(left))
                findings.count("views", -len(left))
                findings.count("naive_tokens", -sum(len(view.ids) for view in left))
                continue
            if doubt := next((one.doubt for one in rebuilt if one.doubt), ""):
                findings.leave(doubt, each.read[0].where)
                continue
            if finding.code == "RP316":
                finding = _other_weight(samples, rebuilt) or finding
            else:
                finding = _explain(samples, views, source.tokenizer)
        findings.add(finding)


def _kept_as_context(
    views: Sequence[TokenView], rebuilt: Sequence[Rebuilt], each: Different
) -> list[TokenView]:
    """List the views that the samples leave out, if they are of the others; none if they are not.

    Which messages were kept as context is what packing decided: it is taken as it is.
    """
    trained = {message for one in each.packed for message in one.thoughts}
    kept = tuple(view for view in views if view.message in trained)
    alike = kept and equal_together(each.packed, [replace(rebuilt[0], views=kept).read("")])
    return [view for view in views if view.message not in trained] if alike else []


def _rebuilt(source: Source, record: Record) -> Rebuilt:
    return rebuild(source, decoded(record, source.reading), row=record.row is not None)


def _bare_difference(each: Different) -> Finding:
    """Say that samples and records differ, without having them at hand."""
    shard, row = each.packed[0].shard, each.packed[0].row
    for record in each.read:
        if record.print == NO_VIEWS:
            what = f"packed, but the views of {record.where} cannot be built: {record.error}"
            return Finding("RP308", shard, what, row, each.id)
    have = together(*(one.print for one in each.packed if one.print is not None))
    want = together(*(one.print for one in each.read if one.print is not None))
    code = "RP310" if have[:2] == want[:2] else "RP309"
    code = "RP316" if have[2:4] == want[2:4] and have[4:] != want[4:] else code
    what = f"differs from {', '.join(record.where for record in each.read)}"
    return Finding(code, shard, what, row, each.id)


def _read_again(
    dataset: Dataset, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], CheckedRow]:
    """Read rows again, given by shard and by number over all shards."""
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


BEFORE = 8
"""How many tokens of context are shown."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """The `number`-th sample of a row."""

    place: CheckedRow
    number: int

    @property
    def row(self) -> Row:
        """The row that it is in."""
        return self.place.row

    def tokens(self) -> Iterator[tuple[int, bytes]]:
        """Yield its tokens, as offsets in the row, with their paths."""
        assert self.place.paths is not None
        start, stop = self.row.sample_start[self.number], self.row.sample_stop[self.number]
        for token in range(int(start), int(stop)):
            yield token, self.place.paths.seen[token].tobytes()

    def finding(self, code: str, token: int, what: str) -> Finding:
        """Say what is wrong at a token."""
        id_, message = self.row.sample_id[self.number], self.row.message_of(token)
        return Finding(code, self.place.shard, what, self.place.number, id_, message, token)


def _explain(
    samples: Sequence[_Sample], views: Sequence[TokenView], tokenizer: Tokenizer
) -> Finding:
    """Describe the first difference between the samples of a conversation and its views.

    In this order: a token that no view has there, a token of a view that is not there,
    tokens that are there twice, one that is trained in one and not in the other.
    """
    have: dict[bytes, tuple[_Sample, int]] = {}
    for sample in samples:
        for token, path in sample.tokens():
            have.setdefault(path, (sample, token))
    want = {path.tobytes() for view in views for path in view.paths.seen}
    unknown = next((place for path, place in have.items() if path not in want), None)
    if unknown is not None:
        sample, token = unknown
        return sample.finding("RP309", token, _unknown(sample, token, views, have, tokenizer))
    for view in views:
        for depth, path in enumerate(view.paths.seen):
            if path.tobytes() not in have:
                return _missing(samples, view, depth, have, tokenizer)
    return _untrained(samples, views, tokenizer) or samples[-1].finding(
        "RP309",
        int(samples[-1].row.sample_start[samples[-1].number]),
        "has the tokens of its views more than once, expected once",
    )


def _unknown(
    sample: _Sample,
    token: int,
    views: Sequence[TokenView],
    have: dict[bytes, tuple[_Sample, int]],
    tokenizer: Tokenizer,
) -> str:
    """Say what stands at `token`, and what the views have after the same prefix."""
    row, paths = sample.row, sample.place.paths
    assert paths is not None
    depth = int(row.position_ids[token])
    # In pre-order a token's parent is the last one before it that is one less deep.
    above = np.flatnonzero(row.position_ids[:token] == depth - 1)
    prefix = paths.seen[above[-1]].tobytes() if depth else b""
    after = [
        view
        for view in views
        if not depth or (len(view.ids) >= depth and view.paths.seen[depth - 1].tobytes() == prefix)
    ]
    going_on = [view for view in after if len(view.ids) > depth]
    absent = [view for view in going_on if view.paths.seen[depth].tobytes() not in have]
    expected = [_view_token(tokenizer, view, depth) for view in absent or going_on]
    found = _token(tokenizer, int(row.input_ids[token]))
    return _sentence(tokenizer, after[0], depth, found, expected)


def _missing(
    samples: Sequence[_Sample],
    view: TokenView,
    depth: int,
    have: dict[bytes, tuple[_Sample, int]],
    tokenizer: Tokenizer,
) -> Finding:
    """Say what should follow the last token of a view that is there."""
    sample, token = samples[0], int(samples[0].row.sample_start[samples[0].number])
    found = "nothing"
    if depth:
        sample, token = have[view.paths.seen[depth - 1].tobytes()]
    if token + 1 < len(sample.row.input_ids) and sample.row.position_ids[token + 1] == depth:
        found = _token(tokenizer, int(sample.row.input_ids[token + 1]))
    expected = [_view_token(tokenizer, view, depth)]
    what = _sentence(tokenizer, view, depth, found, expected)
    return sample.finding("RP309", token, what)


def _untrained(
    samples: Sequence[_Sample], views: Sequence[TokenView], tokenizer: Tokenizer
) -> Finding | None:
    """Find a token that is trained in a sample or in a view only, or in two samples."""
    want = {path.tobytes() for view in views for path in view.trained}
    times: Counter[bytes] = Counter()
    tokens = [(sample, token, path) for sample in samples for token, path in sample.tokens()]
    for sample, token, path in tokens:
        if sample.row.trained[token]:
            times[path] += 1
            if path not in want or times[path] > 1:
                shown = _token(tokenizer, int(sample.row.input_ids[token]))
                how = "not trained" if path not in want else "trained once"
                return sample.finding("RP310", token, f"{shown} is trained, expected it {how}")
    for sample, token, path in tokens:
        if path in want and not times[path]:
            shown = _token(tokenizer, int(sample.row.input_ids[token]))
            return sample.finding("RP310", token, f"{shown} is not trained, expected it trained")
    return None


def _other_weight(samples: Sequence[_Sample], rebuilt: Sequence[Rebuilt]) -> Finding | None:
    """Find a token that weighs something else than its records say."""
    want: Counter[bytes] = Counter()
    for one in rebuilt:
        paths, known = one.weighed()
        want.update(dict(zip((path.tobytes() for path in paths), known.tolist(), strict=True)))
    for sample in samples:
        weights = sample.row.loss_weights
        assert weights is not None
        for token, path in sample.tokens():
            found, expected = float(weights[token]), float(want[path])
            if sample.row.trained[token] and found != expected:
                return sample.finding("RP316", token, f"weight {found}, expected {expected}")
    return None


def _sentence(
    tokenizer: Tokenizer, view: TokenView, depth: int, found: str, expected: Sequence[str]
) -> str:
    before = view.ids[max(0, depth - BEFORE) : depth].tolist()
    context = f"after {_text(tokenizer, before)!r} " if before else ""
    wanted = " or ".join(dict.fromkeys(expected)) or "nothing"
    return f"{context}at position {depth}: {found}, expected {wanted}"


def _view_token(tokenizer: Tokenizer, view: TokenView, depth: int) -> str:
    return f"{_token(tokenizer, int(view.ids[depth]))} as in the view of message {view.message}"


def _token(tokenizer: Tokenizer, id_: int) -> str:
    return f"{_text(tokenizer, [id_])!r} ({id_})"


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tokenizer.decode(ids)
    except TokenizerError:
        return "".join(f"<{id_}>" for id_ in ids)
