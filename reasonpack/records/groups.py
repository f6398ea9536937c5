"""The field that groups records (option --group-by) → the records of each group.

{"trace_id": "a7", "messages": […]}    --group-by trace_id            "a7"
{"metadata": {"run": 3}, …}            --group-by metadata.run        "3"

The field is found in a line without decoding the rest. Records are read from the places that an
index has; memory is a few records that are adjacent in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.errors import StorageError, UsageError
from reasonpack.records.record_places import ENTRY, Entries, Source, by_group, look_up
from reasonpack.records.unit import Record
from reasonpack.storage.place import Place, public_name
from reasonpack.storage.read import open_file

AUTO = "auto"
FILE = ":file"
"""In place of a field: all records of a file are a group."""
NONE = ""
"""In place of a field: each record is a group of its own."""


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def fields_of_line(line: bytes | msgspec.Raw, names: Sequence[str]) -> dict[str, object]:
    """Return the values of those of the fields `names` that a record has; {} if it is no object.

    The name of a nested field is dotted.

    >>> line = b'{"trace_id": "a7", "metadata": {"run": 3}, "messages": []}'
    >>> fields_of_line(line, ["trace_id", "metadata.run"])
    {'trace_id': 'a7', 'metadata.run': 3}
    """
    try:
        record = _decode(line)
        found = {name: _value_in(record, name) for name in names}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}  # the fault is reported when the record is read
    return {name: value for name, value in found.items() if value not in (None, "")}


def _value_in(record: dict[str, msgspec.Raw], name: str) -> object:
    value = msgspec.json.decode(record[name]) if name in record else None
    cut = name.find(".")
    while value in (None, "") and cut >= 0:  # a key may have dots in it itself
        if name[:cut] in record:
            rest = name[cut + 1 :]
            value = fields_of_line(record[name[:cut]], [rest]).get(rest)
        cut = name.find(".", cut + 1)
    return value


def group_name(value: object, name: str) -> str:
    """Return the name of a group from the value of its field.

    Raises:
        UsageError: the value is not a text or a whole number.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    what = f"{name} is {type(value).__name__} in a record"
    fix = "name the field that says which records belong together"
    raise UsageError("--group-by", what, "a text or a whole number", fix)


def one_field(counts: Mapping[str, int]) -> str:
    """Return the field that groups the records, by `auto`; `NONE` if no record has one.

    `counts` has the number of records with each field that was looked for.

    Raises:
        UsageError: records have several of the fields.
    """
    found = {name: count for name, count in counts.items() if count}
    if len(found) > 1:
        listed = " and ".join(f"{name} in {count:,}" for name, count in found.items())
        choice = " or ".join(f"--group-by {name}" for name in found)
        what = f"records have several fields that may group them: {listed}"
        raise UsageError("--group-by auto", what, "one", f"pass {choice}")
    return next(iter(found), NONE)


class Group(Struct, frozen=True):
    """Records that belong together.

    Attributes:
        id: the value of the field, or the name of the file; empty for a record without the field.
        start: its first entry, in the part of the index that was read.
        records: in the order of the inputs; must be read before the next group is.
        again: reads the record at a position among the entries once more.
        is_session: whether the records are the lines of a session file.
    """

    id: str
    start: int
    records: Iterator[Record]
    again: Callable[[int], Record]
    is_session: bool = False


def read_entries(index: Place, start: int, stop: int, dtype: np.dtype[Any] = ENTRY) -> NDArray[Any]:
    """Read the entries from `start` to `stop` of an index, which are of the type `dtype`.

    Raises:
        StorageError: the index cannot be read, or ends before `stop`.
    """
    size = (stop - start) * dtype.itemsize
    with open_file(index, start=start * dtype.itemsize) as file:
        content = bytes(file.read(size))
    if len(content) != size:
        raise StorageError(
            public_name(index), "it ends too early", "the index of the run", "pack again"
        )
    return np.frombuffer(content, dtype)


class Groups(Struct, frozen=True):
    """The groups of a part of an index, which are read one at a time.

    The entries are those of whole groups; `field` may be `FILE` or `NONE`.
    """

    entries: Entries
    sources: Sequence[Source]
    field: str

    def __iter__(self) -> Iterator[Group]:
        """Read the records of each group in turn."""
        entries, sources, field = self.entries, self.sources, self.field
        fields = [] if field in {FILE, NONE} else [field]
        for start, first, records in by_group(entries, sources):
            named = sources[int(entries["file"][start])].name if field == FILE else ""
            for value in fields_of_line(line_of(first), fields).values() if fields else ():
                named = group_name(value, field)
            yield Group(named, start, records, self.record, field == FILE)

    def record(self, position: int) -> Record:
        """Read the record at a position among the entries."""
        with ExitStack() as opened:
            return next(look_up(self.entries[position : position + 1], self.sources, opened))


def line_of(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return record.line if record.row is None else json.dumps(record.row).encode()
