"""Records → samples, and what of them cannot be packed: unreadable, overlong or without a view.

    records ─→ conversations ─→ views ─→ pieces of text ─→ ids ─→ samples ─→ rows
       └──────── what cannot be packed ────────→ rejects

All texts of a unit are encoded in one batch: no piece of text is encoded twice.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.conversation import Conversation, parse_line, parse_record
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.rows.forest import LaidOut, plant
from reasonpack.rows.kind import Kind
from reasonpack.rows.packing import best_fit, in_sequence
from reasonpack.rows.sample import IGNORE, Sample, write
from reasonpack.run.context import Context
from reasonpack.run.copies import DUPLICATE
from reasonpack.run.length import LeftOut, Limits
from reasonpack.run.stages import stage, staged
from reasonpack.run.weights import weighed
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.tokens.view_tokens import Cutter, CutView, Pieces
from reasonpack.views.view import Untrained, each_view

WRITTEN_AT_ONCE = 64
"""Conversations that are laid out together."""
Encode = Callable[[Sequence[str]], Sequence[NDArray[np.int32]]]
_Read = TypeVar("_Read")


@dataclass(slots=True)
class Laid:
    """What records became.

    Attributes:
        samples: of the conversations that were packed, in their order.
        splits: that each of them is of.
        rows: for each row of a split the indices of its samples.
        rejects: the lines of rejects.jsonl, in the order in which they were found.
        first_error: what was rejected, or left out, first; None if all was packed.
    """

    samples: list[Sample] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    rows: dict[str, list[list[int]]] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    first_error: RecordError | None = None

    def add(self, other: Laid) -> None:
        """Add what the records behind these became, but for their rows."""
        self.samples += other.samples
        self.splits += other.splits
        self.rejects += other.rejects
        self.counts.add(other.counts)
        self.first_error = self.first_error or other.first_error


@dataclass(slots=True)
class _Waiting:
    """A conversation whose views wait for their ids, and why messages of it are not trained.

    Attributes:
        messages: that these are of, by their index in the record.
        untrained: how many messages stay context, by reason.
        left_out: messages whose views are too long.
        times: how often it is packed.
    """

    record: Record
    conversation: Conversation
    views: list[CutView] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    untrained: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)
    times: int = 1


def lay_out_records(
    records: Iterable[Record],
    options: Options,
    context: Context,
    encode: Encode | None = None,
    *,
    columns: Sequence[str] = (),
    times: Iterable[int] | None = None,
) -> Laid:
    """Turn records into samples.

    `encode` is by default that of the tokenizer itself; `times` says how often each record is
    packed, or `DUPLICATE`, None for once.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
    """
    tokenizer, laid = context.tokenizer, Laid()
    pieces = Pieces(tokenizer.cut, reach=tokenizer.reach)
    weighs = "loss_weights" in columns
    reading = replace(context.reading, weighs=weighs)
    waiting: list[_Waiting] = []
    for record, often in taken(staged("read", records), times, laid.counts):
        laid.counts.conversations += 1
        try:
            with stage("parse"):
                conversation = parse(record, reading)
            waiting.append(_cut_views(record, conversation, options, context, pieces))
            waiting[-1].times = often
        except RecordError as error:
            reject(record, error, options, laid)
        except TemplateError as error:
            raise TemplateError(
                f"{record.where}: {error.where}", error.what, error.expected, error.fix
            ) from error
    with stage("encode"):
        pieces.encode(encode or tokenizer.encode_batch)
    for first in range(0, len(waiting), WRITTEN_AT_ONCE):
        batch = waiting[first : first + WRITTEN_AT_ONCE]
        _write(batch, pieces, options, context, laid, weighs=weighs)
    put_into_rows(laid, options)
    return laid


def taken(
    records: Iterable[_Read], times: Iterable[int] | None, counts: Counts
) -> Iterator[tuple[_Read, int]]:
    """Yield the records, or groups, that are packed, each with how often; count the others."""
    each_times = itertools.repeat(1) if times is None else map(int, times)
    for record, often in zip(records, each_times, strict=False):
        counts.duplicates += often == DUPLICATE
        counts.not_taken += often == 0
        if often not in (0, DUPLICATE):
            yield record, often


def put_into_rows(laid: Laid, options: Options) -> None:
    """Put samples into rows, several in each if they are to be packed."""
    with stage("rows"):
        for split in options.splits:
            own = [index for index, each in enumerate(laid.splits) if each == split]
            rows = join_samples([laid.samples[index] for index in own], options)
            laid.rows[split] = [[own[index] for index in row] for row in rows]
    laid.counts.rows = sum(map(len, laid.rows.values()))


def _write(
    batch: Sequence[_Waiting],
    pieces: Pieces,
    options: Options,
    context: Context,
    laid: Laid,
    *,
    weighs: bool,
) -> None:
    """Lay out some conversations together, and write the samples of those that may be packed."""
    with stage("lay out"):
        views = pieces.look_up([each.views for each in batch])
        if weighs:
            of = [(each.conversation, each.messages) for each in batch]
            views = weighed(views, of, options.loss_weights)
        forest = plant(views)
    written: list[tuple[str, LaidOut]] = []
    limits = Limits(options, context.max_position)
    for number, each in enumerate(batch):
        try:
            with stage("lay out"):
                forest, laid_out, left_out = limits.lay_out(forest, number, each.messages)
        except RecordError as error:
            reject(each.record, error, options, laid)
        else:
            leave_out(each.record, [*each.left_out, *left_out], laid)
            missing = each.untrained.pop("missing-reasoning", 0)
            laid.counts.missing_reasoning += missing * each.times
            laid.counts.conversations += each.times - 1
            laid.counts.copies += each.times - 1
            laid.counts.note(notes_of(each.conversation, each.untrained, context))
            written += ((id_, laid_out) for id_ in ids_of_copies(each.conversation.id, each.times))
            split = context.split(each.conversation)
            laid.splits += [split] * len(laid_out.samples) * each.times
    with stage("lay out"):
        samples = write(forest, written)
        count_samples(samples, laid.counts)
        count_laid_out([laid_out for _, laid_out in written], laid.counts)
    laid.samples += samples


def ids_of_copies(id_: str, times: int) -> list[str]:
    """Name the copies of a conversation.

    >>> ids_of_copies("a", 3)
    ['a', 'a#2', 'a#3']
    """
    return [id_, *(f"{id_}#{copy}" for copy in range(2, times + 1))]


def reject(record: Record, error: RecordError, options: Options, laid: Laid) -> None:
    """Keep a record that is not packed with the reason, unless it stops the run."""
    error.where = error.where or record.where
    if isinstance(error, UnknownFieldError):
        raise error
    skipped = error.reason == "overlong" and options.overlong != "error"
    if options.on_error == "stop" and not skipped:
        raise error
    laid.first_error = laid.first_error or error
    laid.rejects.append(_reject_line(record, error))
    laid.counts.rejected += 1
    laid.counts.rejects[error.reason] = laid.counts.rejects.get(error.reason, 0) + 1


def leave_out(record: Record, left_out: Sequence[LeftOut], laid: Laid) -> None:
    """Keep messages that are not trained because their views are too long, with the reason."""
    for each in sorted(left_out, key=lambda each: each.message):
        laid.first_error = laid.first_error or each.error(record.where)
        laid.rejects.append(each.line(record.where))
        laid.counts.left_out[each.reason] = laid.counts.left_out.get(each.reason, 0) + 1


def _cut_views(
    record: Record, conversation: Conversation, options: Options, context: Context, pieces: Pieces
) -> _Waiting:
    """Build the views of a conversation and cut each at once, so that no two are kept."""
    cutter, made = Cutter(pieces), _Waiting(record, conversation)
    limits = Limits(options, context.max_position)
    views = each_view(conversation, context.rendering(conversation), train_on=options.train_on)
    with ready_for_bounds():
        for view in staged("render", views):
            if isinstance(view, Untrained):
                made.untrained[view.reason] += 1
                continue
            characters = len(view.prompt) + len(view.completion)
            if too_long := limits.too_long_text(view.message, characters):
                made.left_out.append(too_long)
                continue
            with stage("cut"):
                made.views.append(cutter.add(view))
            made.messages.append(view.message)
    if made.left_out and (options.overlong != "split" or not made.views):
        raise limits.nothing_fits(made.left_out)  # and nothing else is wrong with it
    return made


def parse(record: Record, reading: Reading) -> Conversation:
    """Read a record.

    Raises:
        RecordError: it is no conversation, or one with fields that nobody reads.
    """
    if record.row is not None:
        return parse_record(record.row, record.where, null_keys=True, reading=reading)
    return parse_line(record.line, record.where, reading=reading)


def notes_of(
    conversation: Conversation, kept: Mapping[str, int], context: Context
) -> dict[str, int]:
    """Return what was noticed of a conversation, what only its template tells among it."""
    rendering = context.rendering(conversation)
    unknown = conversation.template_kwargs.keys() - rendering.template.variables
    notes = {**conversation.notes, **{f"variable {name}": 1 for name in sorted(unknown)}}
    if not rendering.behaviour.writes_none:
        notes.pop("null-argument", None)
    return {**notes, **{f"kept {reason}": number for reason, number in sorted(kept.items())}}


def _reject_line(record: Record, error: RecordError) -> dict[str, str]:
    line = {"where": record.where, "reason": error.reason, "error": str(error)}
    if record.row is not None:
        return {**line, "record": json.dumps(record.row, ensure_ascii=False, default=str)}
    try:
        return {**line, "record": record.line.decode()}
    except UnicodeDecodeError:
        return {**line, "record_base64": base64.b64encode(record.line).decode()}


def join_samples(samples: Sequence[Sample], options: Options) -> list[list[int]]:
    """Say which samples share a row, as indices."""
    if not options.packed or options.max_length is None:
        return [[index] for index in range(len(samples))]
    pack = best_fit if options.packing == "best-fit" else in_sequence
    return pack(
        [sample.length for sample in samples],
        options.max_length,
        costs=[sample.pairs for sample in samples],
        max_cost=options.max_cost,
    )


def without_rows(counts: Counts) -> Counts:
    """Return counts of the records of a unit, without those of what its shards hold."""
    return replace(
        counts, samples=0, rows=0, tokens=0, trained_tokens=0, pairs=0, tokens_by_kind={}
    )


def count_samples(samples: Sequence[Sample], counts: Counts) -> None:
    """Add what samples hold."""
    if not samples:
        return
    by_kind = np.zeros(len(Kind), np.int64)
    for sample in samples:
        sizes = np.diff(sample.segments.start, append=sample.length)
        by_kind += np.bincount(sample.segments.kind, sizes, len(Kind)).astype(np.int64)
        counts.tokens += sample.length
        counts.pairs += sample.pairs
        counts.trained_tokens += int(np.count_nonzero(sample.labels != IGNORE))
    for kind, tokens in zip(Kind, by_kind.tolist(), strict=True):
        counts.tokens_by_kind[kind.label] = counts.tokens_by_kind.get(kind.label, 0) + tokens
    counts.samples += len(samples)


def count_laid_out(laid_out: Sequence[LaidOut], counts: Counts) -> None:
    """Add what conversations were made of, and what dividing them cost."""
    counts.packed += len(laid_out)
    counts.divided += sum(each.extra_samples > 0 for each in laid_out)
    counts.extra_samples += sum(each.extra_samples for each in laid_out)
    counts.extra_tokens += sum(each.extra_tokens for each in laid_out)
    counts.views += sum(each.views for each in laid_out)
    counts.npass_tokens += sum(each.npass_tokens for each in laid_out)
    counts.naive_tokens += sum(each.naive_tokens for each in laid_out)
