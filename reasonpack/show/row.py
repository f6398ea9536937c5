"""Reads rows of a dataset: their tokens, samples, segments and calls.

Only the columns are needed, not the chats or the template. Offsets are in tokens from the start
of the row, ends exclusive. Rows are numbered from 0 over all shards, in the manifest's order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from msgspec import Struct, field, to_builtins
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import OpenShard, open_shard
from reasonpack.errors import FormatError, UsageError
from reasonpack.records.strict_json import quoted
from reasonpack.rows.content_hash import numbers_of
from reasonpack.rows.kind import BY_LABEL
from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.sample import IGNORE
from reasonpack.rows.schema import COLUMNS, OPTIONAL
from reasonpack.storage.place import Place
from reasonpack.wording import listed

I32 = NDArray[np.int32]
Decode = Callable[[I32], str]
"""Turns ids into text, special tokens included."""
LONGEST_ID = 200
"""How many characters of an id are shown; ids may be very long."""
NO_ROWS = "a dataset with rows in it; this one has none"
DAMAGED = "repeat the pack command, which finds and replaces what was altered"
"""The fix for rows that differ from what was written."""


class RowSample(Struct, frozen=True):
    """A conversation in a row, or a part of one."""

    id: str
    start: int
    length: int


class Segment(Struct, frozen=True):
    """A run of tokens of one kind, message and visibility; `trained` of them are trained.

    `sample` and `call` are numbers within the row; `call` is −1 if it belongs to no call.
    """

    sample: int
    kind: str
    message: int
    start: int
    length: int
    position_first: int
    position_last: int
    visible_until: int
    trained: int
    call: int = -1


class RowCall(Struct, frozen=True):
    """A call in a row. Its role is 0 (none), 1 (chosen) or 2 (rejected); its reward may be None."""

    id: str
    sample: int
    role: int
    reward: float | None


class RowData(Struct, frozen=True):
    """One row of a shard, T tokens.

    Attributes:
        shard: path within the dataset.
        number: the row's number in the dataset.
        input_ids: i32[T].
        position_ids: i32[T].
        labels: i32[T], −100 where a token is not trained.
        samples: tile the row.
        segments: tile the samples.
        columns: further numbers for each token, by the name of their column: [T].
        calls: the calls of the row; empty for conversations.
    """

    shard: str
    number: int
    input_ids: I32
    position_ids: I32
    labels: I32
    samples: list[RowSample]
    segments: list[Segment]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    calls: list[RowCall] = field(default_factory=list)

    @property
    def targets(self) -> I32:
        """i32[T]: the labels and, in rejected answers, the preference labels."""
        rejected = self.columns.get("preference_labels", self.labels)
        return np.where(self.labels != IGNORE, self.labels, rejected)

    def tokens(self, segment: Segment) -> NDArray[np.int64]:
        """Return the offsets of the tokens of a segment."""
        return np.arange(segment.start, segment.start + segment.length)

    def segments_of(self, sample: int) -> list[Segment]:
        """Return the segments of a sample, given by its number in the row."""
        return [segment for segment in self.segments if segment.sample == sample]


def find_rows(directory: Place, manifest: Manifest, id_: str, *, option: str = "--id") -> list[int]:
    """Return the numbers of the rows that have a sample or a call with this id.

    The id is a sample's if `option` is `--id`, else a call's. Only the ids are read.

    Raises:
        FormatError: a shard is damaged.
        UsageError: no row has it.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 (0.1 s, for the commands that look for an id)

    of = "sample" if option == "--id" else "call"
    found: set[int] = set()
    known: list[str] = []
    before = 0  # rows
    for shard in manifest.shards:
        with open_shard(place_of(directory, shard.path)) as opened:
            for group in opened.groups([f"{of}_id"]):
                ids = group.column(0)
                names = pc.list_flatten(ids)
                same = pc.equal(names.cast("binary"), id_.encode(errors="surrogatepass"))
                rows = pc.list_parent_indices(ids).filter(same)
                found.update(before + row for row in rows.to_pylist())
                known += names.unique()[: 5 - len(known)].to_pylist()
                before += group.num_rows
    if not found:
        number = manifest.counts.packed if of == "sample" else manifest.counts.views
        there = f"one of {number:,}, such as {listed(map(quoted_id, known))}"
        what = f"no {of} has the id {quoted_id(id_)}"
        fix = "check it, or name a row with --row"
        raise UsageError(option, what, there if known else NO_ROWS, fix)
    return sorted(found)


def read_rows(directory: Place, manifest: Manifest, numbers: Sequence[int]) -> list[RowData]:
    """Read rows by number; only their row groups or batches are read, each once.

    Raises:
        FormatError: a shard is damaged.
        UsageError: there is no such row.
    """
    found: dict[int, RowData] = {}
    first = 0
    for shard in manifest.shards:
        within = sorted(
            {number - first for number in numbers if first <= number < first + shard.rows}
        )
        if within:
            place = place_of(directory, shard.path)
            with open_shard(place) as opened:
                for at, row in zip(within, _rows_of(opened, within), strict=True):
                    found[first + at] = _take_apart(row, shard=shard.path, number=first + at)
        first += shard.rows
    if missing := [number for number in numbers if number not in found]:
        there = f"0 to {first - 1}" if first else NO_ROWS
        raise UsageError("--row", f"there is no row {missing[0]}", there, "name one of those")
    return [found[number] for number in numbers]


