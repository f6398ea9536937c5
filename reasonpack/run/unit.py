"""A work unit → one published shard and its receipt.

    records ─→ conversations ─→ views ─→ (one batch to the tokenizer) ─→ samples ─→ rows ─→ shard
       └────────── what cannot be packed ──────────→ rejects

Pure apart from the files it publishes: the same unit and options give the same bytes
whatever else runs.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import (
    Counts,
    Receipt,
    RejectFile,
    Shard,
    as_json,
    receipt_place,
    reject_path,
    sealed,
    shard_path,
)
from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.conversation import Conversation, parse_line, parse_record
from reasonpack.records.plan import changed
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.rows.content_hash import Content
from reasonpack.rows.forest import LaidOut, lay_out, plant
from reasonpack.rows.kind import Kind
from reasonpack.rows.packing import pack
from reasonpack.rows.sample import IGNORE, Sample, write
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups, rows_to_table
from reasonpack.run.context import Context, load_context
from reasonpack.run.stages import stage
from reasonpack.storage import Place, Stamp, join, publish, stamp
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.tokens.fast_backends import AUTO, Choice, Encoder
from reasonpack.tokens.view_tokens import Cutter, CutView, Pieces
from reasonpack.views.view import Untrained, each_view

__all__ = ["Job", "lay_out_records", "pack_records", "parse", "prepare", "process"]


WRITTEN_AT_ONCE = 64
"""Conversations that are laid out together."""
LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""A view of more characters is refused, or of more for each token of --max-position: a tokenizer
takes a hundred bytes for each."""
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all units of a run have in common.

    Attributes:
        options: of the run.
        output: the dataset's directory.
        places: where each of the plan's inputs is read.
        stamps: of these, from before the plan was made.
        units: how many there are, for the names of shards.
        plan_sha256: hash of the plan.
        backend: what encodes; no byte of a shard depends on it.
    """

    options: Options
    output: Place
    places: tuple[Place, ...]
    stamps: tuple[Stamp | None, ...]
    units: int
    plan_sha256: str
    backend: Choice = AUTO


def process(unit: Unit, job: Job) -> Receipt:
    """Pack one unit and publish its shard, its rejects and its receipt.

    Args:
        unit: what to pack.
        job: how, from where and to where.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
        StorageError: input that cannot be read, or that was written to since the plan was
            made; output that cannot be written.
    """
    options = job.options
    counts = Counts()
    rejects: list[dict[str, str]] = []
    place = job.places[unit.input]
    encoder = load_encoder(options, job.backend)
    encoder.prepare(unit.input_bytes)
    samples, rows = lay_out_records(
        read_records(unit, place), options, rejects, counts, encoder=encoder
    )
    if stamp(place) != job.stamps[unit.input]:
        raise changed(place)
    path = shard_path(unit.number, units=job.units, suffix=options.format)
    content, schema_ = Content(), _schema(options)
    with stage("write"), publish(join(job.output, *path.split("/"))) as file:
        groups = _hashed(row_groups(samples, rows, schema_), content)
        write_shard(groups, file, schema_, format_=options.format, compression=options.codec)
    shard = Shard(
        path=path,
        rows=counts.rows,
        tokens=counts.tokens,
        bytes=file.bytes,
        sha256=file.sha256,
        content_hash=content.hexdigest(),
    )
    rejected = _publish_rejects(unit, job.output, rejects) if rejects else None
    receipt = sealed(
        Receipt(unit, job.plan_sha256, shard, rejected, counts, encoder.used, encoder.fault)
    )
    with publish(receipt_place(job.output, unit.number)) as receipt_file:
        receipt_file.write(as_json(receipt).encode())
    return receipt


def prepare(options: Options, backend: Choice, unit_bytes: int) -> None:
    """Load what a process needs for units of so many bytes."""
    load_encoder(options, backend).prepare(unit_bytes)


@lru_cache(maxsize=1)
def load_encoder(options: Options, choice: Choice) -> Encoder:
    """Return what encodes texts in this process."""
    return Encoder(load_context(options).tokenizer, choice)


def _hashed(groups: Iterable[pa.Table], content: Content) -> Iterator[pa.Table]:
    """Yield groups of rows to whoever writes them, and add each to a hash."""
    for group in _staged("rows", groups):
        with stage("hash"):
            for batch in group.to_batches():
                content.add(batch)
        yield group


def pack_records(records: Iterable[Record], options: Options) -> pa.Table:
    """Turn records into rows.

    Returns:
        A table with the columns that `schemas/FORMAT.md` describes.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
    """
    samples, rows = lay_out_records(records, options, [], Counts())
    return rows_to_table(samples, rows, _schema(options))


def lay_out_records(
    records: Iterable[Record],
    options: Options,
    rejects: list[dict[str, str]],
    counts: Counts,
    *,
    encoder: Encoder | None = None,
) -> tuple[list[Sample], list[list[int]]]:
    """Turn records into samples.

    Args:
        records: what to pack.
        options: of the run.
        rejects: gets what cannot be packed.
        counts: gets what was seen.
        encoder: gives the ids, by a fast backend or not; None for the tokenizer itself.

    Returns:
        The samples, and for each row which of them are in it.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
    """
    context = load_context(options)
    samples: list[Sample] = []
    encode = encoder.encode if encoder else context.tokenizer.encode_batch
    for written in _conversations(records, options, context, rejects, counts, encode=encode):
        samples += written
    with stage("rows"):
        if options.packing and options.max_length is not None:
            rows = pack([sample.length for sample in samples], options.max_length)
        else:
            rows = [[index] for index in range(len(samples))]
    counts.rows = len(rows)
    return samples, rows


def _publish_rejects(unit: Unit, output: Place, rejects: list[dict[str, str]]) -> RejectFile:
    path = reject_path(unit.number)
    with publish(join(output, *path.split("/"))) as file:
        # What is too long is known only once it is encoded, after what is broken behind it.
        for reject in sorted(rejects, key=_line_number):
            # Half of a surrogate pair stays the escape that it was in the input.
            line = json.dumps(reject, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))
    return RejectFile(path, len(rejects), file.bytes, file.sha256)


def _line_number(reject: dict[str, str]) -> int:
    """Return the number that ends `file:line` or `file[index]`."""
    return int(re.split(r"[:\[]", reject["where"].rstrip("]"))[-1])


def _schema(options: Options) -> pa.Schema:
    context = load_context(options)
    metadata = {
        "layout": options.layout,
        "tokenizer_sha256": context.tokenizer.sha256,
        "template_sha256": context.without_tools.template.sha256,
    }
    return schema(metadata)


def _conversations(
    records: Iterable[Record],
    options: Options,
    context: Context,
    rejects: list[dict[str, str]],
    counts: Counts,
    *,
    encode: Callable[[Sequence[str]], Sequence[NDArray[np.int32]]],
) -> Iterator[list[Sample]]:
    """Write the samples of every record that has some; say of each of the others why not."""
    tokenizer = context.tokenizer
    reach = max(map(len, tokenizer.added_tokens), default=None) if tokenizer.cuts else None
    pieces = Pieces(tokenizer.cut, reach=reach)
    waiting: list[tuple[Record, Conversation, list[CutView], Counter[str]]] = []

    def reject(record: Record, error: RecordError) -> None:
        error.where = error.where or record.where
        if isinstance(error, UnknownFieldError):
            raise error
        skipped = error.reason == "overlong" and options.overlong == "skip"
        if options.on_error == "stop" and not skipped:
            raise error
        rejects.append(_reject(record, error))
        counts.rejected += 1
        counts.rejects[error.reason] = counts.rejects.get(error.reason, 0) + 1

    for record in _staged("read", records):
        counts.conversations += 1
        try:
            with stage("parse"):
                conversation = parse(record, context.reading)
            cut_views, untrained = _cut_views(conversation, options, context, pieces)
        except RecordError as error:
            reject(record, error)
        except TemplateError as error:
            raise TemplateError(
                f"{record.where}: {error.where}", error.what, error.expected, error.fix
            ) from error
        else:
            waiting.append((record, conversation, cut_views, untrained))
    with stage("encode"):
        pieces.encode(encode)
    for first in range(0, len(waiting), WRITTEN_AT_ONCE):
        batch = waiting[first : first + WRITTEN_AT_ONCE]
        with stage("lay out"):
            forest = plant(pieces.look_up([cut_views for _, _, cut_views, _ in batch]))
        written: list[tuple[str, LaidOut]] = []
        for number, (record, conversation, _, untrained) in enumerate(batch):
            try:
                with stage("lay out"):
                    laid_out = lay_out(forest, number, layout=options.layout)
                _check_length(laid_out, options, context)
            except RecordError as error:
                reject(record, error)
            else:
                counts.missing_reasoning += untrained.pop("missing-reasoning", 0)
                counts.note(_notes(conversation, untrained, context))
                written.append((conversation.id, laid_out))
        with stage("lay out"):
            samples = write(forest, written)
            _count([laid_out for _, laid_out in written], samples, counts)
        yield samples


def _staged(name: str, items: Iterable[_Item]) -> Iterator[_Item]:
    """Count the time that it takes to come by the items."""
    iterator = iter(items)
    while True:
        with stage(name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _cut_views(
    conversation: Conversation, options: Options, context: Context, pieces: Pieces
) -> tuple[list[CutView], Counter[str]]:
    """Build the views of a conversation and cut each at once, so that no two are kept.

    Returns:
        The views, and how many messages are left untrained, by reason.
    """
    cutter, cut_views, longest = Cutter(pieces), [], 0
    untrained: Counter[str] = Counter()
    overlong: RecordError | None = None
    views = each_view(conversation, context.rendering(conversation), train_on=options.train_on)
    with ready_for_bounds():
        for view in _staged("render", views):
            if isinstance(view, Untrained):
                untrained[view.reason] += 1
                continue
            longest = max(longest, len(view.prompt) + len(view.completion))
            overlong = _too_long(longest, context)
            if overlong is None:
                with stage("cut"):
                    cut_views.append(cutter.add(view))
    if overlong is not None:  # and nothing else is wrong with it
        raise overlong
    return cut_views, untrained


def parse(record: Record, reading: Reading) -> Conversation:
    """Read a record.

    Raises:
        RecordError: it is no conversation, or one with fields that nobody reads.
    """
    if record.row is not None:
        return parse_record(record.row, record.where, null_keys=True, reading=reading)
    return parse_line(record.line, record.where, reading=reading)


def _notes(conversation: Conversation, kept: Mapping[str, int], context: Context) -> dict[str, int]:
    """Return what was noticed of a conversation, what only its template tells among it."""
    rendering = context.rendering(conversation)
    unknown = conversation.template_kwargs.keys() - rendering.template.variables
    notes = {**conversation.notes, **{f"variable {name}": 1 for name in sorted(unknown)}}
    if not rendering.behaviour.writes_none:
        notes.pop("null-argument", None)
    return {**notes, **{f"kept {reason}": number for reason, number in sorted(kept.items())}}


def _reject(record: Record, error: RecordError) -> dict[str, str]:
    line = {"where": record.where, "reason": error.reason, "error": str(error)}
    if record.row is not None:
        return {**line, "record": json.dumps(record.row, ensure_ascii=False, default=str)}
    try:
        return {**line, "record": record.line.decode()}
    except UnicodeDecodeError:
        return {**line, "record_base64": base64.b64encode(record.line).decode()}


def _overlong(what: str, option: str, limit: int) -> RecordError:
    return RecordError(
        "overlong",
        "messages",
        f"{what}, expected at most {limit:,} ({option})",
        fix=f"raise {option} if the model allows it, or leave such conversations out "
        "with --overlong skip",
    )


def _too_long(characters: int, context: Context) -> RecordError | None:
    """Refuse a view too long in characters, before it is cut and the tokenizer made to read it."""
    limit, longest = context.max_position, context.tokenizer.max_token_chars
    if limit is not None and longest is not None and characters > limit * longest:
        at_least = characters // longest
        return _overlong(f"a view of at least {at_least:,} tokens", "--max-position", limit)
    most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (limit or 0))
    if characters > most:
        return _overlong(f"a view of {characters:,} characters", "--max-position", most)
    return None


def _check_length(laid_out: LaidOut, options: Options, context: Context) -> None:
    if context.max_position is not None and laid_out.longest_view > context.max_position:
        what = f"a view of {laid_out.longest_view:,} tokens"
        raise _overlong(what, "--max-position", context.max_position)
    if options.max_length is not None and laid_out.longest_sample > options.max_length:
        what = f"a sample of {laid_out.longest_sample:,} tokens"
        raise _overlong(what, "--max-length", options.max_length)


def _count(laid_out: Sequence[LaidOut], samples: Sequence[Sample], counts: Counts) -> None:
    if not samples:
        return
    by_kind = np.zeros(len(Kind), np.int64)
    for sample in samples:
        sizes = np.diff(sample.segments.start, append=sample.length)
        by_kind += np.bincount(sample.segments.kind, sizes, len(Kind)).astype(np.int64)
        counts.tokens += sample.length
        counts.trained_tokens += int(np.count_nonzero(sample.labels != IGNORE))
    for kind, tokens in zip(Kind, by_kind.tolist(), strict=True):
        counts.tokens_by_kind[kind.label] = counts.tokens_by_kind.get(kind.label, 0) + tokens
    counts.packed += len(laid_out)
    counts.samples += len(samples)
    counts.views += sum(each.views for each in laid_out)
    counts.npass_tokens += sum(each.npass_tokens for each in laid_out)
    counts.naive_tokens += sum(each.naive_tokens for each in laid_out)
