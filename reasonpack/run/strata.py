"""Work units → a sample of records from all of the input, and how much of it each part stands for.

    lines       │··██··│··██··│··██··│     lines that begin in a window in each of many equal
                                            stretches of bytes, so that all are equally likely
    calls       │  ██ │ █  │██   │ ██ │     the groups of calls in the middle of such stretches
    lists, Parquet, gzip, zstd              some records of some units, spread evenly; these units
                                            are read whole, as nothing says where a record begins

A small input is taken whole.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.records.groups import Groups
from reasonpack.records.record_places import bounds_of
from reasonpack.records.unit import Record, Unit, blocks_of, read_records
from reasonpack.storage.place import Place
from reasonpack.storage.read import open_bytes

SMALL = 2 << 20
"""Bytes of input up to which all records are taken."""
WINDOWS = 192
WINDOW_BYTES = 1 << 14
"""How many windows of files of lines are read, and the size of each."""
GROUP_BYTES = 16 << 20
"""Most bytes of groups of calls that are read, unless a single group is larger."""
UNITS = 16
UNIT_RECORDS = 512
"""How many units of other files are read, and how many records are taken from all of these."""


class Stratum(Struct, frozen=True):
    """A part of the sample, and how much of the input it stands for.

    Attributes:
        records: its records, or groups of calls.
        times: how many times as much text the input has.
        more: how many times as many records, or groups, the input has.
    """

    records: list[Record] | Groups
    times: float
    more: float


def strata(units: Sequence[Unit], places: Sequence[Place]) -> Iterator[Stratum]:
    """Yield a sample of the records of some units; `places` has the place of each input."""
    if sum(unit.input_bytes for unit in units) <= SMALL and all(
        unit.container in {"plain", "array"} for unit in units
    ):
        for unit in units:
            yield Stratum(list(read_records(unit, places[unit.input])), 1.0, 1.0)
        return
    plain = [unit for unit in units if unit.container == "plain"]
    yield from _windows(plain, places)
    for kind in ("array", "parquet", "arrow", "gzip", "zstd"):
        yield from _whole_units([unit for unit in units if unit.container == kind], places)


def group_strata(groups: Groups) -> Iterator[Stratum]:
    """Yield a sample of groups of calls, each as a part of its own."""
    entries = groups.entries
    if not len(entries):
        return
    bounds = bounds_of(entries).tolist()
    upto = np.append(0, np.cumsum(entries["length"], dtype=np.int64))[bounds]
    sizes, total = np.diff(upto), int(upto[-1])
    times = dict.fromkeys(range(len(sizes)), 1.0)
    count = WINDOWS
    while count and sizes[[*times]].sum() > GROUP_BYTES:
        middles = (np.arange(count) + 0.5) * total / count
        drawn = Counter((np.searchsorted(upto, middles, "right") - 1).tolist())
        times = {each: number * total / count / sizes.item(each) for each, number in drawn.items()}
        count //= 2
    for group, share in times.items():
        own = replace(groups, entries=entries[bounds[group] : bounds[group + 1]])
        yield Stratum(own, share, share)


def _spread(units: Sequence[Unit], count: int) -> Iterator[tuple[Unit, int]]:
    """Yield the unit and the offset in it of the middle of each of `count` equal stretches."""
    total = sum(unit.input_bytes for unit in units)
    middles = [int((number + 0.5) * total / count) for number in range(count)] if total else []
    before = 0
    for unit in units:
        while middles and middles[0] < before + unit.input_bytes:
            yield unit, middles.pop(0) - before
        before += unit.input_bytes


def _windows(units: Sequence[Unit], places: Sequence[Place]) -> Iterator[Stratum]:
    records = [
        record
        for unit, offset in _spread(units, WINDOWS)
        for record in _lines_in(unit, places[unit.input], unit.start + offset)
    ]
    if not records:  # all lines are much longer than a window
        first = (record for unit in units[:1] for record in read_records(unit, places[unit.input]))
        records = list(itertools.islice(first, 1))
    if records:
        size = sum(map(_size, records))
        times = sum(unit.input_bytes for unit in units) / size
        yield Stratum(records, times, _count_lines(units, places) / len(records))


def _count_lines(units: Sequence[Unit], places: Sequence[Place]) -> int:
    """Count lines by the first line of each unit; the last unit of an input is read for that."""
    lines = 0
    for unit, following in itertools.zip_longest(units, units[1:]):
        if following and following.input == unit.input:
            lines += following.first_line - unit.first_line
            continue
        with open_bytes(places[unit.input], "plain", start=unit.start) as file:
            lines += sum(block.count(b"\n") for block in blocks_of(file))
    return max(lines, 1)


def _lines_in(unit: Unit, place: Place, start: int) -> Iterator[Record]:
    """Yield the lines of a unit that begin in the window from byte `start` on."""
    stop = min(start + WINDOW_BYTES, unit.stop)
    at = start
    if start > unit.start:
        with open_bytes(place, "plain", start=start - 1) as file:
            skipped = file.readline(stop - start + 1)
            at = start - 1 + len(skipped)
    if at < stop:
        yield from read_records(replace(unit, start=at, stop=stop), place)


def _whole_units(units: Sequence[Unit], places: Sequence[Place]) -> Iterator[Stratum]:
    total = sum(unit.input_bytes for unit in units)
    chosen = list({unit.number: unit for unit, _ in _spread(units, UNITS)}.values())
    times = total / max(1, sum(unit.input_bytes for unit in chosen))
    for unit in chosen:
        records, size, count = _some(
            read_records(unit, places[unit.input]), UNIT_RECORDS // len(chosen)
        )
        if records:
            taken = sum(map(_size, records))
            yield Stratum(records, times * size / taken, times * count / len(records))


def _some(records: Iterator[Record], most: int) -> tuple[list[Record], int, int]:
    """Draw `most` of the records, all equally likely; also return the size and number of all."""
    draw = random.Random(0)  # noqa: S311 (to spread, not to hide)
    chosen: list[Record] = []
    size = count = 0
    for count, record in enumerate(records, 1):
        size += _size(record)
        if len(chosen) < most:
            chosen.append(record)
        elif (place := draw.randrange(count)) < most:
            chosen[place] = record
    return chosen, size, count


def _size(record: Record) -> int:
    return len(record.line) + 1 if record.row is None else len(repr(record.row))
