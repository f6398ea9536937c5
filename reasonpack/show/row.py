"""One row of a dataset → the facts in it: samples and segments.

All of it is computed from the columns alone; the chats and the template are not needed.
Offsets are in tokens from the start of the row, ends exclusive. Rows are numbered over
all shards, in the order of the manifest, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.shards import OpenShard, open_shard
from reasonpack.errors import FormatError, UsageError
from reasonpack.records.strict_json import quoted
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.wording import listed

I32 = NDArray[np.int32]
Decode = Callable[[I32], str]
"""Turns ids into text, special tokens included."""
LONGEST_ID = 200
"""Characters of an id that are shown; it may be as long as a book."""
NO_ROWS = "a dataset with rows in it; this one has none"


@dataclass(frozen=True, slots=True)
class RowSample:
    """A conversation in a row, or a part of one."""

    id: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens of one kind, message and visibility, and how many of them are trained.

    `sample` is the number of a sample in the row.
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


@dataclass(frozen=True, slots=True)
class RowData:
    """One row of a shard, T tokens.

    Attributes:
        shard: path within the dataset.
        number: of the row.
        input_ids: i32[T].
        position_ids: i32[T].
        labels: i32[T], −100 where a token is not trained.
        samples: tile the row.
        segments: tile the samples.
    """

    shard: str
    number: int
    input_ids: I32
    position_ids: I32
    labels: I32
    samples: list[RowSample]
    segments: list[Segment]

    def tokens(self, segment: Segment) -> NDArray[np.int64]:
        """Give the offsets of the tokens of a segment."""
        return np.arange(segment.start, segment.start + segment.length)

    def segments_of(self, sample: int) -> list[Segment]:
        """Give the segments of a sample, by its number in the row."""
        return [segment for segment in self.segments if segment.sample == sample]


def find_rows(directory: Path, manifest: Manifest, id_: str) -> list[int]:
    """Find the rows that hold a sample with this id, reading no other column.

    Raises:
        FormatError: a shard is damaged.
        UsageError: there is none.
    """
    found: set[int] = set()
    known: list[str] = []
    before = 0  # rows
    for shard in manifest.shards:
        with open_shard(directory / shard.path) as opened:
            for group in opened.groups(["sample_id"]):
                ids = group.column(0)
                names = pc.list_flatten(ids)
                rows = pc.list_parent_indices(ids).filter(pc.equal(names, id_))
                found.update(before + row for row in rows.to_pylist())
                known += names.unique()[: 5 - len(known)].to_pylist()
                before += group.num_rows
    if not found:
        there = f"one of {manifest.counts.packed:,}, such as {listed(map(quoted_id, known))}"
        raise UsageError(
            "--id",
            f"no sample has the id {quoted_id(id_)}",
            there if known else NO_ROWS,
            "check it, or name a row with --row",
        )
    return sorted(found)


def read_row(directory: Path, manifest: Manifest, number: int) -> RowData:
    """Read one row, and no more of its shard than the row group or batch that it is in.

    Raises:
        FormatError: the shard is damaged.
        UsageError: there is no such row.
    """
    within = number
    for shard in manifest.shards:
        if within < shard.rows:
            with open_shard(directory / shard.path) as opened:
                return _take_apart(_read_row(opened, within), shard=shard.path, number=number)
        within -= shard.rows
    rows = manifest.counts.rows
    there = f"0 to {rows - 1}" if rows else NO_ROWS
    raise UsageError("--row", f"there is no row {number}", there, "name one of those")


def _read_row(shard: OpenShard, within: int) -> pa.RecordBatch:
    """Read row `within` of a shard, as a batch of one row."""
    for number, rows in enumerate(shard.sizes()):
        if within < rows:
            return shard.read(number).slice(within, 1)
        within -= rows
    raise FormatError(
        shard.name, "fewer rows", "those of the manifest", "pack again with --overwrite"
    )


def _take_apart(row: pa.RecordBatch, *, shard: str, number: int) -> RowData:
    """Make a batch of one row into NumPy arrays and small dataclasses."""

    def ints(name: str) -> I32:
        return np.array(row.column(name)[0].values, np.int32)

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
    )
    kinds = [Kind(kind).label for kind in ints("segment_kind")]
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
    )


def quoted_id(id_: str) -> str:
    """Write an id for a message; a long one is cut."""
    return quoted(id_, limit=LONGEST_ID)


def choose_samples(row: RowData, id_: str | None) -> list[int]:
    """Give the numbers of the samples with an id; of all samples without one.

    Raises:
        UsageError: the row holds no such sample.
    """
    numbers = [n for n, sample in enumerate(row.samples) if id_ in {None, sample.id}]
    if not numbers:
        there = listed(quoted_id(sample.id) for sample in row.samples)
        raise UsageError(
            "--id",
            f"no sample of row {row.number} has the id {quoted_id(id_ or '')}",
            there,
            "name one of these, or leave out --row",
        )
    return numbers


def row_json(row: RowData, samples: Sequence[int], decode: Decode | None) -> dict[str, Any]:
    """Describe samples of a row for a program; their text only if there is a `decode`."""
    segments = []
    for segment in row.segments:
        if segment.sample in samples:
            described = asdict(segment)
            del described["sample"]
            if decode:
                described["text"] = decode(row.input_ids[row.tokens(segment)])
            segments.append(described)
    return {
        "shard": row.shard,
        "row": row.number,
        "length": len(row.input_ids),
        "samples": [asdict(row.samples[number]) for number in samples],
        "segments": segments,
    }
