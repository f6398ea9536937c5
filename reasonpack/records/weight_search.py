"""An input file → whether a record in it has a weight other than 0 and 1.

    bytes ── they contain "weight": 0.5 ──→ no: no record has one
                                       └──→ yes: such lines are decoded, up to the first that has

The column of weights is planned before any record is read, and a file is read for its hash anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonpack.errors import RecordError
from reasonpack.records.row_files import arrow_batches, is_text, opened_rows
from reasonpack.records.strict_json import decode
from reasonpack.records.unit import Unit, blocks_of, read_records
from reasonpack.storage.place import Place
from reasonpack.storage.read import Container, open_bytes

WEIGHTS = ("weight", "loss_weight", "loss_multiplier")
"""Names of the flags of a message or a record that may be a number other than 0 and 1."""
_KEYS = tuple(
    re.compile(name + rb'\\*"\s*:(?!\s*(?:[01](?:\.0+)?|true|false|null)\s*[,}\]])')
    for name in (b"weight", b"multiplier")  # a pattern that begins with letters is found fast
)
_SEAM = 256
"""Bytes at the end of a block that are searched together with the next one."""


def is_weight(value: object) -> bool:
    """Return whether a value is a weight (a number other than 0 and 1) and not a flag."""
    return isinstance(value, int | float) and value not in (0, 1)


class Search:
    """Searches the bytes of JSON, block by block, for such a weight; `found` may be a false alarm.

    >>> search = Search()
    >>> search.add(b'{"weight": 1, "loss_wei')
    >>> search.found, search.add(b'ght" :  0.5}'), search.found
    (False, None, True)
    """

    def __init__(self) -> None:
        self.found = False
        self._end = b""

    def add(self, block: bytes) -> None:
        """Search the next block."""
        seam = self._end + block[:_SEAM]
        self.found = self.found or _has_key(seam) or _has_key(block)
        self._end = block[-_SEAM:]


def _has_key(text: bytes) -> bool:
    return any(key.search(text) for key in _KEYS)


def is_weighted(place: Place, kind: Container, units: Iterable[Unit], *, suspected: bool) -> bool:
    """Return whether a record of a file, or a message in one, has a weight other than 0 and 1.

    `suspected` says whether `Search` found one in the bytes of a file that is not compressed.
    """
    if kind in {"parquet", "arrow"}:
        return _rows_have_weight(place, kind)
    if kind in {"gzip", "zstd"}:
        search = Search()
        with open_bytes(place, kind) as file:
            for block in blocks_of(file):
                search.add(block)
        suspected = search.found
    records = (record for unit in units for record in read_records(unit, place))
    return suspected and any(_line_has_weight(record.line) for record in records)


def _line_has_weight(line: bytes) -> bool:
    try:
        return _has_key(line + b"\n") and _record_has_weight(decode(line))
    except RecordError:
        return False  # reported when the record is packed


def _record_has_weight(record: object) -> bool:
    """Return whether a record, or an object in one of its lists or JSON texts, has a weight."""
    if not isinstance(record, dict):
        return False
    objects = [record]
    for value in record.values():
        if isinstance(value, str) and value.lstrip().startswith("["):
            with suppress(RecordError):
                value = decode(value.encode())  # noqa: PLW2901 (the list that it is)
        if isinstance(value, list):
            objects += [each for each in value if isinstance(each, dict)]
    return any(is_weight(each.get(name)) for each in objects for name in WEIGHTS)


def _rows_have_weight(place: Place, kind: Container) -> bool:
    with opened_rows(place, kind) as source:
        if kind == "arrow":
            return any(map(_batch_has_weight, arrow_batches(source)))
        with pq.ParquetFile(source, pre_buffer=False) as file:
            names = [field.name for field in file.schema_arrow if _may_hold(field)]
            batches = file.iter_batches(1024, columns=names, use_threads=False)
            return bool(names) and any(map(_batch_has_weight, batches))


def _may_hold(field: pa.Field) -> bool:
    """Return whether a column may hold weights, by its name, its structs, or as JSON text."""
    if _is_list_of_objects(field.type):
        return any(each.name in WEIGHTS for each in field.type.value_type)
    return field.name in WEIGHTS or pa.types.is_dictionary(field.type) or is_text(field.type)


def _is_list_of_objects(type_: pa.DataType) -> bool:
    lists = pa.ListType | pa.LargeListType | pa.FixedSizeListType
    return isinstance(type_, lists) and pa.types.is_struct(type_.value_type)


def _batch_has_weight(batch: pa.RecordBatch) -> bool:
    return any(map(_column_has_weight, batch.columns, batch.schema.names))


def _column_has_weight(column: pa.Array, name: str) -> bool:
    """Return whether the column `name`, its structs or the JSON texts in it have such a weight."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    type_ = column.type
    if _is_list_of_objects(type_):
        values = column.flatten()
        named = (each for each in WEIGHTS if values.type.get_field_index(each) >= 0)
        return any(_column_has_weight(values.field(each), each) for each in named)
    if name in WEIGHTS and (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        return not np.isin(numbers, (0, 1)).all()
    if name in WEIGHTS or not is_text(type_):
        return False
    return any(map(_text_has_weight, column.cast(pa.binary()).to_pylist()))


def _text_has_weight(text: bytes | None) -> bool:
    text = text or b""
    try:
        return _has_key(text + b"\n") and _record_has_weight({"": decode(text)})
    except RecordError:
        return False
