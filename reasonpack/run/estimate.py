"""A small sample of the input → an estimate of what a run would cost; nothing is written.

    files       some records of some units, spread evenly; these units are read whole, as in most
                kinds of files nothing says where a record begins
    calls       │  ██ │ █  │██   │ ██ │     the groups in the middle of equal stretches of bytes

A small input is taken whole.
"""

from __future__ import annotations

import dataclasses
import io
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.datasets.options import Options
from reasonpack.datasets.shares import STDIN, read_share
from reasonpack.errors import UsageError
from reasonpack.records.groups import Groups
from reasonpack.records.plan import InputFile
from reasonpack.records.record_places import bounds_of
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups
from reasonpack.run.calls import CallGroups
from reasonpack.run.context import Loaded
from reasonpack.run.conversations import Chats
from reasonpack.run.copies import copies_a_record
from reasonpack.run.disk import unpacked_bytes
from reasonpack.run.engine import Run, Watch, processes
from reasonpack.run.named_inputs import named_inputs, unpacked
from reasonpack.run.pack import plan_run
from reasonpack.run.parts import parts_of
from reasonpack.run.plan_file import Plan
from reasonpack.run.unit import shard_schema
from reasonpack.run.work import Laid, Work
from reasonpack.storage.place import Place, free_bytes

MEMORY_AT_REST = 400 << 20
MEMORY_PER_BYTE = 20
"""Bytes of memory of a worker, and for each byte of its unit or part; measured, rounded up."""
SMALL = 2 << 20
"""Bytes of input up to which all records are taken."""
FEW = 256
"""As many units are read as a whole at most, because each takes milliseconds, however small."""
UNITS = 16
BYTES = 4 << 20
"""How many units of files are read, and about how many bytes of their records are taken."""
GROUPS = 192
GROUP_BYTES = 16 << 20
"""Most groups of calls that are read, and most bytes of these, unless a single one is larger."""


class Stratum(Struct, frozen=True):
    """A part of the sample, and how much of the input it stands for.

    Attributes:
        records: its records, or groups of calls.
        times: how many times as much text the input has.
        more: how many times as many records, or groups, the input has.
    """

    records: list[Record] | Groups
    times: float
    more: float


