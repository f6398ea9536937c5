"""Files → an entry of 40 bytes for each of their records: its group, and where it is.

    calls.jsonl:7      group  file  line  offset  length      ─→ the record, looked up

Records that cannot be looked up in their file (compressed files, rows) are copied to one where
they can.
"""

from __future__ import annotations

import json
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import StorageError
from reasonpack.records.plan import Hashed, InputFile, as_read, plan, stamp_of
from reasonpack.records.unit import (
    Record,
    Unit,
    blocks_of,
    content_kind,
    element_record,
    line_record,
    located_records,
    read_records,
)
from reasonpack.storage.place import Place, writing
from reasonpack.storage.read import open_bytes, open_file

ENTRY = np.dtype(
    [
        ("group", "<u8", (2,)),
        ("file", "<u4"),
        ("line", "<u8"),
        ("offset", "<u8"),
        ("length", "<u4"),
    ]
)
"""A record: hash of its group, number of its file, number of its line, first byte, bytes."""
Entries = NDArray[np.void]
GroupContainer = Literal["plain", "array", "rows"]
"""How a file holds its records: as lines, elements of a list, or rows written as JSON lines."""
_NUMBER = re.compile(r"\d+")
_ENTRY = struct.Struct("<IQQI")
"""The fields of `ENTRY` after the hash."""

AT_ONCE = 8 << 20
"""Most bytes of records, adjacent in a file, that are read together."""
GroupOf = Callable[[Record, int], bytes]
"""Returns the hash of the group of a record, given the record and its number in its file."""


class FilePlaces(Struct, frozen=True):
    """Where the records of a file can be looked up.

    Attributes:
        input: the file as it was read.
        place: where it is, or its copy.
        container: how that holds the records.
        entries: bytes of `ENTRY`, in the order of the records.
    """

    input: InputFile
    place: Place
    container: GroupContainer
    entries: bytearray


def read_places(
    place: Place, name: str, number: int, *, group_of: GroupOf, folder: Path
) -> FilePlaces:
    """Make the entries of the records of the file with this number.

    Records that cannot be looked up in it are copied to a file in `folder`.

    Raises:
        StorageError: the file cannot be read, or changes while it is.
    """
    before = stamp_of(place)
    kind = content_kind(place, name)
    if kind not in {"plain", "array"}:
        return _copied(place, name, number, group_of, folder / str(number))
    unit = Unit(0, 0, name, kind, 0, before.bytes, int(kind == "plain"), before.bytes)
    entries = bytearray()
    with open_bytes(place, "plain") as file:
        read = Hashed(blocks_of(file))
        for where, record in located_records(unit, read):
            entries += _entry(group_of(record, where.number), number, *where)
    input_ = as_read(place, name, before, read.bytes, read.hash.hexdigest())
    return FilePlaces(input_, place, "plain" if kind == "plain" else "array", entries)


def _copied(place: Place, name: str, number: int, group_of: GroupOf, target: Path) -> FilePlaces:
    """Copy the records of a file to one where they can be looked up, and make their entries.

    Lines and elements are written as they are, rows as JSON.
    """
    (input_,), units = plan([(place, name)], unit_bytes=1 << 62)
    of_rows = any(unit.container in {"parquet", "arrow"} for unit in units)
    kind: GroupContainer = "rows" if of_rows else "plain"
    entries, at = bytearray(), 0
    with writing(target), target.open("wb") as file:
        for record in (each for unit in units for each in read_records(unit, place)):
            line = record.line
            if record.row is not None:
                line = json.dumps(record.row, default=str).encode()
            elif record.where.endswith("]"):
                kind = "array"
            file.write(line + b"\n")  # `element_record` drops one byte, as for a comma
            stop, of_line = at + len(line) + 1, int(_NUMBER.findall(record.where)[-1])
            group = group_of(replace(record, line=line), of_line)
            entries += _entry(group, number, of_line, at, stop)
            at = stop
    return FilePlaces(input_, target, kind, entries)


