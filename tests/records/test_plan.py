"""Units tile the input, and their records are those of the whole file, whatever a unit's size."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reasonpack.errors import StorageError
from reasonpack.records import plan as plan_module
from reasonpack.records import unit as unit_module
from reasonpack.records.formats import foreign
from reasonpack.records.plan import is_settled, plan, vouches
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, Stamp

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
    return some.filter(lambda data: foreign(data, "", whole=True) is None)


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return compressed


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_block(monkeypatch, size=8)


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


# --- plain files ---------------------------------------------------------------------------------


@settings(max_examples=400)
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


@settings(max_examples=400)
@given(data=texts(), unit_bytes=st.integers(1, 40), block=st.integers(1, 20))
def test_units_tile_the_file_at_line_ends(
    folder: Path, data: bytes, unit_bytes: int, block: int
) -> None:
    path = folder / "chats.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=block)
        units = planned(path, unit_bytes=unit_bytes)
    assert units
    check_tiles(units, data, unit_bytes=unit_bytes, block=block)
    assert len(units) <= max(1, math.ceil(len(data) / unit_bytes))


@settings(deadline=None, max_examples=200)
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


def test_a_unit_is_read_alone_and_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"".join(b'{"id": %d}\r\n' % number for number in range(30)))
    units = planned(path, unit_bytes=50)
    assert len(units) > 5
    backwards = [records([unit], path) for unit in reversed(units)]
    assert [record for each in reversed(backwards) for record in each] == records(units, path)


def test_a_line_longer_than_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_block(monkeypatch, size=1 << 16)
    long = b"x" * (3 << 20)
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"1\n" + long + b"\n2\n")
    found = records(planned(path, unit_bytes=1 << 17), path)
    assert [record.line for record in found] == [b"1", long, b"2"]
    assert [record.where for record in found] == ["chats:1", "chats:2", "chats:3"]


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
    assert vouches(then, dataclasses.replace(then, **change)) is same
    assert not vouches(None, then)


def test_only_a_stamp_that_has_settled_is_kept() -> None:
    now, hour = time.time_ns(), 3600 * 10**9
    assert is_settled(Stamp(1, now - hour, now - hour, 4))
    assert not is_settled(Stamp(1, now, now - hour, 4))
    assert not is_settled(Stamp(1, now - hour, now, 4))
    assert not is_settled(Stamp(1, now + hour, now - hour, 4))
    assert not is_settled(Stamp(1, now - hour))  # an object without a version
    assert is_settled(Stamp(1, now, version="a"))


# --- compressed files ----------------------------------------------------------------------------


@settings(max_examples=150)
@given(data=texts(), cuts=st.lists(st.integers(0, 100), max_size=3), block=st.integers(1, 20))
@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_gives_the_lines_of_the_plain_one(
    kind: str, folder: Path, data: bytes, cuts: list[int], block: int
) -> None:
    """Of one member (frame), or of several, cut anywhere."""
    bounds = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    path = folder / f"chats.{kind}"
    members = [data[a:b] for a, b in itertools.pairwise(bounds)]
    path.write_bytes(b"".join(map(COMPRESS[kind], members)))
    with pytest.MonkeyPatch.context() as patch:
        set_block(patch, size=block)
        (unit,) = planned(path, unit_bytes=1)
        assert records([unit], path) == list(by_hand(data))
    assert (unit.container, unit.start, unit.stop, unit.first_line) == (kind, 0, -1, 1)
    assert unit.input_bytes == path.stat().st_size


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_cut_off_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    whole = COMPRESS[kind](b"".join(b'{"id": %d}\n' % number for number in range(50)))
    path = tmp_path / f"chats.{kind}"
    for end in range(4, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(StorageError, match="cut off or damaged") as caught:
            records(planned(path, unit_bytes=1), path)
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("tail", [b"\0\1" * 100, b"{}\n{}\n{}\n"])
def test_a_compressed_file_with_something_behind_it_is_refused(
    kind: str, tail: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"chats.{kind}"
    path.write_bytes(COMPRESS[kind](b"{}\n") + tail)
    with pytest.raises(StorageError) as caught:
        records(planned(path, unit_bytes=1), path)
    assert str(caught.value).startswith(f"{path}: ")


def test_zeros_behind_the_last_member_of_gzip_are_padding(tmp_path: Path) -> None:
    """As tapes and block devices leave them."""
    path = tmp_path / "chats.gz"
    for zeros in (1, 512, 100_000):
        path.write_bytes(gzip.compress(b"{}\n") + gzip.compress(b"[]\n") + b"\0" * zeros)
        found = records(planned(path, unit_bytes=1), path)
        assert [record.line for record in found] == [b"{}", b"[]"]


def test_a_damaged_gzip_file_says_so(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b'{"id": 1}\n' * 50))
    whole[-6] ^= 1  # in the checksum
    path = tmp_path / "chats.gz"
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="cut off or damaged"):
        records(planned(path, unit_bytes=1), path)


# --- Parquet -------------------------------------------------------------------------------------


def write_rows(path: Path, rows: list[dict[str, Any]], *, group: int) -> None:
    table = pa.Table.from_pylist(rows, pa.schema([("id", pa.int64()), ("prompt", pa.string())]))
    pq.write_table(table, path, row_group_size=group)


@settings(max_examples=60)
@given(
    count=st.integers(0, 40),
    group=st.integers(1, 15),
    unit_bytes=st.integers(1, 2000),
)
@example(count=600, group=1000, unit_bytes=1)  # more than one batch in a group
def test_rows_do_not_depend_on_units(folder: Path, count: int, group: int, unit_bytes: int) -> None:
    prompts = [None if number % 3 else "x" * number for number in range(count)]
    rows = [{"id": number, "prompt": prompt} for number, prompt in enumerate(prompts)]
    path = folder / "chats.parquet"
    write_rows(path, rows, group=group)
    units = planned(path, unit_bytes=unit_bytes)
    found = records(units, path)
    assert [record.row for record in found] == rows
    assert [record.where for record in found] == [f"chats:{n}" for n in range(1, count + 1)]
    assert {record.line for record in found} <= {b""}
    groups = pq.read_metadata(path).num_row_groups
    bounds = [0, *(unit.stop for unit in units)]
    assert ([unit.start for unit in units], bounds[-1]) == (bounds[:-1], groups)
    sizes = [pq.read_metadata(path).row_group(i).total_byte_size for i in range(groups)]
    assert [unit.input_bytes for unit in units] == [
        sum(sizes[unit.start : unit.stop]) for unit in units
    ]
    assert all(sum(sizes[unit.start : unit.stop - 1]) < unit_bytes for unit in units)


def test_a_parquet_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    write_rows(path, [{"id": number, "prompt": "x"} for number in range(20)], group=5)
    whole = path.read_bytes()
    for end in range(4, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(StorageError, match="expected a whole Parquet file") as caught:
            records(planned(path, unit_bytes=1), path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_parquet_file_damaged_behind_its_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    write_rows(path, [{"id": number, "prompt": "x"} for number in range(20)], group=5)
    units = planned(path, unit_bytes=1)
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * 200 + whole[204:])
    with pytest.raises(StorageError, match="expected a whole Parquet file"):
        records(units, path)


def test_garbled_parquet_is_refused_or_read(tmp_path: Path) -> None:
    """No error but StorageError comes out."""
    path = tmp_path / "chats.parquet"
    write_rows(path, [{"id": number, "prompt": "x" * number} for number in range(60)], group=20)
    whole, random = path.read_bytes(), np.random.default_rng(3)
    refused: list[str] = []
    for _ in range(300):
        garbled = bytearray(whole)
        garbled[random.integers(4, len(whole))] ^= 1 << int(random.integers(8))
        path.write_bytes(garbled)
        try:
            records(planned(path, unit_bytes=1), path)
        except StorageError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(text.startswith(f"{path}: ") for text in refused)


def test_a_column_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    write_rows(path, [{"id": 1, "prompt": "x"}], group=5)
    path.write_bytes(path.read_bytes().replace(b"prompt", b"prom\xe5t"))
    with pytest.raises(StorageError, match="expected a whole Parquet file"):
        planned(path, unit_bytes=1)


def test_columns_of_no_interest_do_no_harm(tmp_path: Path) -> None:
    """pandas writes times in nanoseconds, which Python's datetime cannot hold."""
    path = tmp_path / "chats.parquet"
    time = pa.array([1], pa.timestamp("ns"))
    message = pa.struct([("role", pa.string()), ("time", pa.timestamp("ns"))])
    messages = pa.array([[{"role": "user", "time": 2}, None]], pa.list_(message))
    pq.write_table(pa.table({"prompt": ["2+2?"], "time": time, "messages": messages}), path)
    (record,) = records(planned(path, unit_bytes=1), path)
    expected = {"prompt": "2+2?", "time": 1, "messages": [{"role": "user", "time": 2}, None]}
    assert record.row == expected


def test_values_in_parquet_that_python_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    message = pa.struct([("role", pa.string()), ("time", pa.timestamp("us"))])
    messages = pa.array([[{"role": "user", "time": 1 << 62}]], pa.list_(message))
    pq.write_table(pa.table({"messages": messages}), path)
    with pytest.raises(StorageError) as caught:
        records(planned(path, unit_bytes=1), path)
    assert str(path) in str(caught.value)


def test_text_in_parquet_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    offsets, data = pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xfe")
    pq.write_table(pa.table({"prompt": pa.StringArray.from_buffers(1, offsets, data)}), path)
    with pytest.raises(StorageError) as caught:
        records(planned(path, unit_bytes=1), path)
    assert str(path) in str(caught.value)
