"""Input files → work units, and a work unit → its records.

    chats.jsonl     0 ─────── 32 MiB ─────── 64 MiB ── 70 MiB      cut after a line end
                    unit 0      unit 1         unit 2
    more.jsonl.gz   unit 3 (compressed: one unit)
    rows.parquet    unit 4 (row groups 0–3), unit 5 (row groups 4–7)

The plan depends on the files and the size of a unit, never on the number of workers.
One unit becomes one shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonpack.errors import StorageError
from reasonpack.storage import Container, container, open_bytes, unreadable

__all__ = ["UNIT_BYTES", "Record", "Unit", "plan", "read_records"]

UNIT_BYTES = 32 << 20
"""Input bytes of a work unit, about; memory of a worker is some ten times that."""
BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of one input file.

    Attributes:
        number: position in the plan, and of its shard.
        path: the input file.
        name: what the file is called in messages and ids.
        container: how the file is packed.
        start: first byte (plain), first row group (Parquet), else 0.
        stop: one past the last; −1 for a compressed file, which is read to its end.
        first_line: number of the first line or row in it, counted from 1.
        input_bytes: how much input it stands for, compressed where the file is.
    """

    number: int
    path: str
    name: str
    container: Container
    start: int
    stop: int
    first_line: int
    input_bytes: int


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


def plan(files: Sequence[tuple[Path, str]], *, unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """Cut input files, given as path and name, into work units.

    Plain files are read once, to find line ends and count lines.

    Raises:
        StorageError: a file cannot be read.
    """
    units: list[Unit] = []
    for path, name in files:
        kind = container(path)
        if kind == "plain":
            stretches = _line_stretches(path, unit_bytes)
        elif kind == "parquet":
            stretches = _group_stretches(path, unit_bytes)
        else:
            stretches = [(0, -1, 1, path.stat().st_size)]
        for start, stop, line, size in stretches:
            units.append(Unit(len(units), str(path), name, kind, start, stop, line, size))
    return units


def _line_stretches(path: Path, unit_bytes: int) -> list[tuple[int, int, int, int]]:
    stretches: list[tuple[int, int, int, int]] = []
    start = at = 0
    first_line = line = 1
    with open_bytes(path, "plain") as file:
        while block := file.read(BLOCK):
            line += block.count(b"\n")
            at += len(block)
            if at - start >= unit_bytes and (cut := block.rfind(b"\n")) >= 0:
                stop = at - len(block) + cut + 1
                stretches.append((start, stop, first_line, stop - start))
                start, first_line = stop, line
    if at > start or not stretches:
        stretches.append((start, at, first_line, at - start))
    return stretches


def _group_stretches(path: Path, unit_bytes: int) -> list[tuple[int, int, int, int]]:
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    stretches: list[tuple[int, int, int, int]] = []
    start = size = rows = 0
    first_row = 1
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        rows += metadata.row_group(group).num_rows
        if size >= unit_bytes:
            stretches.append((start, group + 1, first_row, size))
            start, first_row, size = group + 1, rows + 1, 0
    if start < metadata.num_row_groups or not stretches:
        stretches.append((start, metadata.num_row_groups, first_row, size))
    return stretches


def _damaged(path: Path, error: Exception) -> StorageError:
    if isinstance(error, OSError) and error.errno:
        return unreadable(path, error)
    return StorageError(
        f"{path}: {error}, expected a whole Parquet file. Fix: copy or write it again."
    )


def read_records(unit: Unit) -> Iterator[Record]:
    """Read the records of a unit; lines of nothing but white space are none.

    Raises:
        StorageError: the file cannot be read to the end of the unit.
    """
    if unit.container == "parquet":
        yield from _read_rows(unit)
        return
    with open_bytes(Path(unit.path), unit.container) as file:
        if unit.container == "plain":
            file.seek(unit.start)
        at = unit.start
        for number, line in enumerate(_lines(file), unit.first_line):
            if 0 <= unit.stop <= at:
                break
            at += len(line)
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901 (the mark is no part of the line)
            if line.strip():
                yield Record(f"{unit.name}:{number}", line.rstrip(b"\r\n"))


def _lines(file: Any) -> Iterator[bytes]:
    """Yield lines with their ends, also from Arrow's decompressing streams.

    Those have no fast `readline`, so blocks are cut here.
    """
    rest: list[bytes] = []
    while block := file.read(BLOCK):
        *whole, last = block.split(b"\n")
        for line in whole:
            rest.append(line)
            yield b"".join(rest) + b"\n"
            rest.clear()
        if last:
            rest.append(last)
    if rest:
        yield b"".join(rest)


def _read_rows(unit: Unit) -> Iterator[Record]:
    number = unit.first_line
    try:
        with pq.ParquetFile(unit.path) as file:
            groups = list(range(unit.start, unit.stop))
            for batch in file.iter_batches(batch_size=256, row_groups=groups) if groups else ():
                for row in batch.to_pylist():
                    yield Record(f"{unit.name}:{number}", b"", row)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise _damaged(Path(unit.path), error) from error
