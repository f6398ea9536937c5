"""Files → where each of their records is, and of which group, as entries of 44 bytes.

    calls.jsonl:7      group  file  line  offset  length      ─→ the record, looked up

What cannot be sought (compressed files, rows) is written to files in which it can be.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from errno import ENOENT
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import StorageError
from reasonpack.records.plan import Hashed, InputFile, changed, is_settled, plan
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
from reasonpack.storage.place import Place, full_stamp, unreadable, unwritable
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
"""A record: hash of its group, number of its file, of its line, first byte, bytes."""
Entries = NDArray[np.void]
GroupContainer = Literal["plain", "array", "rows"]
"""How the records can be looked up: lines, elements of a list, or rows as lines of JSON."""
_NUMBER = re.compile(r"\d+")
_ENTRY = struct.Struct("<IQQI")
"""What stands behind the hash."""

AT_ONCE = 8 << 20
"""Bytes of records that follow one another in a file and are read together."""
GroupOf = Callable[[Record, int], bytes]
"""Gives the hash of the group of a record that has a number in its file."""


class RecordPlaces:
    """Finds the records of files, one file after another.

    Args:
        folder: where the records of files are written in which none can be looked up.

    Attributes:
        entries: bytes of `ENTRY`, in the order of the records.
        containers: how the records of each file can be looked up.
        places: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.entries = bytearray()
        self.containers: list[GroupContainer] = []
        self.places: list[Place] = []

    def read(self, place: Place, name: str, group_of: GroupOf) -> InputFile:
        """Find the records of the next file.

        Raises:
            StorageError: it cannot be read, or changes while it is.
        """
        before = full_stamp(place)
        if before is None:
            raise unreadable(place, FileNotFoundError(ENOENT, os.strerror(ENOENT)))
        kind = content_kind(place, name)
        if kind not in {"plain", "array"}:
            return self._spread(place, name, group_of)
        unit = Unit(0, 0, name, kind, 0, before.bytes, int(kind == "plain"), before.bytes)
        with open_bytes(place, "plain") as file:
            read = Hashed(blocks_of(file))
            blocks = iter(read)
            for where, record in located_records(unit, blocks):
                self._add(group_of(record, where.number), *where)
            for _ in blocks:  # what stands behind the last record
                pass
        if before != full_stamp(place) or before.bytes != read.bytes:
            raise changed(place)
        self.containers.append("plain" if kind == "plain" else "array")
        self.places.append(place)
        settled = before if is_settled(before) else None
        return InputFile(name, read.bytes, read.hash.hexdigest(), settled)

    def _spread(self, place: Place, name: str, group_of: GroupOf) -> InputFile:
        """Read a file in which no record can be looked up; write its records to one where they can.

        A line and an element are written as they are, a row as JSON.
        """
        (input_,), units = plan([(place, name)], unit_bytes=1 << 62)
        target, at = self._folder / str(len(self.places)), 0
        kind: GroupContainer = "plain"
        try:
            with target.open("wb") as file:
                for record in (each for unit in units for each in read_records(unit, place)):
                    if record.row is not None:
                        kind = "rows"
                        line = json.dumps(record.row, default=str).encode()
                    else:
                        kind = "array" if record.where.endswith("]") else "plain"
                        line = record.line
                    file.write(line + b"\n")  # an element loses what stands behind it
                    stop = at + len(line) + 1
                    number = int(_NUMBER.findall(record.where)[-1])
                    self._add(group_of(replace(record, line=line), number), number, at, stop)
                    at = stop
        except OSError as error:
            raise unwritable(target, error) from error
        self.containers.append(kind)
        self.places.append(target)
        return input_

    def _add(self, group: bytes, number: int, start: int, stop: int) -> None:
        self.entries += group + _ENTRY.pack(len(self.places), number, start, stop - start)


def sort_by_group(entries: Entries) -> tuple[Entries, NDArray[np.int64]]:
    """Sort records, which are in the order of the inputs, by the first record of their group.

    Their `bounds_of` groups are returned too.
    """
    order = np.lexsort((entries["group"][:, 0], entries["group"][:, 1]))  # a stable sort
    bounds = bounds_of(entries[order])
    firsts = np.repeat(order[bounds[:-1]], np.diff(bounds))  # of the group of each
    entries = entries[order[np.argsort(firsts, kind="stable")]]
    return entries, bounds_of(entries)


def bounds_of(entries: Entries) -> NDArray[np.int64]:
    """Return where each group begins in sorted records; at last, how many there are."""
    groups = entries["group"]
    begins = np.append(len(groups) > 0, np.any(groups[1:] != groups[:-1], axis=1))
    return np.append(np.flatnonzero(begins), len(groups))


class Source(Struct, frozen=True):
    """An input file: where it is, its name in messages, and how it is packed."""

    place: Place
    name: str
    container: GroupContainer


def by_group(
    entries: Entries, sources: Sequence[Source]
) -> Iterator[tuple[int, int, Record, Iterator[Record]]]:
    """Yield where each group begins in sorted records and where it ends, its first, and all of it.

    Its records are to be taken before the next group.
    """
    with ExitStack() as opened:
        records = look_up(entries, sources, opened)
        for start, stop in pairwise(bounds_of(entries).tolist()):
            first = next(records)
            own = chain([first], islice(records, stop - start - 1))
            yield start, stop, first, own
            deque(own, maxlen=0)  # those that nobody took


def look_up(entries: Entries, sources: Sequence[Source], opened: ExitStack) -> Iterator[Record]:
    """Read the records of some entries, in their order.

    `opened` closes the files.
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


_MAKERS: Mapping[GroupContainer, Callable[[str, int, bytes], Record]] = {
    "plain": line_record,
    "array": element_record,
    "rows": lambda name, number, line: Record(f"{name}:{number}", b"", json.loads(line)),
}


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
