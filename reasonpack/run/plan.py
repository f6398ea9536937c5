"""Input files → work units, and a work unit → its records.

    chats.jsonl     0 ───── 23 MiB ───── 47 MiB ───── 70 MiB      cut after a line end
                    unit 0     unit 1       unit 2                in as few as --unit-size allows
    more.jsonl.gz   unit 3 (compressed: one unit)
    rows.parquet    unit 4 (row groups 0–3), unit 5 (row groups 4–7)

The plan depends on what is in the files and on the size of a unit, never on the number of
workers. One unit becomes one shard.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonpack.errors import StorageError
from reasonpack.storage import (
    Container,
    Place,
    container,
    digest,
    open_arrow,
    open_bytes,
    public_name,
    stamp,
    unreadable,
)

__all__ = ["UNIT_BYTES", "InputFile", "Record", "Unit", "plan", "read_records"]

UNIT_BYTES = 32 << 20
"""Input bytes of a work unit, at most about; memory of a worker is some twenty times that."""
UNIT_LINES = 1 << 18
"""Lines of a work unit, about: each costs a worker some kB, however short it is."""
SETTLED_NS = 2 * 10**9
"""How old a file must be for its time of writing to vouch for it: the coarsest clock's tick."""
BLOCK = 1 << 20
LONGEST_LINE = 256 << 20
"""Bytes that a line may have; a file that is no JSON Lines may be one line, of any size."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file as it was when the plan was made.

    Attributes:
        name: what it is called in messages and ids.
        bytes: its size.
        sha256: of all of its bytes.
        modified_ns: when it was written, if that is long enough ago to vouch for the
            content; −1 where the content has to be read again to know it.
    """

    name: str
    bytes: int
    sha256: str
    modified_ns: int = -1


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of one input file.

    Attributes:
        number: position in the plan, and of its shard.
        input: which of the plan's inputs, counted from 0.
        name: what the file is called in messages and ids.
        container: how the file is packed.
        start: first byte (plain), first row group (Parquet), else 0.
        stop: one past the last; −1 for a compressed file, which is read to its end.
        first_line: number of the first line or row in it, counted from 1.
        input_bytes: how much input it stands for, compressed where the file is.
    """

    number: int
    input: int
    name: str
    container: Container
    start: int
    stop: int
    first_line: int
    input_bytes: int

    def __str__(self) -> str:
        """Say which part of which file it is."""
        parts = {"plain": f", bytes {self.start:,} to {self.stop:,}"}
        parts["parquet"] = f", row groups {self.start} to {self.stop}"
        return f"{self.name}{parts.get(self.container, '')} (unit {self.number})"


@dataclass(frozen=True, slots=True)
class Record:
    """One line, or one row of a Parquet file, not yet understood.

    Attributes:
        where: `file:line`.
        line: bytes of the line, without its end; empty for a row.
        row: the row; None for a line.
    """

    where: str
    line: bytes
    row: dict[str, Any] | None = None


def plan(
    files: Sequence[tuple[Place, str]], *, unit_bytes: int = UNIT_BYTES
) -> tuple[list[InputFile], list[Unit]]:
    """Cut input files, given as place and name, into work units.

    The units of a file are as few as `unit_bytes` allows and about as large as each other, so
    that several workers end together.

    Every file is read once, to know its content, and a plain one to find line ends too.

    Raises:
        StorageError: a file cannot be read, or changes while it is.
    """
    inputs: list[InputFile] = []
    units: list[Unit] = []
    for place, name in files:
        kind = container(place)
        before = stamp(place)
        if kind == "plain":
            size = before.bytes if before else 0
            bytes_, sha256, stretches = _line_stretches(place, size, unit_bytes)
        else:
            bytes_, sha256 = digest(place)
            stretches = [(0, -1, 1, bytes_)]
            if kind == "parquet":
                stretches = _group_stretches(place, unit_bytes)
        if before is None or before != stamp(place) or before.bytes != bytes_:
            raise changed(place)
        number = len(inputs)
        inputs.append(InputFile(name, bytes_, sha256, settled(before.modified_ns)))
        for start, stop, line, size in stretches:
            units.append(Unit(len(units), number, name, kind, start, stop, line, size))
    return inputs, units


def changed(place: Place) -> StorageError:
    """Say that an input is not what it was."""
    return StorageError(
        f"{public_name(place)}: it was written to while it was being packed, expected it to "
        "stay as it was. Fix: pack again when it is complete."
    )


def settled(modified_ns: int) -> int:
    """Return a time of writing that vouches for content; −1 for one that is too young.

    A file may be written twice within one tick of its file system's clock.
    """
    return modified_ns if modified_ns < time.time_ns() - SETTLED_NS else -1


def _ends(size: int, unit_bytes: int) -> list[int]:
    """Divide a size into the fewest equal parts of at most so many bytes; return where they end.

    >>> _ends(70, 32)
    [24, 47, 70]
    """
    count = max(1, -(-size // unit_bytes))
    return [-(-part * size // count) for part in range(1, count + 1)]


def _line_stretches(
    place: Place, size: int, unit_bytes: int
) -> tuple[int, str, list[tuple[int, int, int, int]]]:
    stretches: list[tuple[int, int, int, int]] = []
    start = at = 0
    first_line = line = 1
    hash_ = hashlib.sha256()
    ends = _ends(size, unit_bytes)
    with open_bytes(place, "plain") as file:
        while block := file.read(min(BLOCK, unit_bytes)):
            hash_.update(block)
            line += block.count(b"\n")
            at += len(block)
            enough = at >= ends[0] or line - first_line >= UNIT_LINES
            if enough and at < ends[-1] and (cut := block.rfind(b"\n")) >= 0:
                stop = at - len(block) + cut + 1
                stretches.append((start, stop, first_line, stop - start))
                start, first_line = stop, line
                # However much this one has of the next one's share.
                ends = [end for end in ends if end > at]
    if at > start or not stretches:
        stretches.append((start, at, first_line, at - start))
    return at, hash_.hexdigest(), stretches


def _group_stretches(place: Place, unit_bytes: int) -> list[tuple[int, int, int, int]]:
    try:
        with open_arrow(place) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, StorageError, ValueError) as error:
        raise _damaged(place, error) from error
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    ends = _ends(sum(sizes), unit_bytes)
    stretches: list[tuple[int, int, int, int]] = []
    start = at = begin = rows = 0
    first_row = 1
    for group, size in enumerate(sizes):
        at += size
        rows += metadata.row_group(group).num_rows
        if ends[0] <= at < ends[-1]:
            stretches.append((start, group + 1, first_row, at - begin))
            start, begin, first_row = group + 1, at, rows + 1
            ends = [end for end in ends if end > at]
    if start < len(sizes) or not stretches:
        stretches.append((start, len(sizes), first_row, at - begin))
    return stretches


def _damaged(place: Place, error: Exception) -> StorageError:
    cause = error.__cause__ if isinstance(error, StorageError) else error
    if isinstance(cause, OSError) and cause.errno:
        return unreadable(place, cause)
    return StorageError(
        f"{public_name(place)}: {cause}, expected a whole Parquet file. "
        "Fix: copy or write it again."
    )


def read_records(unit: Unit, place: Place) -> Iterator[Record]:
    """Read the records of a unit from where its file is; blank lines are none.

    Raises:
        StorageError: the file cannot be read to the end of the unit.
    """
    if unit.container == "parquet":
        yield from _read_rows(unit, place)
        return
    with open_bytes(place, unit.container, start=unit.start) as file:
        at = unit.start
        for number, line in enumerate(_lines(file), unit.first_line):
            if 0 <= unit.stop <= at:
                break
            if len(line) > LONGEST_LINE:
                raise StorageError(
                    f"{unit.name}:{number}: a line of more than {LONGEST_LINE >> 20} MiB, expected "
                    "JSON Lines, one conversation a line. Fix: write the file as such, e.g. with "
                    "`jq -c '.[]'` where it is one list."
                )
            at += len(line)
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901 (the mark is no part of the line)
            if line.strip():
                yield Record(f"{unit.name}:{number}", line.rstrip(b"\r\n"))


def _lines(file: Any) -> Iterator[bytes]:
    """Yield lines with their ends, also from Arrow's decompressing streams.

    Those have no fast `readline`, so blocks are cut here. A line that is too long ends the lines;
    what was read of it is yielded.
    """
    rest: list[bytes] = []
    held = 0
    while held <= LONGEST_LINE and (block := file.read(BLOCK)):
        *whole, last = block.split(b"\n")
        for line in whole:
            rest.append(line)
            yield b"".join(rest) + b"\n"
            rest.clear()
            held = 0
        if last:
            rest.append(last)
            held += len(last)
    if rest:
        yield b"".join(rest)


def _read_rows(unit: Unit, place: Place) -> Iterator[Record]:
    number = unit.first_line
    try:
        with open_arrow(place) as source, pq.ParquetFile(source) as file:
            groups = list(range(unit.start, unit.stop))
            batches = file.iter_batches(256, groups, use_threads=False) if groups else ()
            for batch in batches:
                for row in _plain_times(batch).to_pylist():
                    yield Record(f"{unit.name}:{number}", b"", row)
                    number += 1
    except (pa.ArrowException, StorageError, ValueError, OverflowError) as error:
        raise _damaged(place, error) from error


def _plain_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn times in nanoseconds, which Python's cannot hold, into whole numbers.

    Where pandas is installed, Arrow would make objects of pandas of them.
    """
    for index, field in enumerate(batch.schema):
        type_ = _plain_type(field.type)
        if type_ != field.type:
            batch = batch.set_column(index, field.name, batch.column(index).cast(type_))
    return batch


def _plain_type(type_: pa.DataType) -> pa.DataType:
    """Return a type with whole numbers in place of nanoseconds, also inside lists and structs.

    >>> _plain_type(pa.list_(pa.struct([("at", pa.timestamp("ns"))])))
    ListType(list<item: struct<at: int64>>)
    """
    if pa.types.is_temporal(type_) and getattr(type_, "unit", "") == "ns":
        return pa.int64()
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_plain_type(type_.value_type)))
    if pa.types.is_struct(type_):
        fields = (type_.field(index) for index in range(type_.num_fields))
        return pa.struct([field.with_type(_plain_type(field.type)) for field in fields])
    return type_
