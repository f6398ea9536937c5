"""The records of a unit, from plain and compressed files and from Parquet, or a refusal."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planned import by_hand, planned, records, set_block, texts, write_rows

from reasonpack.errors import StorageError


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return compressed


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}


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
