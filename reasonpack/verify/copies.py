"""How often each record of the source is to be packed, found again from what all of them say.

records ─→ what they say ─→ not said before? ─→ share of its input ─→ sample ─→ times
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from reasonpack.datasets.manifest import Manifest, Part
from reasonpack.errors import RecordError
from reasonpack.records.unit import Record, read_records
from reasonpack.verify.calls import Call, read_calls
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.groups import Groups
from reasonpack.verify.reader import read_chat
from reasonpack.verify.sessions import decoded_calls
from reasonpack.verify.source import Source, decoded
from reasonpack.verify.splits import what_is_said


@dataclass(slots=True)
class Taken:
    """A record: the number of its input, what it says, and how often it is to be packed.

    `digest` is of a record that is no chat where `is_chat` is not set; `repeated` says that an
    earlier record says the same, as is known by `said`, if it is there, else by `digest`.
    """

    input: int
    digest: bytes
    is_chat: bool
    times: int = 1
    repeated: bool = False
    said: object = ""


def taken_records(source: Source) -> Iterator[Taken | None]:
    """Say of each record how often it is packed, in their order; None for once, for ever."""
    options, blend = source.manifest.options, source.manifest.blend
    if options.dedup == "none" and options.sample is None and not blend:
        while True:
            yield None
    found = [
        _read(record, unit.input, source)
        for unit in source.units
        for record in read_records(unit, source.files[unit.input][0])
    ]
    _take(found, source.manifest)
    yield from found


def taken_groups(groups: Groups, source: Source) -> list[tuple[int, bool]]:
    """Say of each group of calls how often it is packed, and whether an earlier one says the same.

    Raises:
        StorageError: an input cannot be read.
    """
    manifest = source.manifest
    distinct = manifest.options.dedup == "exact"
    if not manifest.blend and manifest.options.sample is None and not distinct:
        return []
    found = []
    for group in groups:
        first = next(group.records)
        line = first.line if first.row is None else json.dumps(first.row).encode()
        digest = hashlib.sha256(group.id.encode() or line).digest()[:16]
        said: object = ""
        if distinct:
            records = chain([first], group.records)
            said = _said_by_calls(records, group.by.field, source) or f"unread {group.number}"
        found.append(Taken(group.file, digest, is_chat=True, said=said))
    _take(found, manifest)
    return [(each.times, each.repeated) for each in found]


def _said_by_calls(records: Iterator[Record], field: str, source: Source) -> str:
    """Hash what the trained calls of a group say; nothing if there are none, or one is not read."""
    hashes: dict[tuple[str, str], None] = {}
    for record, value in decoded_calls(source, records, field):
        if isinstance(value, Exception):
            return ""
        reading = replace(source.reading, row=record.row is not None)
        try:
            for each in [] if value is None else read_calls(value, reading, record.where):
                if each.trained:
                    hashes[each.id.removeprefix(record.where), _said_by(each)] = None
        except (NotChecked, Refused, TypeError, ValueError):
            return ""
    return " ".join(said for _, said in hashes)


def _said_by(call: Call) -> str:
    """Hash what a call says, but its id."""
    reward = None if call.reward is None else float(call.reward)
    said: list[object] = [call.role, float(call.weight), reward]
    size = 1 if call.completion is None else len(call.completion)
    said += [
        each is not None and np.broadcast_to(np.asarray(each, np.float32), size).tolist()
        for each in (call.logprobs, call.advantages)
    ]
    if call.completion is not None:
        said += [call.prompt, call.completion, call.mask or [True] * size]
    elif call.chat is not None:
        last = call.chat.messages[-1]
        said += [what_is_said(call.chat).decode(), last.cut, call.chat.variables]
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _take(found: Sequence[Taken], manifest: Manifest) -> None:
    """Give records, or groups, in their order, the times that a dataset is to have them."""
    options = manifest.options
    chats = [each for each in found if each.is_chat]
    if options.dedup == "exact":
        first: dict[object, Taken] = {}
        for each in chats:
            each.repeated = first.setdefault(each.said or each.digest, each) is not each
            each.times = int(not each.repeated)
        chats = list(first.values())
    begin = 0
    for part in manifest.blend:
        inputs = range(begin, begin + part.files)
        _share_out([each for each in chats if each.input in inputs], part)
        begin += part.files
    if options.sample is not None:
        _sample(found, options.sample)


def ids_of(id_: str, times: int) -> list[str]:
    """Name the samples of a record that is packed several times."""
    return [id_ if copy == 1 else f"{id_}#{copy}" for copy in range(1, times + 1)]


def _read(record: Record, input_: int, source: Source) -> Taken:
    try:
        value = decoded(record, source.reading)
        chat = read_chat(value, replace(source.reading, row=record.row is not None))
    except (RecordError, Refused, NotChecked):
        text = record.line if record.row is None else json.dumps(record.row, default=str).encode()
        return Taken(input_, hashlib.sha256(text).digest()[:16], is_chat=False)
    return Taken(input_, hashlib.sha256(what_is_said(chat)).digest()[:16], is_chat=True)


def _share_out(chats: Sequence[Taken], part: Part) -> None:
    """Give each chat of an argument the times that this asks for."""
    if not chats or (part.conversations is None and part.repeat == 1):
        return
    drawn = [hashlib.sha256(b"share\1" + each.digest).digest() for each in chats]
    order = sorted(range(len(chats)), key=lambda at: (drawn[at], at))
    more = order[: (part.conversations or 0) % len(chats)]
    if part.conversations is None:
        rest = int((part.repeat - int(part.repeat)) * 2**64)
        more = [at for at in order if int.from_bytes(drawn[at][:8], "big") < rest]
    whole = int(part.repeat) if part.conversations is None else part.conversations // len(chats)
    for each in chats:
        each.times = whole
    for at in more:
        chats[at].times += 1


def _sample(found: Sequence[Taken], count: int) -> None:
    """Take so many of all copies."""
    drawn = []
    before: Counter[tuple[bool, bytes]] = Counter()
    for at, each in enumerate(found):
        said = (each.is_chat, each.digest)
        for copy in range(each.times):
            text = b"sample%c%s %d %d" % (*said, before[said], copy)
            drawn.append((hashlib.sha256(text).digest(), at))
        before[said] += 1
        each.times = 0
    for _, at in sorted(drawn)[:count]:
        found[at].times += 1
