"""A unit of groups → the records of each group, read from where the index says.

Memory is a few records that follow one another in a file.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from reasonpack.errors import StorageError
from reasonpack.records.group_field import FILE, NONE, GroupFields, group_name
from reasonpack.records.record_places import ENTRY, Entries, GroupContainer
from reasonpack.records.unit import Record, element_record, line_record
from reasonpack.storage.place import Place, public_name
from reasonpack.storage.read import open_file

AT_ONCE = 8 << 20
"""Bytes of records that follow one another in a file and are read together."""


@dataclass(frozen=True, slots=True)
class Source:
    """An input file: where it is, its name in messages, and how it is packed."""

    place: Place
    name: str
    container: GroupContainer


@dataclass(frozen=True, slots=True)
class Group:
    """Records that belong together.

    Attributes:
        id: what the field says; empty for a record without it.
        start: of its entries, in the part of the index that was read.
        stop: one past the last.
        records: in the order of the inputs; to be taken before the next group is.
    """

    id: str
    start: int
    stop: int
    records: Iterator[Record]


def read_entries(index: Place, start: int, stop: int) -> Entries:
    """Read a part of an index.

    Raises:
        StorageError: it cannot be read, or ends before.
    """
    size = (stop - start) * ENTRY.itemsize
    with open_file(index, start=start * ENTRY.itemsize) as file:
        content = bytes(file.read(size))
    if len(content) != size:
        raise StorageError(
            public_name(index), "it ends too early", "the index of the run", "pack again"
        )
    return np.frombuffer(content, ENTRY)


def read_groups(entries: Entries, sources: Sequence[Source], field: str) -> Iterator[Group]:
    """Read the groups of a part of an index, one at a time.

    Args:
        entries: of whole groups.
        sources: the inputs.
        field: which says what belongs together; empty for none.

    Raises:
        StorageError: a file cannot be read.
    """
    fields = GroupFields([field]) if field not in {FILE, NONE} else None
    with ExitStack() as opened:
        records = look_up(entries, sources, opened)
        begins = np.flatnonzero(np.any(np.diff(entries["group"], axis=0) != 0, axis=1)) + 1
        for start, stop in pairwise([0, *begins.tolist(), len(entries)] if len(entries) else [0]):
            first = next(records)
            named = sources[int(entries["file"][start])].name if field == FILE else ""
            for value in (fields.of_line(_line(first)) if fields else {}).values():
                named = group_name(value, field)
            own = chain([first], islice(records, stop - start - 1))
            yield Group(named, start, stop, own)
            deque(own, maxlen=0)  # those that nobody took


def read_again(entries: Entries, sources: Sequence[Source], position: int) -> Record:
    """Read one record of a part of an index.

    Raises:
        StorageError: a file cannot be read.
    """
    with ExitStack() as opened:
        return next(look_up(entries[position : position + 1], sources, opened))


def look_up(entries: Entries, sources: Sequence[Source], opened: ExitStack) -> Iterator[Record]:
    """Read the records of some entries, in their order.

    Args:
        entries: where they are.
        sources: the inputs.
        opened: what closes the files.

    Raises:
        StorageError: a file cannot be read.
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
    return Record(f"{name}:{number}", b"", json.loads(line))


_MAKERS: Mapping[GroupContainer, Callable[[str, int, bytes], Record]] = {
    "plain": line_record,
    "array": element_record,
    "rows": _row_record,
}


def _line(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return record.line if record.row is None else json.dumps(record.row).encode()


def _together(entries: Entries) -> Iterator[tuple[int, int]]:
    """Yield the bounds of records that follow one another in a file, some at a time."""
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
