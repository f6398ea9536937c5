"""Shards hold what putting samples together by hand gives, and are whole or refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.choices import ShardFormat
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError
from reasonpack.rows import schema as schemas
from reasonpack.rows import shard
from reasonpack.rows import table as table_module
from reasonpack.rows.sample import Sample, Segments
from reasonpack.rows.schema import COLUMNS, FORMAT_VERSION
from reasonpack.rows.table import row_groups, rows_to_table

FORMATS: tuple[ShardFormat, ...] = get_args(ShardFormat)
Row = dict[str, Any]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any numbers in arrays that fit together; that they make a forest is the layout's business."""
    length = draw(st.integers(1, 6))
    number = st.integers(0, 2**31 - 1)
    ids = draw(st.lists(number, min_size=length, max_size=length))
    start = [0, *(at for at in range(1, length) if draw(st.booleans()))]
    count = len(start)

    def per_segment(values: st.SearchStrategy[int], dtype: type) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    return Sample(
        id=draw(st.text(max_size=4)),
        input_ids=np.array(ids, np.int32),
        position_ids=np.array(draw(st.permutations(range(length))), np.int32),
        labels=np.array([draw(st.sampled_from([token, -100])) for token in ids], np.int32),
        segments=Segments(
            start=np.array(start, np.int32),
            visible_until=per_segment(st.integers(1, length), np.int32),
            kind=per_segment(st.integers(0, 3), np.uint8),
            message=per_segment(st.integers(-1, 9), np.int32),
        ),
    )


@st.composite
def packings(draw: st.DrawFn) -> tuple[list[Sample], list[list[int]]]:
    made = draw(st.lists(samples(), max_size=6))
    rows: list[list[int]] = []
    for index in draw(st.permutations(range(len(made)))):
        if not rows or draw(st.booleans()):
            rows.append([])
        rows[-1].append(index)
    return made, rows


def by_hand(made: Sequence[Sample], members: Sequence[int]) -> Row:
    """One row with plain lists."""
    row: Row = {name: [] for name, _ in COLUMNS}
    row["length"] = 0
    for index in members:
        sample, offset = made[index], row["length"]
        table = sample.segments
        row["input_ids"] += sample.input_ids.tolist()
        row["position_ids"] += sample.position_ids.tolist()
        row["labels"] += sample.labels.tolist()
        row["segment_start"] += [offset + at for at in table.start.tolist()]
        row["segment_visible_until"] += [offset + at for at in table.visible_until.tolist()]
        row["segment_kind"] += table.kind.tolist()
        row["segment_message"] += table.message.tolist()
        row["sample_start"].append(offset)
        row["sample_id"].append(sample.id)
        row["length"] += len(sample.input_ids)
    return row


def plain_sample(length: int, *, number: int = 0) -> Sample:
    """Tokens `number` … with one segment."""
    one = np.ones(1, np.int32)
    return Sample(
        id=f"sample {number}",
        input_ids=np.arange(number, number + length, dtype=np.int32),
        position_ids=np.arange(length, dtype=np.int32),
        labels=np.full(length, -100, np.int32),
        segments=Segments(one * 0, one * length, np.zeros(1, np.uint8), one * 0),
    )


def plain_groups(lengths: Sequence[int]) -> list[pa.Table]:
    """A row for each length, in groups."""
    made = [plain_sample(length, number=number) for number, length in enumerate(lengths)]
    return list(row_groups(made, [[index] for index in range(len(made))], schemas.schema()))


def plain_table(lengths: Sequence[int]) -> pa.Table:
    """A row for each length."""
    groups = plain_groups(lengths)
    return pa.concat_tables(groups).combine_chunks() if groups else schemas.schema().empty_table()


def write(
    *groups: pa.Table, path: Path, format_: ShardFormat, compression: str | None = None
) -> bytes:
    schema = groups[0].schema if groups else schemas.schema()
    with path.open("wb") as file:
        shard.write_shard(groups, file, schema, format_=format_, compression=compression)
    return path.read_bytes()


@pytest.fixture(params=FORMATS)
def format_(request: pytest.FixtureRequest) -> ShardFormat:
    chosen: ShardFormat = request.param
    return chosen


@pytest.fixture
def path(format_: ShardFormat, tmp_path: Path) -> Path:
    return tmp_path / f"shard.{format_}"


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(table_module, "TOKENS_PER_GROUP", 10)


# --- rows ----------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(packings())
def test_rows_are_those_put_together_by_hand(case: tuple[list[Sample], list[list[int]]]) -> None:
    made, rows = case
    table = rows_to_table(made, rows, schemas.schema())
    table.validate(full=True)
    assert table.to_pylist() == [by_hand(made, members) for members in rows]


