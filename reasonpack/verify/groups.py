"""Records of calls → the groups that they belong to, by the value of the grouping field.

    calls.jsonl:1  {"trace_id": "a", …} ┐
    calls.jsonl:2  {"trace_id": "b", …} ├─→ Group a, Group b, in the order of their first records
    calls.jsonl:3  {"trace_id": "a", …} ┘

Shared with pack: finding and looking up records in their files. Read here: the grouping field, and
which records are a group.
Memory is 40 bytes a record, three times that while they are sorted, and the record being read.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from reasonpack.errors import RecordError, UsageError
from reasonpack.records.record_places import (
    ENTRY,
    Entries,
    FilePlaces,
    Source,
    look_up,
    read_places,
)
from reasonpack.records.strict_json import decode
from reasonpack.records.unit import Record
from reasonpack.storage.place import Place, join
from reasonpack.storage.read import read_bytes
from reasonpack.verify.manifest import Dataset

FILE = ":file"
"""In place of a field: each file is a group, as those of sessions are."""


class GroupedBy(Struct, frozen=True):
    """How the records of a file are grouped.

    Attributes:
        field: name of the grouping field; `FILE` if the file is a group; empty for no grouping.
        dataset: equal for files that may have records of the same group.
    """

    field: str
    dataset: int = 0


class Group(Struct, frozen=True):
    """The records of one group.

    Attributes:
        start: number of its first record among those of all groups, in order.
        stop: one past the last of them.
        id: value of the grouping field; empty for a record without it, which is a group by itself.
        file: number of the file with its first record.
    """

    start: int
    stop: int
    id: str
    records: Iterator[Record]
    by: GroupedBy
    file: int


class Groups(Struct, frozen=True):
    """The groups of some files.

    Attributes:
        by: how the records of each file are grouped.
        entries: where each record is, in the order of the groups.
        sources: the files that the records are looked up in.
    """

    by: list[GroupedBy]
    entries: Entries
    sources: list[Source]

    def __iter__(self) -> Iterator[Group]:
        """Yield the groups; read the records of one before asking for the next."""
        with ExitStack() as opened:
            records = look_up(self.entries, self.sources, opened)
            start = 0
            for _, same in groupby(self.entries["group"], key=bytes):
                stop = start + sum(1 for _ in same)
                file = int(self.entries["file"][start])
                by, name = self.by[file], self.sources[file].name
                first = next(records)
                id_ = name if by.field == FILE else group_of(fields_of(first), by.field)
                own = chain([first], islice(records, stop - start - 1))
                yield Group(start, stop, id_, own, by, file)
                deque(own, maxlen=0)  # skip records that were not read
                start = stop

    def again(self, group: Group) -> Iterator[Record]:
        """Read the records of one group again."""
        with ExitStack() as opened:
            yield from look_up(self.entries[group.start : group.stop], self.sources, opened)


def grouped_by(dataset: Dataset) -> list[GroupedBy]:
    """Return how the records of each input of a dataset of calls are grouped, from its plan.

    Raises:
        UsageError: the plan does not name the field.
    """
    content = read_bytes(join(dataset.directory, "plan.json")) or b"{}"
    inputs = len(dataset.manifest.inputs)
    try:
        plan = msgspec.json.decode(content)
        fields = plan.get("grouped_by") or [plan["grouping"]["field"]] * inputs
        begins = sorted({unit["input"] for unit in plan["units"] if not unit["start"]})
        of = [bisect(begins, at) for at in range(inputs)]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError) as error:
        what = "a dataset of calls whose plan does not say which field groups them"
        fix = "copy it again from where it was packed"
        raise UsageError("--against", what, "its plan.json as it was written", fix) from error
    return [*map(GroupedBy, map(str, fields), of)]


def find_groups(files: list[tuple[Place, str]], by: list[GroupedBy], folder: Path) -> Groups:
    """Read all records and sort them by group.

    The records of a file in which none can be looked up, as a compressed one, go to `folder`.
    """
    found: list[FilePlaces] = []
    for at, (place, name) in enumerate(files):

        def key(record: Record, number: int, *, at: int = at) -> bytes:
            field = by[at].field
            group = "" if field == FILE else group_of(fields_of(record), field)
            said = f"of dataset {by[at].dataset} group {group}" if group else f"of file {at}"
            alone = not group and field != FILE
            said += f", record {number}" * alone
            return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()

        found.append(read_places(place, name, at, group_of=key, folder=folder))
    entries = np.frombuffer(b"".join(each.entries for each in found), ENTRY)
    _, first, of = np.unique(entries["group"], axis=0, return_index=True, return_inverse=True)
    entries = entries[np.argsort(first[of.ravel()], kind="stable")]
    sources = [Source(each.place, each.input.name, each.container) for each in found]
    return Groups(by, entries, sources)


def fields_of(record: Record) -> dict[str, Any]:
    """Decode a record; empty if it is no object, which is reported when it is rebuilt."""
    try:
        value = decode(record.line) if record.line else record.row
    except RecordError:
        return {}
    return value if isinstance(value, dict) else {}


def group_of(record: Any, field: str) -> str:
    """Return the value of a field as text; a dotted name may be nested; empty without a value.

    >>> record = {"metadata": {"run": 3}, "a.b": "x", "trace_id": ""}
    >>> [group_of(record, field) for field in ("metadata.run", "a.b", "trace_id", "")]
    ['3', 'x', '', '']
    """
    if not isinstance(record, dict) or not field:
        return ""
    if record.get(field) not in (None, ""):
        return str(record[field])
    parts = field.split(".")
    for cut in range(1, len(parts)):
        inner = group_of(record.get(".".join(parts[:cut])), ".".join(parts[cut:]))
        if inner:
            return inner
    return ""
