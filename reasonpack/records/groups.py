"""A unit of groups → the records of each group, read from where the index says.

Memory is a few records that follow one another in a file.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice, pairwise

import numpy as np
from msgspec import Struct

from reasonpack.errors import StorageError
from reasonpack.records.group_field import FILE, NONE, GroupFields, group_name
from reasonpack.records.record_places import ENTRY, Entries, Source, look_up
from reasonpack.records.unit import Record
from reasonpack.storage.place import Place, public_name
from reasonpack.storage.read import open_file


class Group(Struct, frozen=True):
    """Records that belong together.

    Attributes:
        id: what the field says; empty for a record without it.
        start: of its entries, in the part of the index that was read.
        stop: one past the last.
        records: in the order of the inputs; to be taken before the next group is.
        again: reads one of them once more, by its position among the entries.
        is_session: whether they are the lines of a session file.
    """

    id: str
    start: int
    stop: int
    records: Iterator[Record]
    again: Callable[[int], Record]
    is_session: bool = False


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


class Groups(Struct, frozen=True):
    """The groups of a part of an index, which are read one at a time.

    The entries are of whole groups; an empty field is none.
    """

    entries: Entries
    sources: Sequence[Source]
    field: str

    def __iter__(self) -> Iterator[Group]:
        """Read the records of each group in turn."""
        entries, sources, field = self.entries, self.sources, self.field
        fields = GroupFields([field]) if field not in {FILE, NONE} else None
        with ExitStack() as opened:
            records = look_up(entries, sources, opened)
            begins = np.flatnonzero(np.any(np.diff(entries["group"], axis=0) != 0, axis=1)) + 1
            bounds = [0, *begins.tolist(), len(entries)] if len(entries) else [0]
            for start, stop in pairwise(bounds):
                first = next(records)
                named = sources[int(entries["file"][start])].name if field == FILE else ""
                for value in (fields.of_line(line_of(first)) if fields else {}).values():
                    named = group_name(value, field)
                own = chain([first], islice(records, stop - start - 1))
                yield Group(named, start, stop, own, self.record, field == FILE)
                deque(own, maxlen=0)  # those that nobody took

    def record(self, position: int) -> Record:
        """Read one record again, by its position among all."""
        with ExitStack() as opened:
            return next(look_up(self.entries[position : position + 1], self.sources, opened))


def line_of(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return record.line if record.row is None else json.dumps(record.row).encode()