@given(packings())
def test_packing_only_adds_offsets(case: tuple[list[Sample], list[list[int]]]) -> None:
    """Each sample's part of its row, less its start, is the row of that sample alone."""
    made, rows = case
    packed = rows_to_table(made, rows, schemas.schema()).to_pylist()
    for row, members in zip(packed, rows, strict=True):
        tokens = [*row["sample_start"], row["length"]]
        for place, index in enumerate(members):
            (alone,) = rows_to_table(made, [[index]], schemas.schema()).to_pylist()
            begin, end = tokens[place : place + 2]
            segments = [at for at, start in enumerate(row["segment_start"]) if begin <= start < end]
            for name in ("input_ids", "position_ids", "labels"):
                assert row[name][begin:end] == alone[name]
            for name in ("segment_kind", "segment_message"):
                assert [row[name][at] for at in segments] == alone[name]
            for name in ("segment_start", "segment_visible_until"):
                assert [row[name][at] - begin for at in segments] == alone[name]


def test_columns_and_nullability() -> None:
    made = schemas.schema({"layout": "onepass"})
    assert made.names == [name for name, _ in COLUMNS]
    assert not any(field.nullable for field in made)
    lists = [field.type for field in made if pa.types.is_list(field.type)]
    assert len(lists) == len(COLUMNS) - 1
    assert not any(type_.value_field.nullable for type_ in lists)
    assert plain_table([2, 3]).schema == made


def test_no_rows() -> None:
    table = plain_table([])
    assert (table.num_rows, table.schema) == (0, schemas.schema())


