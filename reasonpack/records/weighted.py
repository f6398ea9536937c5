"""An input file → whether a record in it has a weight other than 0 and 1.

    bytes ── "weight": 0.5 stands in them ──→ no: none has
                                         └──→ yes: those records are read, up to the first that has

The column of weights is planned before any record is read, and a file is read for its hash anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import decode
from reasonpack.records.unit import Unit, arrow_batches, blocks_of, opened_rows, read_records
from reasonpack.storage.place import Place
from reasonpack.storage.read import Container, open_bytes

WEIGHTS = ("weight", "loss_weight")
"""Names of the flags, of a message and of a record, that may be a number other than 0 and 1."""
_WORD = b"weight"
_KEY = re.compile(rb'weight\\*"\s*:(?!\s*(?:[01](?:\.0+)?|true|false|null)\s*[,}\]])')
_SEAM = 256
"""Bytes at the end of a block that are looked at together with the next one."""


def is_weight(value: object) -> bool:
    """Tell whether a value is a weight, and no flag."""
    return isinstance(value, int | float) and value not in (0, 1)


class Search:
    """Looks for such a weight in the bytes of JSON, block by block, and may find what is none.

    >>> search = Search()
    >>> search.add(b'{"weight": 1, "loss_wei')
    >>> search.found, search.add(b'ght" :  0.5}'), search.found
    (False, None, True)
    """

    def __init__(self) -> None:
        self.found = False
        self._end = b""

    def add(self, block: bytes) -> None:
        """Look at the next block."""
        self.found = self.found or _stands_in(self._end + block[:_SEAM]) or _stands_in(block)
        self._end = block[-_SEAM:]


def _stands_in(text: bytes) -> bool:
    at = text.find(_WORD)
    while at >= 0:
        if _KEY.match(text, at):
            return True
        at = text.find(_WORD, at + 1)
    return False


def is_weighted(place: Place, kind: Container, units: Iterable[Unit], *, suspected: bool) -> bool:
    """Tell whether a record of a file has a weight other than 0 and 1, of its own or a message's.

    `suspected` says whether `Search` found something in a file that is not packed.
    """
    if kind in {"parquet", "arrow"}:
        return _rows_are(place, kind)
    if kind in {"gzip", "zstd"}:
        search = Search()
        with open_bytes(place, kind) as file:
            for block in blocks_of(file):
                search.add(block)
        suspected = search.found
    records = (record for unit in units for record in read_records(unit, place))
    return suspected and any(_line_is(record.line) for record in records)


def _line_is(line: bytes) -> bool:
    try:
        return _stands_in(line + b"\n") and _record_is(decode(line))
    except RecordError:
        return False  # said when it is packed


def _record_is(record: object) -> bool:
    """Tell whether a record has such a weight, or an object in a list of it, be it JSON as text."""
    if not isinstance(record, dict):
        return False
    lists = [record]
    for value in record.values():
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = decode(value.encode())  # noqa: PLW2901 (the list that it is)
            except RecordError:
                continue
        lists += (
            [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
        )
    return any(is_weight(each.get(name)) for each in lists for name in WEIGHTS)


def _rows_are(place: Place, kind: Container) -> bool:
    with opened_rows(place, kind) as source:
        if kind == "arrow":
            return any(map(_batch_is, arrow_batches(source)))
        with pq.ParquetFile(source) as file:
            names = [field.name for field in file.schema_arrow if _may_hold(field)]
            batches = file.iter_batches(1024, columns=names, use_threads=False)
            return bool(names) and any(map(_batch_is, batches))


def _may_hold(field: pa.Field) -> bool:
    """Tell whether a column may have weights: is one, or has messages, be they JSON as text."""
    if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
        return any(each.name in WEIGHTS for each in field.type.value_type)
    return field.name in WEIGHTS or pa.types.is_string(field.type)


def _batch_is(batch: pa.RecordBatch) -> bool:
    return any(map(_column_is, batch.columns, batch.schema.names))


def _column_is(column: pa.Array, name: str) -> bool:
    """Tell whether a column has such a weight; a name of one says that it is one of weights."""
    type_ = column.type
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        values = column.flatten()
        named = (each for each in WEIGHTS if values.type.get_field_index(each) >= 0)
        return any(_column_is(values.field(each), each) for each in named)
    if name in WEIGHTS and (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        return not np.isin(numbers, (0, 1)).all()
    if name in WEIGHTS or not pa.types.is_string(type_):
        return False
    texts = (text for text in column.to_pylist() if text and _stands_in(text.encode() + b"\n"))
    return any(_record_is({name: text}) for text in texts)