class Estimate(Struct, frozen=True, kw_only=True):
    """What a run would do and cost; numbers that a sample gives are None if it had no record.

    Attributes:
        inputs: the files, each with its number of units.
        units: number of units of all files.
        input_bytes: size of all files.
        workers: processes that would run.
        memory: bytes of memory of all workers.
        compressed: whether a file is compressed, so that memory may be several times as much.
        of_calls: whether conversations are groups of calls.
        conversations: that would be packed, about.
        tokens: about.
        npass_tokens: that the layout npass would have for the same conversations, about.
        seconds: that all workers would take, about.
        rejected_share: share of the sampled conversations that were rejected.
        disk: bytes of the shards, about, twice as many with --shuffle.
        free: free bytes where the shards would be written; None if unknown.
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


def estimate(
    inputs: Sequence[str], options: Options, *, run: Run, output: Place | None = None
) -> Estimate:
    """Plan a run and pack a sample of its input.

    `inputs` are as for `pack_files`, without standard input; `output` may lie in one of them.

    Raises:
        UsageError: an input is standard input, which can be read only once.
        ReasonpackError: an error that would stop the run at its start.
    """
    if any(read_share(each).path == STDIN for each in inputs):
        raise UsageError("-", "cannot be read twice", "files", "name a file instead")
    loaded = Loaded(options, run.backend)
    context = loaded.context  # first, as in a run
    files, blend = named_inputs(inputs, without=output, on_note=run.watch.on_note)
    with unpacked(run.temp_dir) as folder:
        quiet = replace(run, watch=Watch())
        plan, grouped, index = plan_run(files, blend, loaded, run=quiet, folder=folder)
        often = copies_a_record(index) if index else 1.0
        places = [place for place, _ in files]
        sample = group_strata(grouped.groups) if grouped else strata(plan.units, places)
        kind: type[Work[Any]] = CallGroups if grouped else Chats
        skipping = dataclasses.replace(options, on_error="skip")
        new = partial(kind, skipping, context, loaded.encoder(0).encode, plan.columns)
        found = _measured(_planned(plan, places, run), sample, new, often, plan)
    if plan.grouping:
        packed = plan.grouping.groups * often * (1 - found.rejected_share)
        found = replace(found, of_calls=True, conversations=packed)
    return found if output is None else replace(found, free=free_bytes(output))


def _planned(plan: Plan, places: Sequence[Place], run: Run) -> Estimate:
    """Return an estimate with what is known without a sample."""
    units, numbers = plan.units, Counter(unit.input for unit in plan.units)
    todo = [*chain.from_iterable(parts_of(units, plan, places, run).values())] or units
    workers = min(processes(run, todo), max(1, len(todo)))
    largest = max((each.input_bytes for each in todo), default=0)
    return Estimate(
        inputs=tuple((each, numbers[at]) for at, each in enumerate(plan.inputs)),
        units=len(units),
        input_bytes=sum(unit.input_bytes for unit in units),
        workers=workers,
        memory=workers * (MEMORY_AT_REST + MEMORY_PER_BYTE * largest),
        compressed=any(unit.container in {"gzip", "zstd"} for unit in units),
    )


def _measured(
    found: Estimate,
    sample: Iterable[Stratum],
    new: Callable[[], Work[Any]],
    often: float,
    plan: Plan,
) -> Estimate:
    """Complete an estimate by a sample, each stratum of which counts for the input it stands for.

    `new` makes the work that lays out a stratum; `often` is how often a record is packed.
    """
    schema_ = shard_schema(plan.options, plan.hashes, plan.columns)
    records, texts = np.zeros(2), np.zeros(4)
    for each in sample:
        began = time.perf_counter()
        laid = new().lay_out(each.records)
        bytes_, seconds = _shard_bytes(laid, plan.options, schema_), time.perf_counter() - began
        counts = laid.counts
        records += np.multiply((counts.conversations, counts.packed), each.more * often)
        cost = (counts.tokens, counts.npass_tokens, seconds, bytes_)
        texts += np.multiply(cost, each.times * often)
    conversations, packed = records.tolist()
    tokens, npass_tokens, seconds, bytes_ = texts.tolist()
    if not conversations:
        return found
    return replace(
        found,
        conversations=packed,
        tokens=tokens,
        npass_tokens=npass_tokens,
        seconds=seconds / found.workers,
        disk=bytes_ * (2 if plan.options.shuffle else 1),
        rejected_share=1 - packed / conversations,
    )


def _shard_bytes(laid: Laid, options: Options, schema_: pa.Schema) -> int:
    """Return the size in bytes of a shard with these rows."""
    rows = [row for own in laid.rows.values() for row in own]
    written = io.BytesIO()
    groups = row_groups(laid.samples, rows, schema_)
    write_shard(groups, written, schema_, format_=options.format, compression=options.codec)
    return written.tell()


# --- a sample of the input -------------------------------------------------------------


def strata(units: Sequence[Unit], places: Sequence[Place]) -> Iterator[Stratum]:
    """Yield a sample of the records of some units; `places` has the place of each input."""
    kinds = {unit.container for unit in units}
    whole = kinds <= {"plain", "array"} and _bytes(units) <= SMALL and len(units) <= FEW
    for kind in sorted(kinds):
        own = [unit for unit in units if unit.container == kind]
        chosen = own if whole else _spread(own)
        times = _bytes(own) / max(1, _bytes(chosen))
        of = 1 if whole else 1 + sum(map(unpacked_bytes, chosen)) // BYTES
        for unit in chosen:
            records, size, count = _some(read_records(unit, places[unit.input]), of)
            if records:
                taken = sum(map(_size, records))
                yield Stratum(records, times * size / taken, times * count / len(records))


def _spread(units: Sequence[Unit]) -> list[Unit]:
    """Return the units in which the middles of `UNITS` equal stretches of all bytes are."""
    ends = np.cumsum([unit.input_bytes for unit in units])
    middles = (np.arange(UNITS) + 0.5) * ends[-1] / UNITS
    return [units[at] for at in np.unique(np.searchsorted(ends, middles)).tolist()]


def _bytes(units: Sequence[Unit]) -> int:
    return sum(unit.input_bytes for unit in units)


def _some(records: Iterator[Record], of: int) -> tuple[list[Record], int, int]:
    """Draw one of each `of` records that follow each other, and at least one if there is any.

    Returns:
        The records that were drawn, and the size and number of all records.
    """
    draw = random.Random(0)  # noqa: S311 (to spread, not to hide)
    chosen: list[Record] = []
    size = count = drawn = 0
    for record in records:
        if count % of == 0:
            drawn = count + draw.randrange(of)
        if count in {drawn, 0}:
            chosen.append(record)
        size += _size(record)
        count += 1
    return chosen, size, count


def _size(record: Record) -> int:
    return len(record.line) + 1 if record.row is None else len(repr(record.row))


def group_strata(groups: Groups) -> Iterator[Stratum]:
    """Yield a sample of groups of calls: together if all are small, else each by itself."""
    entries = groups.entries
    if not len(entries):
        return
    bounds = bounds_of(entries)
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
    sizes, total = np.diff(upto), int(upto[-1])
    if total <= SMALL or sizes.max() <= SMALL // 16:
        taken = np.arange(len(sizes)) % -(-total // SMALL) == 0
        own = replace(groups, entries=entries[np.repeat(taken, np.diff(bounds))])
        yield Stratum(own, total / int(sizes[taken].sum()), len(sizes) / int(taken.sum()))
        return
    times, count = dict[int, float](), GROUPS
    while count and (not times or sizes[[*times]].sum() > GROUP_BYTES):
        middles = (np.arange(count) + 0.5) * total / count
        drawn = Counter((np.searchsorted(upto, middles, "right") - 1).tolist())
        times = {each: number * total / count / sizes.item(each) for each, number in drawn.items()}
        count //= 2
    for group, share in times.items():
        own = replace(groups, entries=entries[bounds[group] : bounds[group + 1]])
        yield Stratum(own, share, share)
