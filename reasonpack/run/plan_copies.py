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

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.records.group_index import Grouped
from reasonpack.records.groups import Group, line_of
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.run.conversations import parse
from reasonpack.run.copies import (
    INDEX,
    UNREADABLE,
    Copies,
    Times,
    asked_for,
    content_hash,
    times_of,
)
from reasonpack.run.engine import Run, results_of
from reasonpack.run.plan_file import Plan, read_plan, sealed_plan
from reasonpack.run.sources import Source
from reasonpack.run.splits import key, key_of_calls
from reasonpack.run.waiting_calls import calls_of
from reasonpack.storage.place import Place, join
from reasonpack.storage.read import read_bytes

_Found = tuple[list[bytes], NDArray[np.integer[Any]], list[int], list[bytes] | None]
"""Hash and input of each record or group, how many each unit has, and hashes of groups' calls."""


def with_copies(
    plan: Plan,
    places: Sequence[Place],
    options: Options,
    run: Run,
    reading: Reading,
    grouped: Grouped | None = None,
) -> tuple[Plan, bytes | None]:
    """Add to a plan how often each record, or group of calls, is packed.

    `places` are those of the inputs, `reading` says how records are read; `grouped` are the groups
    of calls, None for chats.

    Returns:
        The plan with `copies`, and the index; the plan as it is, and None, if each is packed once.

    Raises:
        UsageError: a conversation would be packed too often.
    """
    if not asked_for(options, plan.blend):
        return plan, None
    hashes, files, records, said = (
        _of_groups(grouped, reading, says=options.dedup == "exact")
        if grouped
        else _of_units(plan, places, run, reading)
    )
    ends = np.searchsorted(files, np.cumsum([0, *(share.files for share in plan.blend)]))
    shares = [*zip(plan.blend, np.diff(ends).tolist(), strict=True)]
    index = times_of(hashes, shares, options, said=said).astype("<u2").tobytes()
    copies = Copies(records, hashlib.sha256(index).hexdigest())
    return sealed_plan(replace(plan, copies=copies)), index


def with_old_copies(plan: Plan, sources: Sequence[Source]) -> tuple[Plan, bytes | None]:
    """Add to a plan how often each record of finished datasets is packed, as their indexes say.

    Returns:
        As `with_copies`; the plan as it is also where calls without an index are joined to calls
        with one, because nothing says how many groups the former are.
    """
    drawn = [asked_for(each.manifest.options, each.manifest.blend) for each in sources]
    if not any(drawn) or ("call_id" in plan.columns and not all(drawn)):
        return plan, None
    records, times = list[int](), list[Times]()
    for source, is_drawn in zip(sources, drawn, strict=True):
        own = [receipt.counts.records for receipt in source.units]
        found = np.ones(sum(own), np.uint16)
        if is_drawn:
            old, content = read_plan(source.directory), read_bytes(join(source.directory, INDEX))
            if old is None or old.copies is None or content is None:
                return plan, None
            own, found = old.copies.records, np.frombuffer(content, "<u2")
        records += own
        times.append(np.where(found < UNREADABLE, found * source.times, found))
    index = np.concatenate(times).astype("<u2").tobytes()
    copies = Copies(records, hashlib.sha256(index).hexdigest())
    return sealed_plan(replace(plan, copies=copies)), index


def _of_units(plan: Plan, places: Sequence[Place], run: Run, reading: Reading) -> _Found:
    reading = replace(reading, weighs="loss_weights" in plan.columns)
    found = results_of(plan.units, partial(_hashes, places=tuple(places), reading=reading), run)
    records, hashes = [*map(len, found)], [*chain.from_iterable(found)]
    return hashes, np.repeat([unit.input for unit in plan.units], records), records, None


def _of_groups(grouped: Grouped, reading: Reading, *, says: bool) -> _Found:
    """Hash groups of calls, and their calls if `says`; a group's first record tells its input."""
    entries, hashes, starts, said = grouped.entries, [], [], []
    for group in grouped.groups:
        first = next(group.records)
        hashes.append(content_hash(group.id.encode() or line_of(first), readable=True))
        starts.append(group.start)
        if says:
            said.append(_calls_hash(replace(group, records=chain([first], group.records)), reading))
    bounds = np.searchsorted(starts, [*(unit.start for unit in grouped.units), len(entries)])
    files = entries["file"][np.array(starts, np.int64)]
    return hashes, files, np.diff(bounds).tolist(), said or None


def _calls_hash(group: Group, reading: Reading) -> bytes:
    """Hash the trained calls of a group; as unreadable if one cannot be read or none is trained."""
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


def _hashes(unit: Unit, places: Sequence[Place], reading: Reading) -> list[bytes]:
    """Return the hashes of the records of a unit."""

    def hashed(record: Record) -> bytes:
        try:
            return content_hash(key(parse(record, reading)), readable=True)
        except RecordError:
            row = record.row
            line = record.line if row is None else json.dumps(row, default=str).encode()
            return content_hash(line, readable=False)

    return [*map(hashed, read_records(unit, places[unit.input]))]