def _entry(group: bytes, file: int, line: int, start: int, stop: int) -> bytes:
    return group + _ENTRY.pack(file, line, start, stop - start)


def sort_by_group(entries: Entries) -> tuple[Entries, NDArray[np.int64]]:
    """Sort entries so that those of a group are adjacent, groups in the order of first records.

    Returns the sorted entries and their `bounds_of`.
    """
    order = np.lexsort((entries["group"][:, 0], entries["group"][:, 1]))  # a stable sort
    bounds = bounds_of(entries[order])
    firsts = np.repeat(order[bounds[:-1]], np.diff(bounds))  # of each entry's group
    entries = entries[order[np.argsort(firsts, kind="stable")]]
    return entries, bounds_of(entries)


def bounds_of(entries: Entries) -> NDArray[np.int64]:
    """Return where each group begins in sorted entries; last, the number of entries."""
    groups = entries["group"]
    begins = np.append(len(groups) > 0, np.any(groups[1:] != groups[:-1], axis=1))
    return np.append(np.flatnonzero(begins), len(groups))


class Source(Struct, frozen=True):
    """A file to look records up in: where it is, the input's name, how it holds its records."""

    place: Place
    name: str
    container: GroupContainer


def by_group(
    entries: Entries, sources: Sequence[Source]
) -> Iterator[tuple[int, Record, Iterator[Record]]]:
    """Yield each group of sorted entries: its start, its first record, and all its records.

    The records must be read before the next group is; those that are not are skipped.
    """
    with ExitStack() as opened:
        records = look_up(entries, sources, opened)
        for start, stop in pairwise(bounds_of(entries).tolist()):
            first = next(records)
            own = chain([first], islice(records, stop - start - 1))
            yield start, first, own
            deque(own, maxlen=0)  # skip records that were not read


def look_up(entries: Entries, sources: Sequence[Source], opened: ExitStack) -> Iterator[Record]:
    """Read the records of entries, in their order.

    Files that were read stay open until `opened` closes them.
    """
    files: dict[int, Any] = {}
    for first, stop in _together(entries):
        part = entries[first:stop]
        number, begin = int(part["file"][0]), int(part["offset"][0])
        source = sources[number]
        if number not in files:
            files[number] = opened.enter_context(open_file(source.place))
        size = int(part["length"].sum())
        files[number].seek(begin)
        content = bytes(files[number].read(size))
        if len(content) != size:
            raise StorageError(
                source.name, "it ends too early", "it to stay as it was", "pack again"
            )
        make = _MAKERS[source.container]
        places = zip(*(part[name].tolist() for name in ("line", "offset", "length")), strict=True)
        for line, offset, length in places:
            yield make(source.name, line, content[offset - begin : offset - begin + length])


def _row_record(name: str, number: int, line: bytes) -> Record:
    where = f"{name}:{number}"
    try:
        return Record(where, b"", json.loads(line.decode()))
    except UnicodeDecodeError:  # as `rows_of` has it
        return Record(where, line.removesuffix(b"\n"))


_MAKERS: Mapping[GroupContainer, Callable[[str, int, bytes], Record]] = {
    "plain": line_record,
    "array": element_record,
    "rows": _row_record,
}


def _together(entries: Entries) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of entries that are adjacent in a file, of `AT_ONCE` at most."""
    offsets, lengths = entries["offset"].astype(np.int64), entries["length"].astype(np.int64)
    follows = (entries["file"][1:] == entries["file"][:-1]) & (
        offsets[1:] == (offsets + lengths)[:-1]
    )
    first = size = 0
    for number, (length, near) in enumerate(
        zip(lengths.tolist(), [False, *follows.tolist()], strict=True)
    ):
        if number > first and (not near or size + length > AT_ONCE):
            yield first, number
            first, size = number, 0
        size += length
    if len(entries):
        yield first, len(entries)
