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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain
from pathlib import Path

import msgspec
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
from reasonpack.records.key_columns import KeyColumns
from reasonpack.records.plan import UNIT_LINES, InputFile
from reasonpack.records.record_places import (
    ENTRY,
    Entries,
    FilePlaces,
    GroupContainer,
    Source,
    read_places,
    sort_by_group,
)
from reasonpack.records.repeated_items import RepeatedItems
from reasonpack.records.unit import Record, Unit
from reasonpack.storage.place import Place, local_size

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


NamedFile = tuple[Place, str, int, Sequence[str]]
"""A file: its place, its name, its number, and the fields of which the first groups a record."""
FilesRead = tuple["_GroupsOf", list[FilePlaces]]
"""What the groups of some files are, and where the records of each are."""
Each = Callable[
    [Callable[[Sequence[NamedFile]], FilesRead], Sequence[Sequence[NamedFile]]],
    Iterable[FilesRead],
]
"""Applies a function to lists of files and yields the results in order, like `map`."""
TOGETHER = 32 << 20
"""Bytes from which adjacent files are read by themselves: small ones may repeat each other."""


class Grouped(Struct, frozen=True):
    """A plan of groups: inputs, where their records can be looked up, their index, and units.

    Attributes:
        text_bytes: about the size of the records with text, without the messages that they repeat.
        columns: the optional columns that they need.
    """

    inputs: list[InputFile]
    places: list[Place]
    entries: Entries
    units: list[Unit]
    grouping: Grouping
    text_bytes: int
    columns: AbstractSet[str]

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
    keys: Callable[[], KeyColumns] = KeyColumns,
    folder: Path,
    each: Each = map,
) -> Grouped:
    """Read all records, group them, and cut the groups into units.

    Args:
        files: as place and name.
        field: the field that groups the records; `auto` to find a known one, `FILE`, or `NONE`.
        own_fields: fields of log formats by the name of a file; `auto` looks for no others there.
        unit_bytes: size of a unit, roughly; no group is divided.
        max_group_bytes: most bytes of a group.
        keys: makes what finds the optional columns that the records of a file need.
        folder: where to copy the records of files in which they cannot be looked up.
        each: applies a function to lists of files, like `map`.

    Raises:
        StorageError: a file cannot be read, or changes while it is.
        UsageError: several fields group records, a value is no group name, or a group is too large.
    """
    named = _named_files(files, field, own_fields or {})
    read = [*each(partial(_read_files, keys=keys, folder=folder), [*_adjacent(named)])]
    groups = _GroupsOf.all(each for each, _ in read)
    found = [*chain.from_iterable(places for _, places in read)]
    chosen = groups.chosen(field)
    entries, bounds = sort_by_group(np.frombuffer(b"".join(p.entries for p in found), ENTRY))
    names = [place.input.name for place in found]
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
    largest = partial(_largest, entries, bounds, names)
    _refuse_large(largest(np.diff(upto)), chosen, max_group_bytes)
    if field == AUTO:
        _refuse_one_for_all(largest(np.diff(bounds)), chosen, len(entries))
    counted = (len(entries), len(bounds) - 1, groups.alone)
    kinds, sha256 = [each.container for each in found], hashlib.sha256(entries.tobytes())
    return Grouped(
        inputs=[places.input for places in found],
        places=[places.place for places in found],
        entries=entries,
        units=_units(entries, bounds, upto, names, unit_bytes),
        grouping=Grouping(chosen, *counted, kinds, sha256.hexdigest()),
        text_bytes=groups.text_bytes,
        columns=groups.columns,
    )


def _named_files(
    files: Sequence[tuple[Place, str]], field: str, own: Mapping[str, str]
) -> Iterator[NamedFile]:
    for number, (place, name) in enumerate(files):
        auto = (own[name],) if name in own else GROUP_FIELDS
        yield place, name, number, auto if field == AUTO else (field,)


def _adjacent(files: Iterable[NamedFile]) -> Iterator[list[NamedFile]]:
    """Divide files into lists of adjacent ones, of `TOGETHER` bytes at least but for the last."""
    some, size = list[NamedFile](), 0
    for file in files:
        some.append(file)
        size += local_size(file[0])
        if size >= TOGETHER:
            yield some
            some, size = [], 0
    if some:
        yield some


class _GroupsOf(Struct):
    """What tells the groups of the records of files.

    Attributes:
        counts: by field that was looked for, the number of records that have it.
        unfit: by field, the error for the first value that names no group.
        alone: number of records without a field.
        text_bytes: as `Grouped` has it.
        columns: as `Grouped` has them.
    """

    counts: Counter[str]
    unfit: dict[str, UsageError] = msgspec.field(default_factory=dict)
    alone: int = 0
    text_bytes: int = 0
    columns: set[str] = msgspec.field(default_factory=set)

    @classmethod
    def all(cls, found: Iterable[_GroupsOf]) -> _GroupsOf:
        """Return what was found in several files, in their order."""
        whole = cls(Counter())
        for each in found:
            whole.counts.update(each.counts)
            whole.unfit = {**whole.unfit, **each.unfit, **whole.unfit}
            whole.alone += each.alone
            whole.text_bytes += each.text_bytes
            whole.columns |= each.columns
        return whole

    def chosen(self, field: str) -> str:
        """Return the field that groups the records, for `field` as in `plan_groups`.

        Raises:
            UsageError: several fields group them, or a value of that field is no group name.
        """
        chosen = one_field(self.counts) if field == AUTO else field
        if self.unfit and (chosen == NONE or chosen in self.unfit):
            raise self.unfit.get(chosen) or next(iter(self.unfit.values()))
        return chosen

    def group_of(self, record: Record, line: bytes, fields: Sequence[str]) -> str:
        """Return the group of a record, which counts; empty without one of the fields.

        `line` has the fields, and may lack messages.
        """
        found: list[str] = []
        for name, value in fields_of_line(line, fields).items():
            try:
                found.append(group_name(value, name))
                self.counts[name] += 1
            except UsageError as error:
                error.where = f"{record.where}: {error.where}"
                self.unfit.setdefault(name, error)
        self.alone += not found
        return found[0] if found else ""


def _read_files(
    files: Sequence[NamedFile], *, keys: Callable[[], KeyColumns], folder: Path
) -> FilesRead:
    """Read files, one after another."""
    found, columns, lines = _GroupsOf(Counter()), keys(), RepeatedItems()
    places: list[FilePlaces] = []
    for place, name, number, fields in files:
        found.counts.update(dict.fromkeys(fields, 0))

        def group_of(
            record: Record, at: int, *, number: int = number, fields: Sequence[str] = fields
        ) -> bytes:
            new = lines.short(record.line)
            found.text_bytes += len(new) if columns.see(record.line, new) else 0
            if FILE in fields:
                return _hash("file", str(number))
            group = found.group_of(record, new, fields)
            return _hash("group", group) if group else _hash("record", f"{number} {at}")

        places.append(read_places(place, name, number, group_of=group_of, folder=folder))
    found.columns = columns.found
    return found, places


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
    entries: Entries, bounds: NDArray[np.int64], names: Sequence[str], sizes: NDArray[np.int64]
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
    if records > MANY and size > MOST * records:
        what = f"{group} has {size:,} of {records:,} records"
        fix = f"pass --group-by {field} if that is right, or another field"
        raise UsageError(f"--group-by auto ({field})", what, f"at most {MOST:.0%}", fix)
