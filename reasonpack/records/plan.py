"""Input files → work units. `unit` reads the records of one.

    chats.jsonl     0 ───── 23 MiB ───── 47 MiB ───── 70 MiB      cut after a line end
                    unit 0     unit 1       unit 2                in as few as --unit-size allows
    chats.json      [ {…}, {…}, │ {…}, {…} ]                     one list: cut between elements
    more.jsonl.gz   unit 3 (compressed: one unit)
    rows.parquet    unit 4 (row groups 0–3), unit 5 (row groups 4–7); Arrow: batches of rows

The plan depends on what is in the files and on the size of a unit, never on the number of
workers. One unit becomes one shard.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT
from functools import partial
from itertools import pairwise

import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import StorageError
from reasonpack.records.json_array import NotAList, elements
from reasonpack.records.unit import (
    BLOCK,
    LONGEST_RECORD,
    Unit,
    arrow_batches,
    blocks_of,
    content_kind,
    no_list,
    opened_rows,
)
from reasonpack.records.weighted import Search, is_weighted
from reasonpack.storage.place import Place, Stamp, full_stamp, public_name, unreadable
from reasonpack.storage.read import Container, digest, open_bytes

UNIT_BYTES = 32 << 20
"""Input bytes of a work unit, at most about; memory of a worker is some twenty times that."""
UNIT_LINES = 1 << 18
"""Lines of a work unit, about: each costs a worker some kB, however short it is."""
SETTLED_NS = 2 * 10**9
"""How old a file must be for its time of writing to vouch for it: the coarsest clock's tick."""


class InputFile(Struct, frozen=True):
    """One input file as it was when the plan was made.

    Attributes:
        name: what it is called in messages and ids.
        bytes: its size.
        sha256: of all of its bytes.
        stamp: what its file system said of it; None where that does not vouch for the content,
            which then has to be read again.
        weighted: whether a record in it has a weight other than 0 and 1; None where that was not
            looked for.
    """

    name: str
    bytes: int
    sha256: str
    stamp: Stamp | None = None
    weighted: bool | None = None


Planned = tuple[InputFile, Sequence[Unit]]
Named = tuple[Place, str, tuple[InputFile | None, Sequence[Unit]]]
"""A file by place and name, and what is known of it."""


def plan(
    files: Sequence[tuple[Place, str]],
    *,
    unit_bytes: int = UNIT_BYTES,
    known: Mapping[str, tuple[InputFile, Sequence[Unit]]] | None = None,
    weighted: bool = False,
    each: Callable[[Callable[[Named], Planned], Sequence[Named]], Iterable[Planned]] = map,
) -> tuple[list[InputFile], list[Unit]]:
    """Cut input files, given as place and name, into work units.

    The units of a file are as few as `unit_bytes` allows and about as large as each other, so
    that several workers end together.

    Every file is read once, to know its content, and a plain one to find where it may be cut.
    One that has the stamp that it has in `known` is not. If `weighted`, weights are looked for.
    `each` does what it is given with each file, in order, as `map`.

    Raises:
        StorageError: a file cannot be read, is no file of records, or changes while it is read.
    """
    inputs: list[InputFile] = []
    units: list[Unit] = []
    named = [(place, name, (known or {}).get(name, (None, ()))) for place, name in files]
    for input_, own in each(partial(_cut, unit_bytes=unit_bytes, weighted=weighted), named):
        for unit in own:
            units.append(replace(unit, number=len(units), input=len(inputs)))
        inputs.append(input_)
    return inputs, units


def _cut(named: Named, *, unit_bytes: int, weighted: bool) -> Planned:
    """Cut one file into units whose numbers and input are not known yet, if need be."""
    place, name, (input_, own) = named
    before = full_stamp(place)
    if before is None:
        raise unreadable(place, FileNotFoundError(ENOENT, os.strerror(ENOENT)))
    unknown = input_ is None or (weighted and input_.weighted is None)
    if input_ is not None and not unknown and vouches(input_.stamp, before):
        return input_, own
    return _planned(place, name, before, unit_bytes, weighted=weighted)


def _planned(place: Place, name: str, before: Stamp, unit_bytes: int, *, weighted: bool) -> Planned:
    """Read one file, and cut it."""
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
    if before != full_stamp(place) or before.bytes != bytes_:
        raise changed(place)
    return InputFile(name, bytes_, sha256, before if is_settled(before) else None, found), units


def changed(place: Place) -> StorageError:
    """Say that an input is not what it was."""
    what = "it was written to while it was being packed"
    fix = "pack again when it is complete"
    return StorageError(public_name(place), what, "it to stay as it was", fix)


def is_settled(stamp_: Stamp) -> bool:
    """Tell whether a stamp vouches for content.

    A file may be written twice within one tick of its file system's clock. An object without a
    version is known by its content only.
    """
    if stamp_.version:
        return True
    latest = max(stamp_.modified_ns, stamp_.changed_ns)
    return stamp_.inode > 0 and latest < time.time_ns() - SETTLED_NS


def vouches(then: Stamp | None, now: Stamp) -> bool:
    """Tell whether a file is for certain the one of which `then` was written down."""
    return then is not None and then == now and then.changed_ns == now.changed_ns


def _ends(size: int, unit_bytes: int) -> list[int]:
    """Divide a size into the fewest equal parts of at most so many bytes; return where they end.

    >>> _ends(70, 32)
    [24, 47, 70]
    """
    count = max(1, -(-size // unit_bytes))
    return [-(-part * size // count) for part in range(1, count + 1)]


def _byte_stretches(
    place: Place, name: str, kind: Container, size: int, unit_bytes: int, search: Search
) -> tuple[int, str, list[tuple[int, int, int, int]]]:
    """Cut a file of lines, or a list, where a record ends; return its size and hash too."""
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
                # However much this one has of the next one's share.
                ends = [end for end in ends if end > at]
    stretches.append((start, read.bytes, first, read.bytes - start))
    return read.bytes, read.hash.hexdigest(), stretches


def divide(unit: Unit, place: Place, most: int) -> list[Unit]:
    """Divide a unit of lines into parts of about the same size, at most so many, in its order.

    Their number is that of the unit.
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
    """Blocks of a file, counted, hashed and searched as they are taken."""

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
    """Yield how much was read, where the last line in it ends, and the next line's number."""
    at, line = 0, 1
    for block in blocks:
        line += block.count(b"\n")
        at += len(block)
        if (cut := block.rfind(b"\n")) >= 0:
            yield at, at - len(block) + cut + 1, line


def _elements(blocks: Iterable[bytes], name: str) -> Iterator[tuple[int, int, int]]:
    """Yield where each element of a list ends, twice, and the next one's index."""
    try:
        for index, element in enumerate(elements(blocks, longest=LONGEST_RECORD)):
            yield element.stop, element.stop, index + 1
    except NotAList as error:
        raise no_list(name, error) from error


def _groups(place: Place, kind: Container) -> Iterator[tuple[int, int]]:
    """Yield the bytes and the rows of each group of a Parquet file, of each batch of an Arrow."""
    with opened_rows(place, kind) as file:
        if kind == "arrow":
            yield from ((batch.nbytes, batch.num_rows) for batch in arrow_batches(file))
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
