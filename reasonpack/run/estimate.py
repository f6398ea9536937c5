"""A small sample → about what a run would cost; nothing is written."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from reasonpack.datasets.manifest import Part
from reasonpack.datasets.options import Options
from reasonpack.datasets.shares import STDIN, read_part
from reasonpack.errors import UsageError
from reasonpack.records.plan import InputFile, plan
from reasonpack.records.record_places import Entries, Source
from reasonpack.records.unit import Record, Unit
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups
from reasonpack.run.call_plan import formats_of_inputs, kind_of_inputs, plan_calls
from reasonpack.run.calls import lay_out_entries
from reasonpack.run.context import load_context
from reasonpack.run.conversations import Laid, lay_out_records
from reasonpack.run.copies import copies_a_record
from reasonpack.run.engine import Run, processes
from reasonpack.run.named_inputs import named_inputs
from reasonpack.run.plan_copies import plan_copies
from reasonpack.run.plan_file import planned_columns
from reasonpack.run.strata import group_strata, strata
from reasonpack.run.unit import load_encoder, shard_schema
from reasonpack.run.unpacked import unpacked
from reasonpack.storage.place import Place, free_bytes

MEMORY_AT_REST = 400 << 20
MEMORY_PER_BYTE = 20
"""Memory of a worker, and what a byte of a plain unit adds to it; measured, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would do.

    Attributes:
        inputs: the files, each with its number of units.
        units: of all files.
        input_bytes: of all files.
        workers: processes that would run.
        memory: of all of them, in bytes.
        compressed: whether a file is, so that memory may be several times as much.
        of_calls: whether conversations are groups of calls.
        conversations: about; None where there was nothing to take a sample of.
        tokens: about.
        npass_tokens: about; what npass would write for the same conversations.
        seconds: about, by all workers.
        rejected_share: of the conversations in the sample.
        disk: bytes of the shards, about, and of what is written before them.
        free: bytes that are free where they would be written; None where nobody says it.
    """

    inputs: tuple[tuple[InputFile, int], ...]
    units: int
    input_bytes: int
    workers: int
    memory: int
    compressed: bool
    of_calls: bool = False
    conversations: float | None = None
    tokens: float | None = None
    npass_tokens: float | None = None
    seconds: float | None = None
    rejected_share: float = 0.0
    disk: float | None = None
    free: int | None = None


class _Sampled(NamedTuple):
    """A part of the sample: how many times as much text and as many records it stands for."""

    times: float
    more: float
    pack: Callable[[], Laid]


Files = Sequence[tuple[Place, str]]


def estimate(
    inputs: Sequence[str], options: Options, *, run: Run, output: Place | None = None
) -> Estimate:
    """Plan a run and pack a sample of its input.

    `inputs` are as for `pack_files`, without standard input; `output` may lie in one of them.

    Raises:
        UsageError: standard input, which would be used up.
        ReasonpackError: what would stop the run at once.
    """
    if any(read_part(each).path == STDIN for each in inputs):
        raise UsageError("-", "cannot be read twice", "files", "name a file instead")
    context = load_context(options)
    files, blend = named_inputs(inputs, without=output, on_note=run.watch.on_note)
    formats = formats_of_inputs(files, options)
    if kind_of_inputs(formats, options) == "chats":
        weighted = options.loss_weights == "auto"
        planned, units = plan(files, unit_bytes=run.unit_bytes, weighted=weighted)
        columns, places = planned_columns(options, planned), [place for place, _ in files]
        copies = plan_copies(units, places, blend, options, run, columns=columns)
        often = copies_a_record(copies.index) if copies else 1.0
        sample = _chats(files, planned, units, options, run, often)
        schema_ = shard_schema(options, context.hashes, columns)
        found = _measured(_begun(planned, units, run), sample, options, schema_)
    else:
        with unpacked(run.temp_dir) as folder:
            found = _estimate_calls(files, blend, formats, options, run, folder)
    return found if output is None else replace(found, free=free_bytes(output))


def _begun(planned: Sequence[InputFile], units: Sequence[Unit], run: Run) -> Estimate:
    """Estimate what is known without a sample."""
    numbers = Counter(unit.input for unit in units)
    workers = min(processes(run, units), max(1, len(units)))
    largest = max((unit.input_bytes for unit in units), default=0)
    return Estimate(
        inputs=tuple((each, numbers[at]) for at, each in enumerate(planned)),
        units=len(units),
        input_bytes=sum(unit.input_bytes for unit in units),
        workers=workers,
        memory=workers * (MEMORY_AT_REST + MEMORY_PER_BYTE * largest),
        compressed=any(unit.container in {"gzip", "zstd"} for unit in units),
    )


def _chats(
    files: Files,
    planned: Sequence[InputFile],
    units: Sequence[Unit],
    options: Options,
    run: Run,
    often: float,
) -> Iterator[_Sampled]:
    """Take a sample of chats, which are packed so many times each."""
    context, encode = load_context(options), load_encoder(options, run.backend, 0).encode
    skipping, columns = replace(options, on_error="skip"), planned_columns(options, planned)

    def laid(records: Sequence[Record]) -> Laid:
        return lay_out_records(records, skipping, context, encode, columns=columns)

    for stratum in strata(units, [place for place, _ in files]):
        yield _Sampled(stratum.times * often, stratum.more * often, partial(laid, stratum.records))


def _estimate_calls(
    files: Files,
    blend: Sequence[Part],
    formats: Mapping[str, str],
    options: Options,
    run: Run,
    folder: Path,
) -> Estimate:
    """Plan groups of calls, and pack some of them."""
    context, encode = load_context(options), load_encoder(options, run.backend, 0).encode
    calls = plan_calls(files, options, formats, unit_bytes=run.unit_bytes, folder=folder)
    skipping = replace(options, on_error="skip")
    grouped, grouping = calls.grouped, calls.grouped.grouping
    copies = plan_copies(grouped.units, grouped.places, blend, options, run, grouped=grouped)
    often = copies_a_record(copies.index) if copies else 1.0
    names = [name for _, name in files]
    sources = [*map(Source, grouped.places, names, grouping.containers)]

    def laid(entries: Entries) -> Laid:
        of = (entries, sources, grouping.field, skipping, context)
        return lay_out_entries(*of, columns=calls.columns, encode=encode)

    sample = (
        _Sampled(times * often, times * often, partial(laid, entries))
        for entries, times in group_strata(grouped.entries)
    )
    begun = replace(_begun(grouped.inputs, grouped.units, run), of_calls=True)
    schema_ = shard_schema(options, context.hashes, calls.columns)
    found = _measured(begun, sample, options, schema_)
    packed = grouping.groups * often * (1 - found.rejected_share)
    return replace(found, conversations=packed)


def _measured(
    found: Estimate, sample: Iterable[_Sampled], options: Options, schema_: pa.Schema
) -> Estimate:
    """Pack a sample, and count each part of it as often as there is such input."""
    names = ("conversations", "packed", "tokens", "npass_tokens", "seconds", "bytes")
    total: dict[str, float] = dict.fromkeys(names, 0.0)
    for times, more, pack in sample:
        began = time.perf_counter()
        laid = pack()
        counts = laid.counts
        total["bytes"] += _shard_bytes(laid, options, schema_) * times
        total["seconds"] += (time.perf_counter() - began) * times
        for name in ("tokens", "npass_tokens"):
            total[name] += getattr(counts, name) * times
        for name in ("conversations", "packed"):
            total[name] += getattr(counts, name) * more
    if not total["conversations"]:
        return found
    return replace(
        found,
        conversations=total["packed"],
        tokens=total["tokens"],
        npass_tokens=total["npass_tokens"],
        seconds=total["seconds"] / found.workers,
        disk=total["bytes"] * (2 if options.shuffle else 1),
        rejected_share=1 - total["packed"] / total["conversations"],
    )


def _shard_bytes(laid: Laid, options: Options, schema_: pa.Schema) -> int:
    """Return how large a shard of these rows is."""
    rows = [row for own in laid.rows.values() for row in own]
    written = io.BytesIO()
    groups = row_groups(laid.samples, rows, schema_)
    write_shard(groups, written, schema_, format_=options.format, compression=options.codec)
    return written.tell()
