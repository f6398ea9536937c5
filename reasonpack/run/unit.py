"""A work unit → one published shard and its receipt.

    records ─→ conversations ─→ views ─→ (one batch to the tokenizer) ─→ samples ─→ rows ─→ shard
       └────────── what cannot be packed ──────────→ rejects

Pure apart from the files it publishes: the same unit and options give the same bytes
whatever else runs.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from reasonpack.behaviour import learn
from reasonpack.conversation import Conversation, parse_line, parse_record
from reasonpack.encoding import CutView, Pieces
from reasonpack.errors import RecordError, UsageError
from reasonpack.layout import IGNORE, Sample, lay_out
from reasonpack.packing import pack
from reasonpack.run.plan import Record, Unit, read_records
from reasonpack.shard import ShardFormat, rows_to_table, schema, write_shard
from reasonpack.storage import publish, publish_text
from reasonpack.template import load_template
from reasonpack.tokenizer import Tokenizer, load_tokenizer
from reasonpack.views import Kind, Rendering, TrainOn, View, build_views

__all__ = ["Context", "Counts", "Options", "Receipt", "Shard", "load_context", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run was asked for; with the plan it determines every byte of the output."""

    tokenizer: str
    revision: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: str = "{}"
    date: str | None = None
    train_on: TrainOn = "all"
    packing: bool = False
    max_length: int | None = None
    max_position: int | None = None
    overlong: Literal["error", "skip"] = "error"
    on_error: Literal["stop", "skip"] = "stop"
    format: ShardFormat = "parquet"
    compression: str | None = "zstd"


@dataclass(frozen=True, slots=True)
class Context:
    """What `Options` name, loaded: once in each process."""

    tokenizer: Tokenizer
    without_tools: Rendering
    with_tools: Rendering
    max_position: int | None

    def rendering(self, conversation: Conversation) -> Rendering:
        """Return the template for this conversation, and what is known of it."""
        return self.with_tools if conversation.tools else self.without_tools


@dataclass(slots=True)
class Counts:
    """What a shard or a dataset holds; adds up."""

    conversations: int = 0
    packed: int = 0
    rejected: int = 0
    views: int = 0
    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    npass_tokens: int = 0
    naive_tokens: int = 0
    tokens_by_kind: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add what another shard holds."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                total = Counter(mine)
                total.update(theirs)
                setattr(self, name, dict(sorted(total.items())))
            else:
                setattr(self, name, mine + theirs)


@dataclass(frozen=True, slots=True)
class Shard:
    """A published file of rows; `path` is relative to the dataset."""

    path: str
    rows: int
    tokens: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one work unit."""

    unit: Unit
    shard: Shard
    counts: Counts


@lru_cache(maxsize=1)
def load_context(options: Options) -> Context:
    """Load tokenizer and templates, and learn what the templates do.

    Raises:
        TokenizerError: the tokenizer cannot be loaded.
        TemplateError: the template cannot be loaded or trusted.
        UsageError: options that contradict each other.
    """
    tokenizer = load_tokenizer(options.tokenizer, revision=options.revision)
    templates = load_template(
        options.chat_template,
        directory=tokenizer.directory,
        config=tokenizer.config,
        special_tokens={
            **tokenizer.special_tokens,
            "additional_special_tokens": list(tokenizer.additional_special_tokens),
        },
        date=datetime.date.fromisoformat(options.date) if options.date else None,
    )
    variables = json.loads(options.chat_template_kwargs)
    added = [token.content for token in tokenizer.reference.get_added_tokens_decoder().values()]
    without = Rendering(templates[0], learn(templates[0], added, variables), variables)
    with_tools = without
    if templates[1] is not templates[0]:
        with_tools = Rendering(templates[1], learn(templates[1], added, variables), variables)
    if options.packing and options.max_length is None:
        raise UsageError("--packing: no row length, expected one. Fix: pass --max-length TOKENS.")
    limit = options.max_position or tokenizer.model_max_length or options.max_length
    return Context(tokenizer, without, with_tools, limit)


def process(unit: Unit, options: Options, output: Path, shards: int) -> Receipt:
    """Pack one unit and publish its shard, its rejects and its receipt.

    Args:
        unit: what to pack.
        options: of the run.
        output: the dataset's directory.
        shards: how many units the plan has, for the shard's name.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
        StorageError: input that cannot be read, output that cannot be written.
    """
    context = load_context(options)
    counts = Counts()
    rejects: list[dict[str, str]] = []
    samples = []
    for sample in _samples(unit, options, context, rejects, counts):
        _count(sample, counts)
        samples.append(sample)
    if options.packing and options.max_length is not None:
        rows = pack([sample.length for sample in samples], options.max_length)
    else:
        rows = [[index] for index in range(len(samples))]
    counts.rows = len(rows)
    path = f"data/train-{unit.number:05d}-of-{shards:05d}.{options.format}"
    table = rows_to_table(samples, rows, schema(_metadata(context)))
    with publish(output / path) as file:
        write_shard(table, file, format_=options.format, compression=options.compression)
    stem = output / "receipts" / f"{unit.number:05d}"
    if rejects:
        lines = (json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects)
        publish_text(stem.with_suffix(".rejects.jsonl"), "".join(lines))
    receipt = Receipt(unit, Shard(path, len(rows), counts.tokens, file.bytes, file.sha256), counts)
    publish_text(stem.with_suffix(".json"), as_json(receipt))
    return receipt


def as_json(value: Any) -> str:
    """Write any of the dataclasses here as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def _metadata(context: Context) -> dict[str, str]:
    return {
        "layout": "onepass",
        "tokenizer_sha256": context.tokenizer.sha256,
        "template_sha256": context.without_tools.template.sha256,
    }


