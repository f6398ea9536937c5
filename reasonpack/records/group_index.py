"""Records in any order → an index of them by group, and work units of whole groups.

    calls.jsonl:1  trace a ┐            group  file  line  offset  length
    calls.jsonl:2  trace b ├──→ sort ──→  a      0     1       0    9,120   ┐ unit 0
    more.jsonl:1   trace a ┘              a      1     1       0   10,310   ┘
                                          b      0     2   9,120    8,877     unit 1

Groups stand in the order of their first records, the records of a group in that of the inputs.
An entry has 44 bytes, so that a million records are planned in about 100 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from errno import ENOENT
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import StorageError, UsageError
from reasonpack.records.call_formats import GROUP_FIELDS
from reasonpack.records.group_field import AUTO, FILE, NONE, GroupFields, group_name, one_field
from reasonpack.records.plan import UNIT_LINES, InputFile, changed, is_settled, plan
from reasonpack.records.unit import (
    Record,
    Unit,
    blocks_of,
    content_kind,
    located_records,
    read_records,
)
from reasonpack.storage.place import Place, full_stamp, unreadable, unwritable
from reasonpack.storage.read import open_bytes

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
MAX_GROUP_BYTES = 1 << 30
MANY, MOST = 1_000, 0.5
"""From so many records on, a field that `auto` found may not put more than this share together."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the records of a plan are put together.

    Attributes:
        field: which says what belongs together, dotted; empty where each record is a group,
            `FILE` where each file is.
        records: in all inputs.
        groups: of them.
        alone: records without the field, each a group of its own.
        containers: how each input is packed.
        sha256: of the index.
    """

    field: str
    records: int
    groups: int
    alone: int
    containers: list[GroupContainer]
    sha256: str


@dataclass(frozen=True, slots=True)
class Grouped:
    """A plan of groups: inputs, where their records can be looked up, their index, and units."""

    inputs: list[InputFile]
    places: list[Place]
    entries: Entries
    units: list[Unit]
    grouping: Grouping


def plan_groups(
    files: Sequence[tuple[Place, str]],
    *,
    field: str = AUTO,
    own_fields: Mapping[str, str] | None = None,
    unit_bytes: int,
    max_group_bytes: int = MAX_GROUP_BYTES,
    see: Callable[[bytes], object] = lambda _: None,
    folder: Path | None = None,
) -> Grouped:
    """Read all records, put those of a group together, and cut the groups into units.

    Args:
        files: inputs, as place and name.
        field: says which records belong together; `auto` for a known one, `FILE` for the file.
        own_fields: by the name of a file whose format says what groups its records, that field,
            which `auto` takes alone there.
        unit_bytes: size of a unit, about; no group is divided.
        max_group_bytes: of the largest group.
        see: is given each record as it stands in the file.
        folder: where the records of files are written in which none can be looked up.

    Raises:
        StorageError: a file cannot be read, or changes while it is read.
        UsageError: there is no one field for all, or a group is too large.
    """
    own = {name: (own_field,) for name, own_field in (own_fields or {}).items()}
    scan, inputs = _Scan(see, folder), list[InputFile]()
    for number, (place, name) in enumerate(files):
        looked_for = own.get(name, GROUP_FIELDS) if field == AUTO else (field,)
        inputs.append(scan.read(number, place, name, looked_for))
    chosen = one_field(scan.counts) if field == AUTO else field
    if scan.unfit and (chosen == NONE or chosen in scan.unfit):
        raise scan.unfit.get(chosen) or next(iter(scan.unfit.values()))
    entries, bounds = sort_by_group(np.frombuffer(scan.entries, ENTRY))
    names = [name for _, name in files]
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
    _refuse_large(entries, bounds, np.diff(upto), names, chosen, max_group_bytes)
    if field == AUTO and len(entries) > MANY:
        _refuse_one_for_all(entries, bounds, names, chosen)
    grouping = Grouping(
        field=chosen,
        records=len(entries),
        groups=len(bounds) - 1,
        alone=scan.alone,
        containers=scan.containers,
        sha256=hashlib.sha256(entries.tobytes()).hexdigest(),
    )
    units = _units(entries, bounds, names, unit_bytes)
    return Grouped(inputs, scan.places, entries, units, grouping)


class _Scan:
    """Reads files once, for their hashes and for the groups of their records."""

    def __init__(self, see: Callable[[bytes], object], folder: Path | None) -> None:
        self._see, self._folder = see, folder
        self._fields: GroupFields | None = None
        self.entries = bytearray()
        self.counts: Counter[str] = Counter()
        self.unfit: dict[str, UsageError] = {}
        self.alone = 0
        self.containers: list[GroupContainer] = []
        self.places: list[Place] = []

    def read(self, number: int, place: Place, name: str, fields: Sequence[str]) -> InputFile:
        """Read a file; its number is that among the inputs, its records are grouped by a field."""
        self._fields = None if FILE in fields else GroupFields(fields)
        self.counts.update(dict.fromkeys(fields, 0))
        before = full_stamp(place)
        if before is None:
            raise unreadable(place, FileNotFoundError(ENOENT, os.strerror(ENOENT)))
        kind = content_kind(place, name)
        if kind not in {"plain", "array"}:
            return self._spread(number, place, name)
        self.containers.append("plain" if kind == "plain" else "array")
        self.places.append(place)
        hash_, size = hashlib.sha256(), 0

        def hashed(blocks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal size
            for block in blocks:
                hash_.update(block)
                size += len(block)
                yield block

        unit = Unit(0, number, name, kind, 0, before.bytes, int(kind == "plain"), before.bytes)
        with open_bytes(place, "plain") as file:
            blocks = hashed(blocks_of(file))
            for where, record in located_records(unit, blocks):
                self._add(number, where.number, where.start, where.stop, record)
            for _ in blocks:  # what stands behind the last record
                pass
        if before != full_stamp(place) or before.bytes != size:
            raise changed(place)
        settled = before if is_settled(before) else None
        return InputFile(name, size, hash_.hexdigest(), settled)

    def _spread(self, number: int, place: Place, name: str) -> InputFile:
        """Read a file in which no record can be looked up; write its records to one where they can.

        A line and an element are written as they are, a row as JSON.
        """
        if self._folder is None:
            raise StorageError(name, "is no plain file", "a folder to unpack it to", "name one")
        (input_,), units = plan([(place, name)], unit_bytes=1 << 62)
        target, at = self._folder / str(number), 0
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
                    number_in_file = int(_NUMBER.findall(record.where)[-1])
                    self._add(number, number_in_file, at, stop, replace(record, line=line))
                    at = stop
        except OSError as error:
            raise unwritable(target, error) from error
        self.containers.append(kind)
        self.places.append(target)
        return input_

    def _add(self, file: int, line: int, start: int, stop: int, record: Record) -> None:
        self._see(record.line)
        if self._fields is None:
            self.entries += _hash("file", str(file)) + _ENTRY.pack(file, line, start, stop - start)
            return
        found: list[str] = []
        for name, value in self._fields.of_line(record.line).items():
            try:
                found.append(group_name(value, name))
                self.counts[name] += 1
            except UsageError as error:
                error.where = f"{record.where}: {error.where}"
                self.unfit.setdefault(name, error)
        if found:
            group = _hash("group", found[0])
        else:
            self.alone += 1
            group = _hash("record", f"{file} {line}")
        self.entries += group + _ENTRY.pack(file, line, start, stop - start)


def _hash(kind: str, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, person=kind.encode()).digest()


def sort_by_group(entries: Entries) -> tuple[Entries, NDArray[np.int64]]:
    """Sort records, which are in the order of the inputs, by the first record of their group.

    Returns:
        The entries, and for each group where it begins; at last, how many entries there are.
    """
    if not len(entries):
        return entries, np.zeros(1, np.int64)
    order = np.lexsort((entries["group"][:, 0], entries["group"][:, 1]))  # a stable sort
    groups = entries["group"][order]
    begins = np.append(True, np.any(groups[1:] != groups[:-1], axis=1))
    firsts = order[begins][np.cumsum(begins) - 1]  # of the group of each
    order = order[np.argsort(firsts, kind="stable")]
    entries = entries[order]
    groups = entries["group"]
    begins = np.append(True, np.any(groups[1:] != groups[:-1], axis=1))
    return entries, np.append(np.flatnonzero(begins), len(entries))


def _units(
    entries: Entries, bounds: NDArray[np.int64], names: Sequence[str], unit_bytes: int
) -> list[Unit]:
    """Cut the groups into as few units as their size allows, of about the same size."""
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
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


def _refuse_large(
    entries: Entries,
    bounds: NDArray[np.int64],
    sizes: NDArray[np.int64],
    names: Sequence[str],
    field: str,
    most: int,
) -> None:
    if len(sizes) and int(sizes.max()) > most:
        at = entries[bounds[int(sizes.argmax())]]
        raise UsageError(
            f"--group-by {field}" if field else "--max-group-bytes",
            f"the group of {names[at['file']]}:{at['line']} has {int(sizes.max()):,} bytes",
            f"at most {most:,}",
            "name a field that divides the records further, or raise --max-group-bytes",
        )


def _refuse_one_for_all(
    entries: Entries, bounds: NDArray[np.int64], names: Sequence[str], field: str
) -> None:
    counts = np.diff(bounds)
    if counts.max() > MOST * len(entries):
        at = entries[bounds[int(counts.argmax())]]
        raise UsageError(
            f"--group-by auto ({field})",
            f"the group of {names[at['file']]}:{at['line']} has {counts.max():,} of "
            f"{len(entries):,} records",
            f"at most {MOST:.0%}",
            f"pass --group-by {field} if that is right, or another field",
        )
