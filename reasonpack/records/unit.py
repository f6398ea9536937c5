"""A work unit → its records: the bytes of lines and elements, not decoded, or rows.

    lines of a plain or compressed file       chats.jsonl:7
    elements of one JSON list in such a file  chats.json[6]
    rows of a Parquet or Arrow file           chats.parquet:7

Memory is one record and one block, or one batch of rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import StorageError
from reasonpack.records.formats import HEAD, foreign
from reasonpack.records.json_array import NotAList, elements
from reasonpack.records.row_files import arrow_batches, opened_rows, parquet_batches, rows_of
from reasonpack.storage.place import Place
from reasonpack.storage.read import BLANK, BOM, Container, container, is_list, open_bytes
from reasonpack.wording import count

BLOCK = 1 << 20
LONGEST_RECORD = 256 << 20
"""Most bytes of a line or an element; a file that is no JSON Lines may be one line."""


UnitContainer = Literal["plain", "array", "gzip", "zstd", "parquet", "arrow", "groups"]
"""How the file of a unit is packed; `groups` if its records may be in any of the files."""


class Unit(Struct, frozen=True):
    """A stretch of one input file, or some groups of records from any of the files.

    Attributes:
        number: its position in the plan, which is that of its shard.
        input: index of its file in the plan; for groups, of the file of their first record.
        name: the file's name in messages and ids.
        container: how the file is packed.
        start: first byte (plain, or a list), first row group (Parquet), first batch of rows
            (Arrow), first entry of the index (groups), else 0.
        stop: one past the last; −1 for a compressed file, which is read to its end.
        first_line: number of its first line or row, counted from 1; of the first element of a
            list, from 0.
        input_bytes: size of its part of the input, compressed if the file is.
    """

    number: int
    input: int
    name: str
    container: UnitContainer
    start: int
    stop: int
    first_line: int
    input_bytes: int

    @property
    def order(self) -> tuple[int, int]:
        """A key that sorts units, and parts of one unit, in the order of their records."""
        return self.number, self.start

    def __str__(self) -> str:
        """Name the file and the part of it, for messages."""
        bytes_ = f", bytes {self.start:,} to {self.stop:,}"
        range_ = f"{self.start} to {self.stop}"
        records = count(self.stop - self.start, "record")
        parts = {
            "plain": bytes_,
            "array": bytes_,
            "parquet": f", row groups {range_}",
            "arrow": f", batches {range_}",
            "groups": f", groups of {records} from {self.first_line} on",
        }
        part = parts.get(self.container, "")
        return f"{self.name}{part} (unit {self.number})"


class Record(Struct, frozen=True):
    """One line, element of a list, or row of a Parquet or Arrow file, before it is interpreted.

    Attributes:
        where: `file:line`, or `file[index]` in a list.
        line: bytes of the line, without its end, or of the element; empty for a row. A row with
            text that is not UTF-8 is a line of JSON, so that it is refused as such a line is.
        row: the row; None for a line or an element.
    """

    where: str
    line: bytes
    row: dict[str, Any] | None = None


def content_kind(place: Place, name: str) -> Container:
    """Return how a file is packed; for a plain one, whether it holds lines or a list (`array`).

    Raises:
        StorageError: it cannot be read, or is no file of records.
    """
    kind = container(place)
    if kind in {"plain", "array"}:
        with open_bytes(place, "plain") as file:
            head = file.read(HEAD)
        if refusal := foreign(head, name):
            raise refusal
    return kind


def read_records(unit: Unit, place: Place) -> Iterator[Record]:
    """Read the records of a unit from its file at `place`; blank lines are skipped.

    Raises:
        StorageError: the file cannot be read to the end of the unit.
    """
    kind = unit.container
    assert kind != "groups", "reasonpack.records.groups reads those"
    if kind in {"parquet", "arrow"}:
        yield from _read_rows(unit, kind, place)
        return
    plain: Container = "plain" if kind == "array" else kind
    with open_bytes(place, plain, start=unit.start) as file:
        blocks = blocks_of(file)
        if kind in {"gzip", "zstd"}:
            head = b"".join(itertools.islice(blocks, max(1, HEAD // BLOCK)))
            if refusal := foreign(head, unit.name):
                raise refusal
            is_array = is_list(head)
            unpacked: Container = "array" if is_array else "plain"
            unit = replace(unit, container=unpacked, first_line=int(not is_array))
            blocks = itertools.chain([head], blocks)
        for _, record in located_records(unit, blocks):
            yield record


class Located(NamedTuple):
    """Where a record is: its number in the file, its first byte, and one past its last.

    The bytes of a line include its end, those of an element the comma or bracket after it.
    """

    number: int
    start: int
    stop: int


def located_records(unit: Unit, blocks: Iterable[bytes]) -> Iterator[tuple[Located, Record]]:
    """Yield the records of a unit of lines or of a list, each with its place, from its bytes.

    Raises:
        StorageError: the bytes are no lines of records, or no list of them.
    """
    return _elements(unit, blocks) if unit.container == "array" else _records(unit, blocks)


def blocks_of(file: Any, *, size: int = 0) -> Iterator[bytes]:
    """Read a file in blocks; Arrow's streams have no fast `readline`."""
    while block := file.read(size or BLOCK):
        yield block