def _samples(
    unit: Unit,
    options: Options,
    context: Context,
    rejects: list[dict[str, str]],
    counts: Counts,
) -> Iterator[Sample]:
    """Lay out every record that can be; say of each of the others why not."""
    pieces = Pieces(context.tokenizer.cut)
    waiting: list[tuple[Record, str, list[CutView]]] = []

    def reject(record: Record, error: RecordError) -> None:
        error.where = error.where or record.where
        skipped = error.reason == "overlong" and options.overlong == "skip"
        if options.on_error == "stop" and not skipped:
            raise error
        rejects.append(_reject(record, error))
        counts.rejected += 1
        counts.rejects[error.reason] = counts.rejects.get(error.reason, 0) + 1

    for record in read_records(unit):
        counts.conversations += 1
        try:
            conversation = _parse(record)
            views = build_views(
                conversation, context.rendering(conversation), train_on=options.train_on
            )
            _check_text_length(views, context)
        except RecordError as error:
            reject(record, error)
        else:
            waiting.append((record, conversation.id, [pieces.add(view) for view in views]))
    pieces.encode(context.tokenizer.encode_batch)
    for record, id_, cut_views in waiting:
        try:
            sample = lay_out(id_, [pieces.look_up(view) for view in cut_views])
            _check_length(sample, options, context)
        except RecordError as error:
            reject(record, error)
        else:
            yield sample


def _parse(record: Record) -> Conversation:
    if record.row is not None:
        return parse_record(record.row, record.where, null_keys=True)
    return parse_line(record.line, record.where)


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


def _check_text_length(views: list[View], context: Context) -> None:
    """Refuse a view too long in characters, before the tokenizer is made to read it."""
    limit, longest = context.max_position, context.tokenizer.max_token_chars
    if limit is None or longest is None:
        return
    characters = max(len(view.prompt) + len(view.completion) for view in views)
    if characters > limit * longest:
        at_least = characters // longest
        raise _overlong(f"a view of at least {at_least:,} tokens", "--max-position", limit)


def _check_length(sample: Sample, options: Options, context: Context) -> None:
    if context.max_position is not None and sample.longest_view > context.max_position:
        what = f"a view of {sample.longest_view:,} tokens"
        raise _overlong(what, "--max-position", context.max_position)
    if options.max_length is not None and sample.length > options.max_length:
        raise _overlong(f"a sample of {sample.length:,} tokens", "--max-length", options.max_length)


def _count(sample: Sample, counts: Counts) -> None:
    segments = sample.segments
    lengths = np.diff(segments.start, append=sample.length)
    for kind in Kind:
        tokens = int(lengths[segments.kind == kind].sum())
        counts.tokens_by_kind[kind.label] = counts.tokens_by_kind.get(kind.label, 0) + tokens
    counts.packed += 1
    counts.views += sample.views
    counts.tokens += sample.length
    counts.trained_tokens += int(np.count_nonzero(sample.labels != IGNORE))
    counts.npass_tokens += sample.npass_tokens
    counts.naive_tokens += sample.naive_tokens
