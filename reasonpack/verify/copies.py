"""How often each record of the source is packed, computed again from the contents of all records.

    records ─→ contents ─→ duplicate? ─→ share of its input ─→ sample ─→ times

Which records pack could not read is taken from the run's copies.index: pack has more reasons to
refuse a record than this check. So is how often records are packed where this depends on one that
cannot be read here, and `Findings.taken` says so.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.datasets.manifest import Share
from reasonpack.errors import RecordError, StorageError
from reasonpack.records.unit import Record, read_records
from reasonpack.storage.place import join as path_of
from reasonpack.storage.place import public_name
from reasonpack.storage.read import read_bytes
from reasonpack.verify.calls import Call, read_calls
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.findings import Findings
from reasonpack.verify.groups import Group, Groups
from reasonpack.verify.join import Join
from reasonpack.verify.manifest import Dataset
from reasonpack.verify.reader import read_chat
from reasonpack.verify.sessions import decoded_calls
from reasonpack.verify.source import Source, decoded

INDEX = "copies.index"
CHAT = b"\1"
"""The flag of a content that can be packed; that of others is 0."""
DUPLICATE = 0xFFFF
"""The entry in copies.index of a record that is a duplicate."""
UNREADABLE = 0x8000
"""Is added to the entry of a record that pack cannot read."""
TAKEN = "how often records are packed"
"""Names for `Findings.taken` what was read from copies.index."""
BESIDE = "a record that may be a duplicate of an earlier one, which is not read here"


class Copies(Struct):
    """A record, or a group of calls, and how often it is packed.

    Attributes:
        input: index of its input file.
        content: D in FORMAT.md, a flag and a hash; empty if it cannot be read.
        identity: equal for duplicates; empty if it can have none.
        unread: why it cannot be read, or why it is not known whether it is a duplicate.
        times: how often it is packed.
        repeated: it is a duplicate: an earlier record has the same content.
    """

    input: int = 0
    content: bytes = b""
    identity: bytes = b""
    unread: str = ""
    times: int = 1
    repeated: bool = False


def copies_of_records(source: Source, dataset: Dataset, join: Join) -> Iterable[Copies]:
    """Return for each record, in order, how often it is packed.

    Raises:
        StorageError: copies.index cannot be read, or is needed and missing.
    """
    options = source.manifest.options
    if options.dedup == "none" and options.sample is None and not source.manifest.blend:
        return repeat(Copies())
    index = _index(dataset)
    entries = chain(index, repeat(1))
    found = [
        _read(record, unit.input, source, is_refused=_is_refused(record, next(entries), join))
        for unit in source.units
        for record in read_records(unit, source.files[unit.input][0])
    ]
    return _set_times(found, index, dataset, join.findings)


def copies_of_groups(
    groups: Groups, source: Source, dataset: Dataset, join: Join
) -> Iterable[Copies]:
    """Return for each group of calls, in order, how often it is packed.

    Raises:
        StorageError: as for `copies_of_records`, or an input cannot be read.
    """
    manifest, found = source.manifest, []
    distinct = manifest.options.dedup == "exact"
    if not manifest.blend and manifest.options.sample is None and not distinct:
        return repeat(Copies())
    index = _index(dataset)
    for group, entry in zip(groups, chain(index, repeat(1)), strict=False):
        first = next(group.records)
        made = Copies(group.file, _content(group.id.encode() or _raw(first)))
        if distinct:
            try:
                own = replace(group, records=chain([first], group.records))
                made.identity = _hash_of_calls(own, entry, source, join)
            except (NotChecked, TypeError, ValueError) as error:
                made.unread = str(error)
        found.append(made)
    return _set_times(found, index, dataset, join.findings)


def _is_refused(record: Record, entry: int, join: Join) -> bool:
    """Return whether an entry of copies.index says that pack could not read a record, or a group.

    If it is packed, the record must be in rejects.jsonl.
    """
    is_marked = UNREADABLE <= entry < DUPLICATE
    return is_marked and (entry == UNREADABLE or bool(join.rejects.get(record.where)))


def _hash_of_calls(group: Group, entry: int, source: Source, join: Join) -> bytes:
    """Hash the contents of a group's trained calls; empty if there are none, or one is refused.

    `entry` is the group's in copies.index.

    Raises:
        NotChecked: one of the calls cannot be read here.
    """
    hashes: dict[tuple[str, bytes], None] = {}
    try:
        for record, value in decoded_calls(source, group.records, group.by.field):
            if _is_refused(record, entry, join):
                return b""
            if isinstance(value, Exception):
                raise value
            reading = replace(source.reading, row=record.row is not None)
            for each in [] if value is None else read_calls(value, reading, record.where):
                if each.trained:
                    hashes[each.id.removeprefix(record.where), _hash_of_call(each)] = None
    except (RecordError, Refused):
        return b""
    return b"".join(said for _, said in hashes)


def _hash_of_call(call: Call) -> bytes:
    """Hash everything of a call except its id."""
    said: list[object] = [call.role, call.weight, call.reward]
    size = 1 if call.completion is None else len(call.completion)
    said += [
        each is not None and np.broadcast_to(np.asarray(each, np.float32), size).tolist()
        for each in (call.logprobs, call.advantages)
    ]
    if call.completion is not None:
        said += [call.prompt, call.completion, call.mask or [True] * size]
    elif call.chat is not None:
        last = call.chat.messages[-1]
        said += [call.chat.canonical.decode(), last.cut, call.chat.variables]
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()


def _set_times(
    found: Sequence[Copies], index: Sequence[int], dataset: Dataset, findings: Findings
) -> Sequence[Copies]:
    """Set `times`, `repeated` and `unread` of all records or groups, given in order."""
    options, blend = dataset.manifest.options, dataset.manifest.blend
    drawn = options.sample is not None or any(share.conversations is not None for share in blend)
    depends = drawn or options.dedup == "exact" or any(share.repeat % 1 for share in blend)
    if depends and any(each.unread for each in found):
        findings.taken.append(TAKEN)
        if not index:
            where = public_name(path_of(dataset.directory, INDEX))
            fix = "copy it again from where it was packed"
            raise StorageError(where, "missing or empty", "how often each record is packed", fix)
    index = [entry if entry == DUPLICATE else entry % UNREADABLE for entry in index]
    known, any_unread = set[bytes](), False
    for each, said in zip(found, chain(index, repeat(1)), strict=False):
        any_unread = any_unread or bool(each.unread)
        if options.dedup == "exact" and not each.unread and each.identity:
            each.repeated = each.identity in known
            known.add(each.identity)
            if any_unread and not each.repeated and said == DUPLICATE:
                each.repeated, each.unread = True, BESIDE
        elif each.unread:
            each.repeated = said == DUPLICATE
        each.times = int(not each.repeated)
    begin = 0
    for share in blend:
        inputs = range(begin, begin + share.files)
        own = [each for each in found if each.content[:1] == CHAT and not each.repeated]
        own += [each for each in found if each.unread and not depends]
        own = [each for each in own if each.input in inputs]
        for each, times in zip(own, _shared_out(own, share), strict=True):
            each.times = times
        begin += share.files
    if options.sample is not None:
        for each, times in zip(found, _sampled(found, options.sample), strict=True):
            each.times = times
    # Where records are drawn, one that cannot be read may change what is drawn of all others.
    hangs = drawn and not all(each.content for each in found)
    for each, said in zip(found, index, strict=False):
        if not each.repeated and (hangs or not each.content):
            each.times = said
    return found


def _index(dataset: Dataset) -> list[int]:
    """Read copies.index: how often the run packed each record, or group of calls."""
    content = read_bytes(path_of(dataset.directory, INDEX)) or b""
    times: list[int] = np.frombuffer(content[: len(content) // 2 * 2], "<u2").tolist()
    return times


def count_not_packed(copies: Copies, where: str, findings: Findings) -> None:
    """Count a record, or a group of calls, that is not packed: a duplicate, or not drawn."""
    findings.count("duplicates" if copies.repeated else "not_taken")
    if copies.unread:
        findings.leave_unchecked(copies.unread, where)


def _read(record: Record, input_: int, source: Source, *, is_refused: bool) -> Copies:
    chat = None
    try:
        if not is_refused:
            value = decoded(record, source.reading)
            chat = read_chat(value, replace(source.reading, row=record.row is not None))
    except NotChecked as error:
        return Copies(input_, unread=str(error))
    except (RecordError, Refused):
        chat = None
    if chat is None or not any(each.role == "assistant" for each in chat.messages):
        return Copies(input_, _content(_raw(record), b"\0"))
    content = _content(chat.canonical)
    return Copies(input_, content, content)


def _raw(record: Record) -> bytes:
    return record.line if record.row is None else json.dumps(record.row, default=str).encode()


def _content(said: bytes, flag: bytes = CHAT) -> bytes:
    return flag + hashlib.sha256(said).digest()[:16]


def _shared_out(chats: Sequence[Copies], share: Share) -> list[int]:
    """Return how often each chat of an input argument is packed, by the argument's share."""
    if not chats or (share.conversations is None and share.repeat == 1):
        return [each.times for each in chats]
    drawn = [hashlib.sha256(b"share" + each.content).digest() for each in chats]
    order = sorted(range(len(chats)), key=lambda at: (drawn[at], at))
    more = order[: (share.conversations or 0) % len(chats)]
    if share.conversations is None:
        rest = int((share.repeat - int(share.repeat)) * 2**64)
        more = [at for at in order if int.from_bytes(drawn[at][:8], "big") < rest]
    whole = int(share.repeat) if share.conversations is None else share.conversations // len(chats)
    drawn_again = {*more}
    return [whole + (at in drawn_again) for at in range(len(chats))]


def _sampled(found: Sequence[Copies], count: int) -> list[int]:
    """Draw `count` of all copies; return how often each is packed."""
    drawn = []
    before: Counter[bytes] = Counter()
    for at, each in enumerate(found):
        for copy in range(each.times):
            text = b"sample%s %d %d" % (each.content, before[each.content], copy)
            drawn.append((hashlib.sha256(text).digest(), at))
        before[each.content] += 1
    times = Counter(at for _, at in sorted(drawn)[:count])
    return [times[at] for at in range(len(found))]
