"""Units tile the input, and their records are those of the whole file, whatever a unit's size."""

from __future__ import annotations

import gzip
import itertools
import math
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planned import BOM, by_hand, planned, records, set_block, texts, write_rows

from reasonpack.errors import StorageError
from reasonpack.records import plan as plan_module
from reasonpack.records.plan import divide, is_settled, plan, vouches
from reasonpack.records.unit import Unit
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Stamp
from tests.changed import replace


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_block(monkeypatch, size=8)


# --- plain files ---------------------------------------------------------------------------------


@settings(max_examples=150)
@given(data=texts(), unit_bytes=st.integers(1, 40), block=st.integers(1, 20))
@example(data=b"", unit_bytes=1, block=1)
@example(data=BOM, unit_bytes=1, block=1)
@example(data=b"{}\n" + BOM + b"{}\n", unit_bytes=1, block=1)
@example(data=BOM + BOM + b"{}", unit_bytes=1, block=1)
@example(data=b"{}\r\n\r\n{}", unit_bytes=1, block=3)
def test_records_do_not_depend_on_units(
    folder: Path, data: bytes, unit_bytes: int, block: int
) -> None:
    path = folder / "chats.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=block)
        assert records(planned(path, unit_bytes=unit_bytes), path) == list(by_hand(data))


