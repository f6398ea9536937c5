"""Hashes of records → how often each is packed: duplicates never, others by their inputs' shares.

    hashes of all records ─→ first of equals ─→ shares of inputs ─→ sample ─→ copies.index
    a b a c d                a b   c d          1 0   1 2           …          u16 for each record

Records are drawn by hashes of their content: a fraction takes the same ones after data is added.
`schemas/FORMAT.md` has the rules. Memory is about 150 bytes a record, and the sample.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Share
from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.records.groups import read_entries
from reasonpack.run.splits import on_unit
from reasonpack.storage.place import Place, join
from reasonpack.wording import count

INDEX = "copies.index"
DUPLICATE = 0xFFFF
"""Stands in place of a number for a record with the content of an earlier one."""
UNREADABLE = 0x8000
"""Is added to the number of a record that cannot be read."""
MOST = 1_000
"""How often a conversation may be packed at most."""
Times = NDArray[np.uint16]


class Copies(Struct, frozen=True):
    """What a plan says of copies.

    Attributes:
        records: how many records, or groups of calls, each unit has.
        sha256: of the index.
    """

    records: list[int]
    sha256: str


def asked_for(options: Options, blend: Sequence[Share]) -> bool:
    """Return whether options or shares of inputs may pack a record other than once."""
    return options.dedup != "none" or options.sample is not None or bool(blend)


def content_hash(key: bytes, *, readable: bool) -> bytes:
    """Return a byte that says whether a record is readable, and a hash of its key.

    The key is that of its conversation, the bytes of an unreadable record, or the id of a group of
    calls, for which the first record stands if it has none.
    """
    return bytes([readable]) + hashlib.sha256(key).digest()[:16]


def times_of(
    hashes: Sequence[bytes],
    shares: Sequence[tuple[Share, int]],
    options: Options,
    *,
    said: Sequence[bytes] | None = None,
) -> Times:
    """Return how often each record is packed, as copies.index says it.

    Shares pack an unreadable record once, to be rejected. `shares` are the shares of the inputs,
    each with its number of records. Records with the same `said` are duplicates; those with the
    same hash if it is None.

    Raises:
        UsageError: a conversation would be packed more than `MOST` times.
    """
    times = np.ones(len(hashes), np.uint16)
    if options.dedup == "exact":
        seen: set[bytes] = set()
        for number, hash_ in enumerate(said or hashes):
            if hash_ in seen and _is_readable(hash_):
                times[number] = DUPLICATE
            seen.add(hash_)
    start = 0
    for share, records in shares:
        within = range(start, start + records)
        own = [at for at in within if times[at] != DUPLICATE and _is_readable(hashes[at])]
        start += records
        if own and not share.is_whole:
            whole, more = _shared_out([hashes[at] for at in own], share)
            times[own] = whole
            times[[own[at] for at in more]] += 1
    if options.sample is not None:
        times = _sampled(times, hashes, options.sample)
    times[[not _is_readable(each) for each in said or hashes]] |= UNREADABLE
    return times


def _is_readable(hash_: bytes) -> bool:
    return hash_[0] == 1


def _shared_out(hashes: Sequence[bytes], share: Share) -> tuple[int, list[int]]:
    """Return how often each record of an input is packed, and the indices packed once more."""
    drawn = (hashlib.sha256(b"share" + each).digest() for each in hashes)
    if share.conversations is None:
        whole, fraction = divmod(share.repeat, 1.0)
        more = [at for at, each in enumerate(drawn) if on_unit(each) < fraction]
        times = int(whole)
    else:
        times, rest = divmod(share.conversations, len(hashes))
        more = [at for _, at in heapq.nsmallest(rest, zip(drawn, range(len(hashes)), strict=True))]
    if times >= MOST:
        what = f"{times:,} times each of its {count(len(hashes), 'conversation')}"
        raise UsageError(share.path, what, f"less than {MOST:,} times", "ask for fewer")
    return times, more


def _sampled(times: Times, hashes: Sequence[bytes], count: int) -> Times:
    """Return `times` of a sample of `count` copies; equal records are drawn separately."""
    before: Counter[bytes] = Counter()

    def drawn() -> Iterator[tuple[bytes, int]]:
        for at, hash_ in enumerate(hashes):
            for copy in range(int(times[at]) if times[at] != DUPLICATE else 0):
                said = b"sample%s %d %d" % (hash_, before[hash_], copy)
                yield hashlib.sha256(said).digest(), at
            before[hash_] += 1

    taken = heapq.nsmallest(count, drawn())
    sampled = np.where(times == DUPLICATE, times, 0).astype(times.dtype)
    for _, at in taken:
        sampled[at] += 1
    return sampled


def copies_a_record(index: bytes) -> float:
    """Return how often a record is packed on average, duplicates 0 times, from the index."""
    times = _without_marks(np.frombuffer(index, "<u2"))
    return float(times[times != DUPLICATE].sum() / max(1, len(times)))


def read_times(output: Place, copies: Copies | None, unit: int) -> Times | None:
    """Read how often each record, or group of calls, of a unit is packed; None if each is once.

    Raises:
        StorageError: the index cannot be read, or is too short.
    """
    if copies is None:
        return None
    start = sum(copies.records[:unit])
    stop = start + copies.records[unit]
    return _without_marks(read_entries(join(output, INDEX), start, stop, np.dtype("<u2")))


def _without_marks(index: Times) -> Times:
    return np.where(index == DUPLICATE, index, index & ~np.uint16(UNREADABLE))