def _rows_of(shard: OpenShard, within: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Yield rows of a shard, each as a batch; `within` are their sorted numbers in the shard."""
    first, waiting = 0, list(within)
    for number, rows in enumerate(shard.sizes()):
        here = [at - first for at in waiting if at < first + rows]
        waiting = waiting[len(here) :]
        if here:
            yield from shard.rows(number, here)
        first += rows
    if waiting:
        raise FormatError(
            shard.name, "fewer rows", "those of the manifest", "pack again with --overwrite"
        )


def _take_apart(row: pa.RecordBatch, *, shard: str, number: int) -> RowData:
    """Return a batch of one row as `RowData`."""

    def ints(name: str) -> I32:
        return numbers_of(row.column(name)[0].values).astype(np.int32)

    input_ids, position_ids, labels = map(ints, ("input_ids", "position_ids", "labels"))
    sample_start, start = ints("sample_start"), ints("segment_start")
    length = np.diff(start, append=len(input_ids))
    columns = (
        np.searchsorted(sample_start, start, side="right") - 1,
        ints("segment_message"),
        start,
        length,
        position_ids[start],
        position_ids[start + length - 1],
        ints("segment_visible_until"),
        np.add.reduceat(labels != IGNORE, start, dtype=np.int32),
        ints("segment_call") if "segment_call" in row.schema.names else np.full(len(start), -1),
    )
    names = list(BY_LABEL)
    kinds = [names[kind] for kind in ints("segment_kind").tolist()]
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    lengths = np.diff(sample_start, append=len(input_ids)).tolist()
    ids = row.column("sample_id")[0].as_py()
    return RowData(
        shard=shard,
        number=number,
        input_ids=input_ids,
        position_ids=position_ids,
        labels=labels,
        samples=list(map(RowSample, ids, sample_start.tolist(), lengths)),
        segments=[
            Segment(sample, kind, *rest)
            for kind, (sample, *rest) in zip(kinds, numbers, strict=True)
        ],
        columns=_further_columns(row, len(input_ids)),
        calls=_calls(row),
    )


def _calls(row: pa.RecordBatch) -> list[RowCall]:
    names = set(row.schema.names)
    if "call_id" not in names:
        return []
    ids, samples = (row.column(name)[0].as_py() for name in ("call_id", "call_sample"))
    roles = row.column("call_role")[0].as_py() if "call_role" in names else [0] * len(ids)
    rewards = np.full(len(ids), np.nan)
    if "call_reward" in names:
        rewards = numbers_of(row.column("call_reward")[0].values)
    return [
        RowCall(id_, sample, role, reward)
        for id_, sample, role, reward in zip(ids, samples, roles, plain(rewards), strict=True)
    ]


def plain(values: NDArray[Any]) -> list[Any]:
    """Return Python numbers, floats by their shortest decimal form; None if not finite.

    >>> plain(np.array([0.79, np.nan], np.float32)), plain(np.array([5]))
    ([0.79, None], [5])
    """
    if values.dtype.kind != "f":
        return list(values.tolist())
    shortest = map(float, values.astype(str).tolist())
    return [each if math.isfinite(each) else None for each in shortest]


def _further_columns(row: pa.RecordBatch, length: int) -> dict[str, NDArray[Any]]:
    """Return the columns with a number for each token, without those that every shard has."""
    others = {name for name, _ in (*COLUMNS, *OPTIONAL)} - FILLS.keys()
    found = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        if name not in others and pa.types.is_list(column.type):
            values = column[0].values
            numeric = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
            if numeric and len(values) == length:
                found[name] = numbers_of(values)
    return found


def quoted_id(id_: str) -> str:
    """Return an id quoted for a message, cut if it is long."""
    return quoted(id_, limit=LONGEST_ID)


def choose_samples(row: RowData, id_: str | None) -> list[int]:
    """Return the numbers of the samples with this id; of all samples if it is None.

    Raises:
        UsageError: the row has no such sample.
    """
    numbers = [n for n, sample in enumerate(row.samples) if id_ in {None, sample.id}]
    if not numbers:
        there = listed(quoted_id(sample.id) for sample in row.samples)
        what = f"no sample of row {row.number} has the id {quoted_id(id_ or '')}"
        raise UsageError("--id", what, there, "name one of these, or leave out --row")
    return numbers


def row_json(
    row: RowData, samples: Sequence[int], decode: Decode | None, *, tokens: bool = False
) -> dict[str, Any]:
    """Return samples of a row as a JSON object.

    Args:
        row: the row.
        samples: the numbers of the samples in the row.
        decode: turns ids into text; without it segments have no text.
        tokens: whether to add the values of each token to the segments.
    """
    columns = {"input_ids": row.input_ids, "labels": row.labels, "position_ids": row.position_ids}
    segments = []
    for segment in row.segments:
        if segment.sample in samples:
            described = to_builtins(segment)
            del described["sample"]
            if segment.call < 0:
                del described["call"]
            if tokens:
                own = row.tokens(segment)
                for name, values in {**columns, **row.columns}.items():
                    described[name] = plain(values[own])
            if decode:
                described["text"] = decode(row.input_ids[row.tokens(segment)])
            segments.append(described)
    return {
        "shard": row.shard,
        "row": row.number,
        "length": len(row.input_ids),
        "samples": [to_builtins(row.samples[number]) for number in samples],
        "segments": segments,
    }
