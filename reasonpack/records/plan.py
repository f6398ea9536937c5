"""Input files → work units. `unit` reads the records of a unit.

    chats.jsonl     0 ───── 23 MiB ───── 47 MiB ───── 70 MiB      cut after a line end,
                    unit 0     unit 1       unit 2                as few as --unit-size allows
    chats.json      [ {…}, {…}, │ {…}, {…} ]                     one list: cut between elements
    more.jsonl.gz   unit 3 (compressed: one unit)
    rows.parquet    unit 4 (row groups 0–3), unit 5 (row groups 4–7); Arrow: batches of rows

The plan depends on the content of the files and on the size of a unit, never on the number of
workers. One unit becomes one shard.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT
from functools import partial
from itertools import chain, pairwise

import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import StorageError
from reasonpack.records.json_array import NotAList, elements
from reasonpack.records.row_files import arrow_batches, opened_rows
from reasonpack.records.unit import (
    BLOCK,
    LONGEST_RECORD,
    Unit,
    blocks_of,
    content_kind,
    no_list,
)
from reasonpack.records.weight_search import Search, is_weighted
from reasonpack.storage.place import Place, Stamp, full_stamp, public_name, unreadable
from reasonpack.storage.read import Container, digest, open_bytes

UNIT_BYTES = 32 << 20
"""Most input bytes of a work unit, roughly; a worker needs some twenty times that as memory."""
UNIT_LINES = 1 << 18
"""Most lines of a work unit, roughly: each costs a worker some kB, however short it is."""
SETTLED_NS = 2 * 10**9
"""Age from which a file's time of writing identifies its content: the coarsest clock's tick."""


class InputFile(Struct, frozen=True):
    """One input file as it was when the plan was made.

    Attributes:
        name: its name in messages and ids.
        bytes: its size.
        sha256: of all of its bytes.
        stamp: what its file system said of it; None if that does not identify the content, so
            that a later run must read the file again.
        weighted: whether a record in it has a weight other than 0 and 1; None if that was not
            looked for.
    """

    name: str
    bytes: int
    sha256: str
    stamp: Stamp | None = None
    weighted: bool | None = None


Planned = tuple[InputFile, Sequence[Unit]]
Named = tuple[Place, str, tuple[InputFile | None, Sequence[Unit]]]
"""A file: its place, its name, and what an earlier plan knows of it (None, and no units)."""
Each = Callable[
    [Callable[[Sequence[Named]], list[Planned]], Sequence[Sequence[Named]]], Iterable[list[Planned]]
]
"""Applies a function to lists of files and yields the results in order, like `map`."""


def plan(
    files: Sequence[tuple[Place, str]],
    *,
    unit_bytes: int = UNIT_BYTES,
    known: Mapping[str, tuple[InputFile, Sequence[Unit]]] | None = None,
    weighted: bool = False,
    each: Each = map,
) -> tuple[list[InputFile], list[Unit]]:
    """Cut input files, given as place and name, into work units.

    A file has as few units as `unit_bytes` allows, of about the same size, so that several
    workers finish together.

    Every file is read once, for its hash and for the places where a plain one may be cut; a file
    whose stamp is still that in `known` is not read. If `weighted`, weights are looked for.
    `each` applies a function to lists of files, like `map`.

    Raises:
        StorageError: a file cannot be read, is no file of records, or changes while it is read.
    """
    inputs: list[InputFile] = []
    units: list[Unit] = []
    named = [[(place, name, (known or {}).get(name, (None, ())))] for place, name in files]
    cut = partial(_cut, unit_bytes=unit_bytes, weighted=weighted)
    for input_, own in chain.from_iterable(each(cut, named)):
        for unit in own:
            units.append(replace(unit, number=len(units), input=len(inputs)))
        inputs.append(input_)
    return inputs, units


def _cut(files: Sequence[Named], *, unit_bytes: int, weighted: bool) -> list[Planned]:
    """Cut files into units, unless they are known; `plan` sets their `number` and `input`."""
    return [_cut_one(file, unit_bytes, weighted=weighted) for file in files]


def _cut_one(named: Named, unit_bytes: int, *, weighted: bool) -> Planned:
    place, name, (input_, own) = named
    before = stamp_of(place)
    unknown = input_ is None or (weighted and input_.weighted is None)
    if input_ is not None and not unknown and vouches(input_.stamp, before):
        return input_, own
    return _planned(place, name, before, unit_bytes, weighted=weighted)


def _planned(place: Place, name: str, before: Stamp, unit_bytes: int, *, weighted: bool) -> Planned:
    """Read one file, and cut it into units."""
    kind, search = content_kind(place, name), Search()
    if kind in {"plain", "array"}:
        size = before.bytes
        bytes_, sha256, stretches = _byte_stretches(place, name, kind, size, unit_bytes, search)
    else:
        bytes_, sha256 = digest(place)
        stretches = [(0, -1, 1, bytes_)]
        if kind in {"parquet", "arrow"}:
            stretches = _group_stretches(place, kind, unit_bytes)
    units = [
        Unit(0, 0, name, kind, start, stop, first, size) for start, stop, first, size in stretches
    ]
    found = is_weighted(place, kind, units, suspected=search.found) if weighted else None
    return replace(as_read(place, name, before, bytes_, sha256), weighted=found), units


def stamp_of(place: Place) -> Stamp:
    """Return what the file system says of a file.

    Raises:
        StorageError: there is no such file.
    """
    found = full_stamp(place)
    if found is None:
        raise unreadable(place, FileNotFoundError(ENOENT, os.strerror(ENOENT)))
    return found


def as_read(place: Place, name: str, before: Stamp, size: int, sha256: str) -> InputFile:
    """Describe a file of `size` bytes that was read, and that had the stamp `before`.

    Raises:
        StorageError: it changed while it was read.
    """
    if before != full_stamp(place) or before.bytes != size:
        raise changed(place)
    return InputFile(name, size, sha256, before if is_settled(before) else None)


def changed(place: Place) -> StorageError:
    """Make the error for an input that changed while it was read."""
    what = "it was written to while it was being packed"
    fix = "pack again when it is complete"
    return StorageError(public_name(place), what, "it to stay as it was", fix)


def is_settled(stamp_: Stamp) -> bool:
    """Return whether a stamp identifies the content of a file.

    A file may be written twice within one tick of its file system's clock, so a recent stamp does
    not. An object in a store without a version is identified only by its content.
    """
    if stamp_.version:
        return True
    latest = max(stamp_.modified_ns, stamp_.changed_ns)
    return stamp_.inode > 0 and latest < time.time_ns() - SETTLED_NS


def vouches(then: Stamp | None, now: Stamp) -> bool:
    """Return whether a file with the stamp `now` is certainly the one that had the stamp `then`."""
    return then is not None and then == now and then.changed_ns == now.changed_ns


def _ends(size: int, unit_bytes: int) -> list[int]:
    """Divide a size into the fewest equal parts of at most `unit_bytes`; return where they end.

    >>> _ends(70, 32)
    [24, 47, 70]
    """
    count = max(1, -(-size // unit_bytes))
    return [-(-part * size // count) for part in range(1, count + 1)]


def _byte_stretches(
    place: Place, name: str, kind: Container, size: int, unit_bytes: int, search: Search
) -> tuple[int, str, list[tuple[int, int, int, int]]]:
    """Return a file's size and hash, and its units: start, stop, first line, bytes."""
    stretches: list[tuple[int, int, int, int]] = []
    start = 0
    first = int(kind == "plain")  # lines are counted from 1, elements from 0
    ends = _ends(size, unit_bytes)
    with open_bytes(place, "plain") as file:
        read = Hashed(blocks_of(file, size=min(BLOCK, unit_bytes)), search)
        for at, border, record in _line_ends(read) if kind == "plain" else _elements(read, name):
            enough = at >= ends[0] or record - first >= UNIT_LINES
            if enough and at < ends[-1]:
                stretches.append((start, border, first, border - start))
                start, first = border, record
                # A unit that a long record made larger may have passed several ends.
                ends = [end for end in ends if end > at]
    stretches.append((start, read.bytes, first, read.bytes - start))
    return read.bytes, read.hash.hexdigest(), stretches