# --- files ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(case=packings(), compression=st.sampled_from(["zstd", "lz4", None]))
@pytest.mark.parametrize("chosen", FORMATS)
def test_what_is_written_is_read(
    chosen: ShardFormat,
    case: tuple[list[Sample], list[list[int]]],
    compression: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    table = rows_to_table(*case, schemas.schema({"layout": "onepass", "more": "ü"}))
    path = tmp_path_factory.getbasetemp() / f"shard.{chosen}"
    write(table, path=path, format_=chosen, compression=compression)
    schema = read_schema(path)
    assert schema.equals(table.schema, check_metadata=True)
    assert pa.Table.from_batches(read_shard(path), schema).equals(table)


def read_schema(path: Path) -> pa.Schema:
    """The schema as Arrow itself reads it."""
    if path.suffix == ".parquet":
        return pq.read_schema(path)
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        return stream.schema


def test_both_formats_hold_the_same_table(tmp_path: Path) -> None:
    table = plain_table([3, 1, 4])
    tables = []
    for chosen in FORMATS:
        write(table, path=tmp_path / f"shard.{chosen}", format_=chosen, compression="zstd")
        tables.append(pa.Table.from_batches(read_shard(tmp_path / f"shard.{chosen}")))
    assert tables[0].equals(tables[1], check_metadata=True)
    assert tables[0].equals(table, check_metadata=True)


def test_metadata(format_: ShardFormat, path: Path) -> None:
    given_ = {"layout": "onepass", "tokenizer_sha256": "ab", "template_sha256": "cd"}
    made = [plain_sample(2)]
    write(rows_to_table(made, [[0]], schemas.schema(given_)), path=path, format_=format_)
    assert read_schema(path).metadata == {
        b"reasonpack.format_version": FORMAT_VERSION.encode(),
        b"reasonpack.layout": b"onepass",
        b"reasonpack.tokenizer_sha256": b"ab",
        b"reasonpack.template_sha256": b"cd",
    }


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_the_same_rows_give_the_same_bytes(
    format_: ShardFormat, path: Path, compression: str | None
) -> None:
    lengths = [1 + number % 7 for number in range(500)]
    first = write(plain_table(lengths), path=path, format_=format_, compression=compression)
    assert write(plain_table(lengths), path=path, format_=format_, compression=compression) == first


def test_an_empty_shard_is_whole(format_: ShardFormat, path: Path) -> None:
    write(plain_table([]), path=path, format_=format_)
    assert list(read_shard(path)) == []
    assert read_schema(path) == schemas.schema()


# --- groups --------------------------------------------------------------------------------------


def group_lengths(path: Path) -> list[list[int]]:
    """The row lengths in each row group, or in each record batch."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
        return [group.column("length").to_pylist() for group in groups]
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        return [batch.column("length").to_pylist() for batch in stream]


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([1, 1, 1, 1, 1, 1, 1], [[1, 1, 1], [1, 1, 1], [1]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([9, 2, 9], [[9], [2], [9]]),
        ([10, 10], [[10], [10]]),
        ([12, 30, 1, 1], [[12], [30], [1, 1]]),  # one row may be longer than a group
        ([1, 1, 1], [[1, 1, 1]]),
        ([], []),
    ],
)
def test_groups_are_cut_by_rows_and_by_tokens(
    format_: ShardFormat, path: Path, lengths: list[int], groups: list[list[int]]
) -> None:
    table = plain_table(lengths)
    write(*plain_groups(lengths), path=path, format_=format_)
    assert group_lengths(path) == groups
    assert pa.Table.from_batches(read_shard(path), table.schema).equals(table)


def test_the_limits_are_those_that_the_format_names() -> None:
    assert (table_module.ROWS_PER_GROUP, table_module.TOKENS_PER_GROUP) == (1_000, 4 << 20)


PROSE_ENCODINGS = {
    **dict.fromkeys(("input_ids", "labels"), "BYTE_STREAM_SPLIT"),
    **dict.fromkeys(
        ("position_ids", "segment_start", "segment_visible_until", "segment_message"),
        "DELTA_BINARY_PACKED",
    ),
}
"""What FORMAT.md says; the others are free, but pinned too."""


def test_parquet_encodings_are_the_pinned_ones(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    write(plain_table([5, 3]), path=path, format_="parquet", compression="zstd")
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    assert {chunk.path_in_schema for chunk in chunks} == set(shard.ENCODINGS)
    for chunk in chunks:
        name = chunk.path_in_schema.partition(".")[0]
        expected = PROSE_ENCODINGS.get(name, shard.ENCODINGS[chunk.path_in_schema])
        assert expected in chunk.encodings, name
        assert chunk.compression == "ZSTD"
        assert not chunk.has_dictionary_page


# --- versions ------------------------------------------------------------------------------------


def with_version(version: str | None) -> pa.Table:
    metadata = None if version is None else {"reasonpack.format_version": version}
    return plain_table([2]).replace_schema_metadata(metadata)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.99"])
def test_a_higher_minor_version_is_read(format_: ShardFormat, path: Path, version: str) -> None:
    table = with_version(version)
    write(table, path=path, format_=format_)
    assert pa.Table.from_batches(read_shard(path)).equals(table)


def test_columns_of_a_higher_minor_version_are_kept(format_: ShardFormat, path: Path) -> None:
    table = with_version("1.3").append_column("colour", pa.array(["red"]))
    write(table, path=path, format_=format_)
    assert pa.Table.from_batches(read_shard(path)).column("colour").to_pylist() == ["red"]


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "", None])
def test_an_unknown_major_version_is_refused(
    format_: ShardFormat, path: Path, version: str | None
) -> None:
    write(with_version(version), path=path, format_=format_)
    with pytest.raises(FormatError, match=r"format version '.*', expected 1\.x") as caught:
        next(read_shard(path))
    assert str(caught.value).startswith(str(path))


# --- damage --------------------------------------------------------------------------------------


def ends(data: bytes, format_: ShardFormat) -> Iterator[int]:
    """Where to cut: near the ends and the middle, and where a message of Arrow's ends."""
    middle = len(data) // 2
    yield from (*range(16), *range(middle, middle + 16), *range(len(data) - 16, len(data)))
    if format_ == "arrow":
        source = io.BytesIO(data)
        for message in pa.ipc.MessageReader.open_stream(source):
            assert message
            yield source.tell()


@pytest.mark.usefixtures("small_groups")
def test_a_shard_cut_off_anywhere_is_refused(format_: ShardFormat, path: Path) -> None:
    data = write(*plain_groups([4, 4, 4, 4, 4]), path=path, format_=format_)
    for end in ends(data, format_):
        path.write_bytes(data[:end])
        with pytest.raises(FormatError, match="expected a whole shard") as caught:
            list(read_shard(path))
        assert str(caught.value).startswith(str(path))


def test_what_is_no_shard_is_refused(format_: ShardFormat, path: Path) -> None:
    for content in (b"", b"PAR1", b"ARROW1\0\0", b"{}\n" * 100, bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="expected a whole shard"):
            list(read_shard(path))


def test_a_shard_in_the_other_format_is_refused(tmp_path: Path) -> None:
    write(plain_table([2]), path=tmp_path / "a.parquet", format_="arrow")
    write(plain_table([2]), path=tmp_path / "a.arrow", format_="parquet")
    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(FormatError):
            list(read_shard(tmp_path / name))


def test_garbled_bytes_are_refused_or_read(format_: ShardFormat, path: Path) -> None:
    """No error but FormatError comes out; it is the manifest's hash that sees every flip."""
    data = write(plain_table([4] * 20), path=path, format_=format_, compression="zstd")
    random = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        garbled = bytearray(data)
        garbled[random.integers(len(data))] ^= 1 << int(random.integers(8))
        path.write_bytes(garbled)
        try:
            list(read_shard(path))
        except FormatError:
            refused += 1
    assert refused > 100


def test_a_batch_outlives_its_file(format_: ShardFormat, path: Path) -> None:
    table = plain_table([4, 4])
    write(table, path=path, format_=format_)
    batches = list(read_shard(path))
    path.unlink()
    assert pa.Table.from_batches(batches).equals(table)


def test_offsets_out_of_bounds_are_refused(tmp_path: Path) -> None:
    """Reading the values of such a batch would end the process; Parquet stores no offsets."""
    path = tmp_path / "shard.arrow"
    data = bytearray(write(plain_table([40] * 50), path=path, format_="arrow"))
    offsets = np.arange(0, 51 * 40, 40, dtype=np.int32).tobytes()
    data[data.index(offsets) + 4 * 25 + 3] = 0x70
    path.write_bytes(data)
    with pytest.raises(FormatError, match="expected a whole shard"):
        list(read_shard(path))


def test_column_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    data = write(plain_table([4]), path=path, format_="parquet")
    path.write_bytes(data.replace(b"labels", b"\xffabels"))
    with pytest.raises(FormatError, match="expected a whole shard"):
        list(read_shard(path))
