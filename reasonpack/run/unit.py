"""A work unit → its published shards, one per split, its file of rejects, and its receipt.

    records ─→ conversations ─→ views ─→ (one batch to the tokenizer) ─→ samples ─→ rows ─→ shard
       └────── records that cannot be packed ──────→ rejects

Pure apart from the files it publishes: the same unit and options give the same bytes
whatever else runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.datasets.options import TRAIN, Options
from reasonpack.datasets.receipt import (
    Receipt,
    RejectFile,
    Shard,
    as_json,
    place_of,
    receipt_path,
    reject_path,
    sealed,
    shard_path,
)
from reasonpack.errors import RecordError, UsageError
from reasonpack.records.groups import Groups, read_entries
from reasonpack.records.plan import changed
from reasonpack.records.reading import Reading
from reasonpack.records.record_places import Source
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.records.unknown import UnknownFieldError, together
from reasonpack.rows.content_hash import Content
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups, rows_to_table
from reasonpack.run.buckets import UNSHUFFLED, row_keys, write_buckets
from reasonpack.run.call_plan import INDEX
from reasonpack.run.calls import CallGroups
from reasonpack.run.context import Context, Loaded
from reasonpack.run.conversations import Chats, parse
from reasonpack.run.copies import asked_for, read_times
from reasonpack.run.plan_file import Plan, planned_columns
from reasonpack.run.stages import stage, staged
from reasonpack.run.waiting_calls import calls_of
from reasonpack.run.work import Laid
from reasonpack.storage.place import Place, Stamp, join, stamp
from reasonpack.storage.publish import publish


class Job(Struct, frozen=True, kw_only=True):
    """What all units of a run have in common.

    Attributes:
        plan: the plan, without its inputs and units: each process gets it, and they may be many.
        units: how many units there are, for the names of shards.
        input_bytes: size of all units, for calls about that of the texts that do not repeat; it
            decides on the backend that encodes texts.
        places: where each of the plan's inputs is read.
        stamps: size and time of these, from before the plan was made.
        sources: for calls, where the records of each input can be looked up.
        unshuffled: whether units are published in buckets, to be shuffled.
    """

    output: Place
    plan: Plan
    units: int
    input_bytes: int
    places: tuple[Place, ...] = ()
    stamps: tuple[Stamp | None, ...] = ()
    sources: Sequence[Source] = ()
    unshuffled: bool = False

    @classmethod
    def of(cls, plan: Plan, output: Place, **more: Any) -> Job:
        """Make the job of a plan; `more` are fields that the plan does not have."""
        return cls(
            output=output,
            plan=replace(plan, inputs=[], units=[]),
            units=len(plan.units),
            **{"input_bytes": sum(unit.input_bytes for unit in plan.units), **more},
        )

    @property
    def home(self) -> Place:
        """The directory in which units are published."""
        return join(self.output, UNSHUFFLED) if self.unshuffled else self.output


def process(unit: Unit, loaded: Loaded, job: Job) -> Receipt:
    """Pack one unit and publish its shards, its rejects and its receipt.

    Raises:
        RecordError: a record that cannot be packed, unless `options.on_error` skips it.
        StorageError: input that cannot be read, or that was written to since the plan was
            made; output that cannot be written.
    """
    return publish_unit(unit, job, lay_out_unit(unit, loaded, job))


def publish_unit(unit: Unit, job: Job, laid: Laid) -> Receipt:
    """Publish the shards, the rejects and the receipt of a unit that is laid out."""
    shards = [
        publish_shard(split, rows, laid.samples, unit=unit, job=job)
        for split, rows in laid.rows.items()
        if rows or split == TRAIN
    ]
    rejected = publish_rejects(unit, job.home, laid.rejects)
    backend = (laid.backend, "; ".join(dict.fromkeys(laid.backend_faults)) or None)
    receipt = Receipt(unit, job.plan.sha256, shards, rejected, laid.counts, *backend)
    return publish_receipt(receipt, job.home)


def lay_out_unit(unit: Unit, loaded: Loaded, job: Job) -> Laid:
    """Lay out the records of a unit, and publish nothing; see `process`."""
    options, context = loaded.options, loaded.context
    encoder = loaded.encoder(job.input_bytes)
    given = (options, context, encoder.encode, job.plan.columns)
    times = read_times(job.output, job.plan.copies, unit.number)
    if groups := _groups(unit, job):
        laid = CallGroups(*given).lay_out(groups, times)
        read = set(groups.entries["file"].tolist())
    else:
        encoder.prepare()  # not for calls: they may have no text to encode
        records, read = read_records(unit, job.places[unit.input]), {unit.input}
        laid = Chats(*given).lay_out(records, times)
    for number in sorted(read):
        if stamp(job.places[number]) != job.stamps[number]:
            raise changed(job.places[number])
    found = Laid(backend=encoder.used, backend_faults=[encoder.fault] if encoder.fault else [])
    found.add(laid)  # sorts the counts, which depend on the order of rejects otherwise
    return replace(found, rows=laid.rows)


def _groups(unit: Unit, job: Job) -> Groups | None:
    """Return the groups of calls of a unit; None for chats."""
    if job.plan.grouping is None:
        return None
    entries = read_entries(join(job.output, INDEX), unit.start, unit.stop)
    return Groups(entries, job.sources, job.plan.grouping.field)


def publish_shard(
    split: str, rows: Sequence[Sequence[int]], samples: Sequence[Sample], *, unit: Unit, job: Job
) -> Shard:
    """Publish the rows of one split, each the indices of its samples, as a shard or in buckets."""
    options, plan, content = job.plan.options, job.plan, Content()
    schema_ = shard_schema(options, plan.hashes, plan.columns)
    suffix = "arrow" if job.unshuffled else options.format
    path = shard_path(unit.number, units=job.units, suffix=suffix, split=split)
    with stage("write"), publish(place_of(job.home, path)) as file:
        if job.unshuffled:
            keys = row_keys(options.seed, split, unit.number, len(rows))
            write_buckets(file, samples, rows, keys, schema_, buckets=job.units)
        else:
            groups = _hashed(row_groups(samples, rows, schema_), content)
            write_shard(groups, file, schema_, format_=options.format, compression=options.codec)
    return Shard(
        path=path,
        rows=len(rows),
        tokens=sum(samples[index].length for row in rows for index in row),
        bytes=file.bytes,
        sha256=file.sha256,
        content_hash=content.hexdigest(),
    )


def _hashed(groups: Iterable[pa.Table], content: Content) -> Iterator[pa.Table]:
    """Yield row groups, and add each to the hash of the content."""
    for group in staged("rows", groups):
        with stage("hash"):
            for batch in group.to_batches():
                content.add(batch)
        yield group


def pack_records(records: Iterable[Record], options: Options, context: Context) -> pa.Table:
    """Pack records into a table of rows; `context` is what the options name, loaded.

    Returns:
        A table with the columns that `schemas/FORMAT.md` describes.

    Raises:
        RecordError: a record that cannot be packed, or a message that is too long, unless
            `options.on_error` skips it.
    """
    if options.split:
        expected = "none, for a table has no splits"
        raise UsageError("--split", " ".join(options.split), expected, "split the table itself")
    if asked_for(options, ()):
        expected = "neither, for a table is a part of the input"
        raise UsageError("--dedup, --sample", "one of them", expected, "choose records before")
    columns = planned_columns(options)
    context.check_template()
    laid = Chats(options, context, columns=columns).lay_out(records)
    if laid.first_error and options.on_error == "stop":
        raise laid.first_error
    schema_ = shard_schema(options, context.hashes, columns)
    return rows_to_table(laid.samples, laid.rows[TRAIN], schema_)


def publish_rejects(
    unit: Unit, output: Place, rejects: Sequence[dict[str, Any]]
) -> RejectFile | None:
    """Publish a unit's lines of rejects.jsonl; return their file, None without any line."""
    if not rejects:
        return None
    path = reject_path(unit.number)
    with publish(place_of(output, path)) as file:
        for reject in rejects:
            # Half of a surrogate pair remains the escape that it was in the input.
            line = json.dumps(reject, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))
    return RejectFile(path, len(rejects), file.bytes, file.sha256)