def divide(unit: Unit, place: Place, most: int) -> list[Unit]:
    """Divide a unit of lines into at most `most` parts of about the same size, in its order.

    All parts have the `number` of the unit. A unit of another kind stays whole.
    """
    size = unit.stop - unit.start
    if unit.container != "plain" or size < most:
        return [unit]
    borders = [(unit.start, unit.first_line)]
    ends = _ends(size, -(-size // most))
    with open_bytes(place, "plain", start=unit.start) as file:
        blocks = blocks_of(file, size=min(BLOCK, 1 + size // most // 16))
        for at, border, line in _line_ends(blocks):
            if at >= ends[-1] or len(ends) == 1:
                break
            if at >= ends[0]:
                borders.append((unit.start + border, unit.first_line + line - 1))
                ends = [end for end in ends if end > at]
    borders.append((unit.stop, 0))
    return [
        replace(unit, start=start, stop=stop, first_line=line, input_bytes=stop - start)
        for (start, line), (stop, _) in pairwise(borders)
    ]


class Hashed:
    """Yields the blocks of a file; counts, hashes and searches their bytes as it does."""

    def __init__(self, blocks: Iterator[bytes], search: Search | None = None) -> None:
        self.blocks, self.bytes, self.hash, self.search = blocks, 0, hashlib.sha256(), search

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks."""
        for block in self.blocks:
            self.hash.update(block)
            if self.search:
                self.search.add(block)
            self.bytes += len(block)
            yield block


def _line_ends(blocks: Iterable[bytes]) -> Iterator[tuple[int, int, int]]:
    """Yield, for blocks with a line end: bytes read, end of the last line, number of the next."""
    at, line = 0, 1
    for block in blocks:
        line += block.count(b"\n")
        at += len(block)
        if (cut := block.rfind(b"\n")) >= 0:
            yield at, at - len(block) + cut + 1, line


def _elements(blocks: Iterable[bytes], name: str) -> Iterator[tuple[int, int, int]]:
    """Yield where each element of a list ends, twice as for `_line_ends`, and the next index."""
    try:
        for index, element in enumerate(elements(blocks, longest=LONGEST_RECORD)):
            yield element.stop, element.stop, index + 1
    except NotAList as error:
        raise no_list(name, error) from error


def _groups(place: Place, kind: Container) -> Iterator[tuple[int, int]]:
    """Yield the bytes and rows of each row group of a Parquet file, or batch of an Arrow file."""
    with opened_rows(place, kind) as file:
        if kind == "arrow":
            for batch in arrow_batches(file):
                yield batch.get_total_buffer_size(), batch.num_rows  # `nbytes` knows no views
            return
        metadata = pq.read_metadata(file)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        yield from ((group.total_byte_size, group.num_rows) for group in groups)


def _group_stretches(
    place: Place, kind: Container, unit_bytes: int
) -> list[tuple[int, int, int, int]]:
    groups = list(_groups(place, kind))
    ends = _ends(sum(size for size, _ in groups), unit_bytes)
    stretches: list[tuple[int, int, int, int]] = []
    start = at = begin = rows = 0
    first_row = 1
    for group, (size, count) in enumerate(groups):
        at += size
        rows += count
        if ends[0] <= at < ends[-1]:
            stretches.append((start, group + 1, first_row, at - begin))
            start, begin, first_row = group + 1, at, rows + 1
            ends = [end for end in ends if end > at]
    return [*stretches, (start, len(groups), first_row, at - begin)]
