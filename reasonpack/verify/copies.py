"""How often each record of the source is to be packed, found again from what all of them say.

records ─→ what they say ─→ not said before? ─→ share of its input ─→ sample ─→ times
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reasonpack.datasets.manifest import Manifest, Part
from reasonpack.errors import RecordError
from reasonpack.records.unit import Record, read_records
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.groups import Groups
from reasonpack.verify.reader import read_chat
from reasonpack.verify.source import Source, decoded
from reasonpack.verify.splits import what_is_said


@dataclass(slots=True)
class Taken:
    """A record: the number of its input, what it says, and how often it is to be packed.

    `digest` is of a record that is no chat where `is_chat` is not set; `repeated` says that an
    earlier record says the same.
    """

    input: int
    digest: bytes
    is_chat: bool
    times: int = 1
    repeated: bool = False


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


def times_of_groups(groups: Groups, manifest: Manifest) -> list[int]:
    """Say of each group of calls how often it is packed, by what names it.

    Raises:
        StorageError: an input cannot be read.
    """
    if not manifest.blend and manifest.options.sample is None:
        return []
    found = []
    for group in groups:
        first = next(group.records)
        line = first.line if first.row is None else json.dumps(first.row).encode()
        digest = hashlib.sha256(group.id.encode() or line).digest()[:16]
        found.append(Taken(group.file, digest, is_chat=True))
    _take(found, manifest)
    return [each.times for each in found]


def _take(found: Sequence[Taken], manifest: Manifest) -> None:
    """Give records, or groups, in their order, the times that a dataset is to have them."""
    options = manifest.options
    chats = [each for each in found if each.is_chat]
    if options.dedup == "exact":
        first: dict[bytes, Taken] = {}
        for each in chats:
            each.repeated = first.setdefault(each.digest, each) is not each
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