def publish_receipt(receipt: Receipt, output: Place) -> Receipt:
    """Publish the receipt of a unit after its files; return it with its own hash in it."""
    whole = sealed(receipt)
    with publish(place_of(output, receipt_path(receipt.unit.number))) as file:
        file.write(as_json(whole).encode())
    return whole


def shard_schema(options: Options, hashes: Mapping[str, str], columns: Sequence[str]) -> pa.Schema:
    """Return the schema of the shards of a run, with its metadata.

    `hashes` are as in a plan; `columns` are the optional ones of every shard.
    """
    metadata = {
        "layout": options.layout,
        "tokenizer_sha256": hashes["tokenizer"],
        "template_sha256": hashes["template"],
    }
    return schema(metadata, columns)


def unknown_fields(unit: Unit, loaded: Loaded, job: Job) -> UnknownFieldError | None:
    """Return one error that names all unknown fields of a unit; None without any.

    Records that cannot be read for another reason are skipped.
    """
    reading = replace(loaded.context.reading, weighs=True)
    found: list[UnknownFieldError] = []
    for error in _errors(unit, job, reading):
        if isinstance(error, UnknownFieldError):
            found = [together([*found, error])]
    return found[0] if found else None


def _errors(unit: Unit, job: Job, reading: Reading) -> Iterator[RecordError]:
    """Yield the errors of a unit's records that cannot be read."""
    if groups := _groups(unit, job):
        for group in groups:
            found = (calls for _, _, calls in calls_of(group, reading))
            yield from (calls for calls in found if isinstance(calls, RecordError))
        return
    for record in read_records(unit, job.places[unit.input]):
        try:
            parse(record, reading)
        except RecordError as error:
            yield error