def check_tiles(units: list[Unit], data: bytes, *, unit_bytes: int, block: int) -> None:
    """Raise AssertionError unless the units tile the file at line ends and say where they are."""
    bounds = [0, *(unit.stop for unit in units)]
    assert [unit.start for unit in units] == bounds[:-1]
    assert bounds[-1] == len(data)
    assert all(data[stop - 1 : stop] == b"\n" for stop in bounds[1:-1])
    assert all(unit.first_line == 1 + data[: unit.start].count(b"\n") for unit in units)
    assert [unit.input_bytes for unit in units] == [unit.stop - unit.start for unit in units]
    assert [unit.number for unit in units] == list(range(len(units)))
    longest = max(map(len, data.split(b"\n"))) + 1
    count = max(1, -(-len(data) // unit_bytes))
    share = len(data) / count
    assert all(unit.input_bytes <= share + longest + 2 * block for unit in units)
    assert len(units) == 1 or all(unit.input_bytes for unit in units)


@settings(max_examples=150)
@given(
    data=texts(),
    unit_bytes=st.integers(1, 40),
    block=st.integers(1, 20),
    most=st.integers(1, 4),
)
def test_units_tile_the_file_at_line_ends_and_parts_tile_units(
    folder: Path, data: bytes, unit_bytes: int, block: int, most: int
) -> None:
    path = folder / "chats.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=block)
        units = planned(path, unit_bytes=unit_bytes)
        parts = [divide(unit, path, most) for unit in units]
    assert units
    check_tiles(units, data, unit_bytes=unit_bytes, block=block)
    assert len(units) <= max(1, math.ceil(len(data) / unit_bytes))
    for unit, own in zip(units, parts, strict=True):
        assert 1 <= len(own) <= most
        assert records(own, path) == records([unit], path)
        assert (own[0].start, own[-1].stop) == (unit.start, unit.stop)


@settings(deadline=None, max_examples=100)
@given(data=texts(), lines=st.integers(1, 5), block=st.integers(1, 20))
@example(data=b"\n" * 99, lines=5, block=1)
def test_a_unit_has_not_many_more_lines_than_it_may(
    folder: Path, data: bytes, lines: int, block: int
) -> None:
    """A worker holds something for each line, however short it is."""
    path = folder / "chats.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=block)
        patch.setattr("reasonpack.records.plan.UNIT_LINES", lines)
        units = planned(path, unit_bytes=1000)
    check_tiles(units, data, unit_bytes=1000, block=block)
    counts = [data[unit.start : unit.stop].count(b"\n") for unit in units]
    assert all(count < lines + block for count in counts)


def test_the_check_catches_units_that_do_not_tile(tmp_path: Path) -> None:
    data = b'{"id": 1}\n' * 6
    (tmp_path / "chats.jsonl").write_bytes(data)
    units = planned(tmp_path / "chats.jsonl", unit_bytes=20)
    assert len(units) == 3

    def moved(**change: int) -> list[Unit]:
        fields = {name: getattr(units[1], name) for name in Unit.__slots__}
        return [units[0], Unit(**{**fields, **change}), units[2]]

    check_tiles(units, data, unit_bytes=20, block=8)
    wrong = [
        units[:2],
        units[1:],
        [units[0], units[2]],
        moved(start=units[1].start + 1),
        moved(stop=units[1].stop - 10, input_bytes=units[1].input_bytes - 10),
        moved(first_line=units[1].first_line + 1),
        moved(number=0),
    ]
    for planted in wrong:
        with pytest.raises(AssertionError):
            check_tiles(planted, data, unit_bytes=20, block=8)


def test_the_units_of_a_file_are_as_large_as_each_other(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b'{"id": 1}\n' * 700)
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=16)
        units = planned(path, unit_bytes=3200)
    assert [round(unit.input_bytes, -2) for unit in units] == [2300, 2300, 2300]
    path = tmp_path / "chats.parquet"
    write_rows(path, [{"id": number, "prompt": "x" * 50} for number in range(70)], group=1)
    group = pq.read_metadata(path).row_group(0).total_byte_size
    units = planned(path, unit_bytes=32 * group)
    assert {unit.stop - unit.start for unit in units} <= {23, 24}


@given(size=st.integers(0, 10**6), unit_bytes=st.integers(1, 10**6))
def test_shares_are_few_and_equal(size: int, unit_bytes: int) -> None:
    ends = plan_module._ends(size, unit_bytes)
    shares = [stop - start for start, stop in itertools.pairwise([0, *ends])]
    assert ends[-1] == size
    assert max(shares) - min(shares) <= 1
    assert max(shares) <= unit_bytes
    assert len(shares) == max(1, math.ceil(size / unit_bytes))


def test_a_byte_order_mark_is_dropped_at_the_start_of_the_file_only(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(BOM + b"{}\n" + BOM + b"{}\n" + BOM)
    for unit_bytes in (1, 1000):
        found = records(planned(path, unit_bytes=unit_bytes), path)
        assert [record.line for record in found] == [b"{}", BOM + b"{}", BOM]
        assert [record.where for record in found] == ["chats:1", "chats:2", "chats:3"]


def test_line_ends_of_both_systems_and_none_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"1\r\n\r\n2\n\n \t\n3")
    assert [
        (record.where, record.line) for record in records(planned(path, unit_bytes=4), path)
    ] == [
        ("chats:1", b"1"),
        ("chats:3", b"2"),
        ("chats:6", b"3"),
    ]


def test_an_empty_file_is_one_empty_unit(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").touch()
    (unit,) = planned(tmp_path / "chats.jsonl", unit_bytes=10)
    assert (unit.start, unit.stop, unit.first_line, unit.input_bytes) == (0, 0, 1, 0)
    assert records([unit], tmp_path / "chats.jsonl") == []


# --- several files -------------------------------------------------------------------------------


def test_files_are_planned_in_order_each_from_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(BOM + b"1\n2\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(BOM + b"3\n"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jsonl").write_bytes(b"4\n5")
    places = expand_inputs([str(tmp_path)])
    files = [(place, Path(place).name) for place in places]
    inputs, units = plan(files, unit_bytes=1)
    assert [input_.name for input_ in inputs] == ["a.jsonl.gz", "b.jsonl", "c.jsonl"]
    assert [unit.number for unit in units] == list(range(len(units)))
    assert [(record.where, record.line) for record in records(units, *places)] == [
        ("a.jsonl.gz:1", b"3"),
        ("b.jsonl:1", b"1"),
        ("b.jsonl:2", b"2"),
        ("c.jsonl:1", b"4"),
        ("c.jsonl:2", b"5"),
    ]


def test_no_files_no_units() -> None:
    assert plan([]) == ([], [])


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"1\n")
    units = planned(path, unit_bytes=10)
    path.unlink()
    with pytest.raises(StorageError, match="No such file"):
        records(units, path)
    with pytest.raises(StorageError, match="No such file"):
        planned(path, unit_bytes=10)


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"bytes": 2}, False), ({"modified_ns": 3}, False), ({"changed_ns": 4}, False),
     ({"inode": 5}, False), ({"version": "b"}, False)],
)  # fmt: skip
def test_a_stamp_vouches_for_what_has_the_same_in_all(change: dict[str, Any], same: bool) -> None:
    then = Stamp(1, 2, 3, 4, "a")
    assert vouches(then, replace(then, **change)) is same
    assert not vouches(None, then)


def test_only_a_stamp_that_has_settled_is_kept() -> None:
    now, hour = time.time_ns(), 3600 * 10**9
    assert is_settled(Stamp(1, now - hour, now - hour, 4))
    assert not is_settled(Stamp(1, now, now - hour, 4))
    assert not is_settled(Stamp(1, now - hour, now, 4))
    assert not is_settled(Stamp(1, now + hour, now - hour, 4))
    assert not is_settled(Stamp(1, now - hour))  # an object without a version
    assert is_settled(Stamp(1, now, version="a"))
