"""Records in any order → an index of them by group, and work units of whole groups.

    calls.jsonl:1  trace a ┐            group  file  line  offset  length
    calls.jsonl:2  trace b ├──→ sort ──→  a      0     1       0    9,120   ┐ unit 0
    more.jsonl:1   trace a ┘              a      1     1       0   10,310   ┘
                                          b      0     2   9,120    8,877     unit 1

Groups are in the order of their first records, the records of a group in that of the inputs.
An entry has 40 bytes, so that a million records are planned in about 100 MB.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.records.call_formats import GROUP_FIELDS
from reasonpack.records.groups import (
    AUTO,
    FILE,
    NONE,
    Groups,
    fields_of_line,
    group_name,
    one_field,
)
from reasonpack.records.plan import UNIT_LINES, InputFile
from reasonpack.records.record_places import (
    ENTRY,
    Entries,
    GroupContainer,
    GroupOf,
    RecordPlaces,
    Source,
    sort_by_group,
)
from reasonpack.records.repeated_items import RepeatedItems
from reasonpack.records.unit import Record, Unit
from reasonpack.storage.place import Place

MAX_GROUP_BYTES = 1 << 30
MANY, MOST = 1_000, 0.5
"""Of more than `MANY` records, a group by a field that `auto` found may have at most this share."""


class Grouping(Struct, frozen=True):
    """How the records of a plan are grouped.

    Attributes:
        field: the field that groups them, dotted if it is nested; `NONE` if each record is a
            group, `FILE` if each file is.
        records: number of records in all inputs.
        groups: number of groups.
        alone: number of records without the field, each a group of its own.
        containers: how each input, or its copy, holds its records.
        sha256: of the index.
    """

    field: str
    records: int
    groups: int
    alone: int
    containers: list[GroupContainer]
    sha256: str


class Grouped(Struct, frozen=True):
    """A plan of groups: inputs, where their records can be looked up, their index, and units.

    `text_bytes` is about the size of the records with text, without the messages that they repeat.
    """

    inputs: list[InputFile]
    places: list[Place]
    entries: Entries
    units: list[Unit]
    grouping: Grouping
    text_bytes: int

    @property
    def groups(self) -> Groups:
        """All groups, with their records."""
        names = (each.name for each in self.inputs)
        sources = (*map(Source, self.places, names, self.grouping.containers),)
        return Groups(self.entries, sources, self.grouping.field)


def plan_groups(
    files: Sequence[tuple[Place, str]],
    *,
    field: str = AUTO,
    own_fields: Mapping[str, str] | None = None,
    unit_bytes: int,
    max_group_bytes: int = MAX_GROUP_BYTES,
    see: Callable[[bytes, bytes], bool] = lambda _line, _new: True,
    folder: Path,
) -> Grouped:
    """Read all records, group them, and cut the groups into units.

    Args:
        files: inputs, as place and name.
        field: the field that groups the records; `auto` to find a known one, `FILE`, or `NONE`.
        own_fields: by the name of a file whose log format has a field for the group, that field;
            `auto` looks for no other one there.
        unit_bytes: size of a unit, roughly; no group is divided.
        max_group_bytes: most bytes of a group.
        see: gets each line, and what no earlier one has of it; returns whether it has text.
        folder: where to copy the records of files in which they cannot be looked up.

    Raises:
        StorageError: a file cannot be read, or changes while it is read.
        UsageError: several fields group records, a value is no group name, or a group is too large.
    """
    own = {name: (own_field,) for name, own_field in (own_fields or {}).items()}
    groups, found, inputs = _GroupHashes(see), RecordPlaces(folder), list[InputFile]()
    for place, name in files:
        looked_for = own.get(name, GROUP_FIELDS) if field == AUTO else (field,)
        inputs.append(found.read(place, name, groups.of_next_file(looked_for)))
    chosen = one_field(groups.counts) if field == AUTO else field
    if groups.unfit and (chosen == NONE or chosen in groups.unfit):
        raise groups.unfit.get(chosen) or next(iter(groups.unfit.values()))
    entries, bounds = sort_by_group(np.frombuffer(found.entries, ENTRY))
    names = [name for _, name in files]
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
    _refuse_large(_largest(entries, bounds, np.diff(upto), names), chosen, max_group_bytes)
    if field == AUTO and len(entries) > MANY:
        _refuse_one_for_all(_largest(entries, bounds, np.diff(bounds), names), chosen, len(entries))
    grouping = Grouping(
        field=chosen,
        records=len(entries),
        groups=len(bounds) - 1,
        alone=groups.alone,
        containers=found.containers,
        sha256=hashlib.sha256(entries.tobytes()).hexdigest(),
    )
    units = _units(entries, bounds, upto, names, unit_bytes)
    return Grouped(inputs, found.places, entries, units, grouping, groups.text_bytes)


class _GroupHashes:
    """Returns the hash of each record's group, and counts the fields that records have.

    Args:
        see: as for `plan_groups`.

    Attributes:
        counts: by field, the number of records that have it.
        unfit: by field, the error for the first value that names no group.
        alone: number of records without a field.
        text_bytes: as `Grouped` has it.
    """

    def __init__(self, see: Callable[[bytes, bytes], bool]) -> None:
        self._see, self._lines = see, RepeatedItems()
        self._file = -1
        self._fields: Sequence[str] = ()
        self.counts: Counter[str] = Counter()
        self.unfit: dict[str, UsageError] = {}
        self.alone = self.text_bytes = 0

    def of_next_file(self, fields: Sequence[str]) -> GroupOf:
        """Begin the next file; its records are grouped by the first of `fields` that they have."""
        self._file += 1
        self._fields = fields
        self.counts.update(dict.fromkeys(fields, 0))
        return self._group_of

    def _group_of(self, record: Record, number: int) -> bytes:
        new = self._lines.short(record.line)
        self.text_bytes += len(new) if self._see(record.line, new) else 0
        if FILE in self._fields:
            return _hash("file", str(self._file))
        found: list[str] = []
        for name, value in fields_of_line(new, self._fields).items():
            try:
                found.append(group_name(value, name))
                self.counts[name] += 1
            except UsageError as error:
                error.where = f"{record.where}: {error.where}"
                self.unfit.setdefault(name, error)
        if found:
            return _hash("group", found[0])
        self.alone += 1
        return _hash("record", f"{self._file} {number}")


def _hash(kind: str, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, person=kind.encode()).digest()


def _units(
    entries: Entries,
    bounds: NDArray[np.int64],
    upto: NDArray[np.int64],
    names: Sequence[str],
    unit_bytes: int,
) -> list[Unit]:
    """Cut the groups into as few units as their size allows, of about the same size.

    `upto` has the number of bytes before each group and, last, of all groups.
    """
    count = max(1, -(-int(upto[-1]) // unit_bytes))
    shares = np.arange(1, count) * int(upto[-1]) // count
    cuts = {0, *np.searchsorted(upto, shares).tolist(), len(bounds) - 1}
    cuts |= set(range(0, len(bounds) - 1, UNIT_LINES))
    units: list[Unit] = []
    places = sorted(cuts)
    for first, last in zip(places, places[1:] or places, strict=False):
        start, stop = int(bounds[first]), int(bounds[last])
        file, line = (entries["file"][start], entries["line"][start]) if len(entries) else (0, 1)
        size = int(upto[last] - upto[first])
        number, name = int(file), names[int(file)]
        units.append(Unit(len(units), number, name, "groups", start, stop, int(line), size))
    return units


def _largest(
    entries: Entries, bounds: NDArray[np.int64], sizes: NDArray[np.int64], names: Sequence[str]
) -> tuple[int, str]:
    """Return the size of the largest group, and its name for messages; 0 if there is none."""
    if not len(sizes):
        return 0, ""
    at = entries[bounds[int(sizes.argmax())]]
    return int(sizes.max()), f"the group of {names[at['file']]}:{at['line']}"


def _refuse_large(largest: tuple[int, str], field: str, most: int) -> None:
    size, group = largest
    if size > most:
        where = f"--group-by {field}" if field else "--max-group-bytes"
        fix = "name a field that divides the records further, or raise --max-group-bytes"
        raise UsageError(where, f"{group} has {size:,} bytes", f"at most {most:,}", fix)


def _refuse_one_for_all(largest: tuple[int, str], field: str, records: int) -> None:
    size, group = largest
    if size > MOST * records:
        what = f"{group} has {size:,} of {records:,} records"
        fix = f"pass --group-by {field} if that is right, or another field"
        raise UsageError(f"--group-by auto ({field})", what, f"at most {MOST:.0%}", fix)
