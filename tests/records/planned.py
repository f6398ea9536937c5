"""Files of records, and the units planned for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from reasonpack.records import plan as plan_module
from reasonpack.records import unit as unit_module
from reasonpack.records.formats import foreign
from reasonpack.records.plan import plan
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.storage.place import Place

BOM = b"\xef\xbb\xbf"
PARTS = [
    b"{}",
    b'{"id": 1}',
    b"a long line, longer than a block",
    b"\xff\x00",
    "日本".encode(),
    BOM,
]
ENDS = [b"\n", b"\n", b"\n", b"\r\n", b"\r", b" \t", b"\n\n", b"\n \r\n"]


def texts() -> st.SearchStrategy[bytes]:
    """Lines and line ends in any order: empty lines, lines joined, the last end missing."""
    # The first bytes decide how a file is packed; none of these is magic.
    some = st.lists(st.sampled_from(PARTS + ENDS), max_size=12).map(b"".join)
    return some.filter(lambda data: foreign(data, "") is None)


def set_block(monkeypatch: pytest.MonkeyPatch, *, size: int) -> None:
    monkeypatch.setattr(plan_module, "BLOCK", size)
    monkeypatch.setattr(unit_module, "BLOCK", size)


def planned(path: Path, *, unit_bytes: int) -> list[Unit]:
    return plan([(path, "chats")], unit_bytes=unit_bytes)[1]


def records(units: list[Unit], *places: Place) -> list[Record]:
    return [record for unit in units for record in read_records(unit, places[unit.input])]


def by_hand(data: bytes) -> Iterator[Record]:
    """Split the whole file at its newlines."""
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n"), 1):
        if line.strip():
            yield Record(f"chats:{number}", line.rstrip(b"\r"))


def write_rows(path: Path, rows: list[dict[str, Any]], *, group: int) -> None:
    table = pa.Table.from_pylist(rows, pa.schema([("id", pa.int64()), ("prompt", pa.string())]))
    pq.write_table(table, path, row_group_size=group)
