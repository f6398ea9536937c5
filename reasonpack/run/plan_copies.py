"""The inputs of a run, read once → how often each of their records is packed.

units ─→ (any process) hash of each record ─→ `copies.times_of` ─→ copies.index
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Part
from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.records.group_index import Grouped
from reasonpack.records.groups import Group, line_of
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.run.calls import key_of_calls
from reasonpack.run.conversations import parse
from reasonpack.run.copies import HASH_BYTES, INDEX, Copies, asked_for, content_hash, times_of
from reasonpack.run.engine import Run, results_of
from reasonpack.run.plan_file import Plan, sealed_plan
from reasonpack.run.splits import key
from reasonpack.run.waiting_calls import calls_of
from reasonpack.storage.place import Place, join
from reasonpack.storage.read import read_bytes

_Planned = tuple[Copies, bytes]
"""How often records are packed, and the index that says it of each."""


def with_copies(
    plan: Plan,
    places: Sequence[Place],
    options: Options,
    run: Run,
    reading: Reading,
    *,
    output: Place,
    known: Plan | None,
    grouped: Grouped | None = None,
) -> tuple[Plan, bytes | None]:
    """Find how often each record, or group of calls, is packed.

    `places` say where each input is, `reading` how its records are read; `known` is the plan that
    is in the directory `output`; `grouped` are the groups of calls.

    Returns:
        The plan that says so, and the index; the plan as it is, and None, if each is packed once.

    Raises:
        UsageError: a conversation would be packed too often.
    """
    if not asked_for(options, plan.blend):
        return plan, None
    found = _known(known, plan, output)
    if found is None and grouped is not None:
        found = _of_groups(grouped, plan.blend, options, reading)
    copies, index = found or _of_units(plan, places, options, run, reading)
    return sealed_plan(replace(plan, copies=copies)), index


def _of_units(
    plan: Plan, places: Sequence[Place], options: Options, run: Run, reading: Reading
) -> _Planned:
    """Find how often each record of some units is packed."""
    units, blend = plan.units, plan.blend
    reading = replace(reading, weighs="loss_weights" in plan.columns)
    do = partial(_hashes, places=tuple(places), reading=reading)
    found = results_of(units, do, run)
    records = [len(each) // HASH_BYTES for each in found]
    whole = b"".join(found)
    hashes = [whole[at : at + HASH_BYTES] for at in range(0, len(whole), HASH_BYTES)]
    files = np.repeat([unit.input for unit in units], records)
    return _planned(hashes, files, blend, records, options)


def _of_groups(
    grouped: Grouped, blend: Sequence[Part], options: Options, reading: Reading
) -> _Planned:
    """Find how often each group of calls is packed; one is of the input of its first record."""
    entries, hashes, starts, said = grouped.entries, [], [], []
    for group in grouped.groups:
        first = next(group.records)
        hashes.append(content_hash(group.id.encode() or line_of(first), readable=True))
        starts.append(group.start)
        if options.dedup == "exact":
            whole = replace(group, records=chain([first], group.records))
            said.append(_said(whole, reading))
    bounds = np.searchsorted(starts, [*(unit.start for unit in grouped.units), len(entries)])
    files = entries["file"][np.array(starts, np.int64)]
    return _planned(hashes, files, blend, np.diff(bounds).tolist(), options, said)


def _said(group: Group, reading: Reading) -> bytes:
    """Return what stands for the calls of a group; for nothing where not all can be read."""
    try:
        key_ = key_of_calls(_calls(group, reading))
    except RecordError:
        key_ = b""
    return content_hash(key_, readable=bool(key_))


def _calls(group: Group, reading: Reading) -> Iterator[Call]:
    for _, _, calls in calls_of(group, reading):
        if isinstance(calls, RecordError):
            raise calls
        yield from calls


def _planned(
    hashes: Sequence[bytes],
    files: NDArray[np.integer[Any]],
    blend: Sequence[Part],
    records: list[int],
    options: Options,
    said: Sequence[bytes] | None = None,
) -> _Planned:
    """Write the index of how often each record, or group, is packed.

    `files` say of which input each is, in order; `records` how many each unit has.
    """
    ends = np.searchsorted(files, np.cumsum([0, *(part.files for part in blend)]))
    parts = [*zip(blend, np.diff(ends).tolist(), strict=True)]
    index = times_of(hashes, parts, options, said=said).astype("<u2").tobytes()
    return Copies(records, hashlib.sha256(index).hexdigest()), index


def _hashes(unit: Unit, places: Sequence[Place], reading: Reading) -> bytes:
    """Return the hashes of the records of a unit."""

    def hashed(record: Record) -> bytes:
        try:
            return content_hash(key(parse(record, reading)), readable=True)
        except RecordError:
            row = record.row
            line = record.line if row is None else json.dumps(row, default=str).encode()
            return content_hash(line, readable=False)

    return b"".join(map(hashed, read_records(unit, places[unit.input])))


def _known(known: Plan | None, plan: Plan, output: Place) -> _Planned | None:
    """Return what an earlier plan of the same inputs and options found, if its index is there."""
    if known is None or known.copies is None:
        return None
    names = ("library_version", "options", "hashes", "units", "blend")
    alike = all(getattr(known, name) == getattr(plan, name) for name in names)
    inputs = [[(each.name, each.sha256) for each in one.inputs] for one in (known, plan)]
    content = read_bytes(join(output, INDEX)) if alike and inputs[0] == inputs[1] else None
    if content is None or hashlib.sha256(content).hexdigest() != known.copies.sha256:
        return None
    return known.copies, content