def _records(unit: Unit, blocks: Iterable[bytes]) -> Iterator[tuple[Located, Record]]:
    at = unit.start
    for number, (line, size) in enumerate(_lines(blocks), unit.first_line):
        if 0 <= unit.stop <= at:
            break
        if size > LONGEST_RECORD:
            what = f"a line of more than {LONGEST_RECORD >> 20} MiB"
            fix = "write each conversation as a line of its own"
            raise StorageError(f"{unit.name}:{number}", what, "one conversation a line", fix)
        where = Located(number, at, at + size)
        at = where.stop
        record = line_record(unit.name, number, line)
        if record.line.strip():
            yield where, record


def line_record(name: str, number: int, line: bytes) -> Record:
    """Make a record of a line, whose end and byte order mark are cut off."""
    if number == 1 and line.startswith(BOM):
        line = line[len(BOM) :]
    return Record(f"{name}:{number}", line.rstrip(b"\r\n"))


def _lines(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield each line without its end, and its size with the end.

    A line that is too long is the last one; only the part of it that was read is yielded.
    """
    rest: list[bytes] = []
    held = 0
    for block in blocks:
        start = 0
        while (stop := block.find(b"\n", start)) >= 0:  # faster than `split` for long lines
            rest.append(block[start:stop])
            yield (joined := b"".join(rest)), len(joined) + 1
            rest.clear()
            start, held = stop + 1, 0
        rest.append(block[start:])
        held += len(block) - start
        if held > LONGEST_RECORD:
            break
    yield (joined := b"".join(rest)), len(joined)


def _elements(unit: Unit, blocks: Iterable[bytes]) -> Iterator[tuple[Located, Record]]:
    try:
        found = elements(blocks, start=unit.start, longest=LONGEST_RECORD)
        for number, element in enumerate(found, unit.first_line):
            if 0 <= unit.stop <= element.start:
                break
            where = Located(number, element.start, element.stop)
            yield where, Record(f"{unit.name}[{number}]", element.text)
    except NotAList as error:
        raise no_list(unit.name, error, first=unit.first_line) from error


def element_record(name: str, number: int, written: bytes) -> Record:
    """Make a record of an element, from its bytes with the comma or bracket after it."""
    return Record(f"{name}[{number}]", written[:-1].strip(BLANK))


def no_list(name: str, error: NotAList, *, first: int = 0) -> StorageError:
    """Make the error for a file that is not one JSON list."""
    where = f"{name}[{first + error.index}]"
    fix = 'write the file with a JSON library, or as JSON Lines, one object {"messages": …} a line'
    return StorageError(where, error, "one JSON list of conversations", fix)


def _read_rows(unit: Unit, kind: Container, place: Place) -> Iterator[Record]:
    number = unit.first_line
    read = arrow_batches if kind == "arrow" else parquet_batches
    with opened_rows(place, kind) as source:
        for batch in read(source, unit.start, unit.stop):
            if len(names := batch.schema.names) > len(set(names)):
                again = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"two columns of the name {again!r}")
            for line, row in rows_of(batch):
                yield Record(f"{unit.name}:{number}", line, row)
                number += 1
