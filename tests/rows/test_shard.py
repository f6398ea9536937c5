"""Shards hold what putting samples together by hand gives, and are whole or refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import (
    FORMATS,
    packings,
    plain_sample,
    plain_table,
    read_schema,
    write,
)

from reasonpack.choices import ShardFormat
from reasonpack.datasets.shards import read_shard
from reasonpack.rows import schema as schemas
from reasonpack.rows import shard
from reasonpack.rows.sample import Sample
from reasonpack.rows.table import rows_to_table


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


def test_both_formats_hold_the_same_table(tmp_path: Path) -> None:
    table = plain_table([3, 1, 4])
    tables = []
    for chosen in FORMATS:
        write(table, path=tmp_path / f"shard.{chosen}", format_=chosen, compression="zstd")
        tables.append(pa.Table.from_batches(read_shard(tmp_path / f"shard.{chosen}")))
    assert tables[0].equals(tables[1], check_metadata=True)
    assert tables[0].equals(table, check_metadata=True)


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
    whole = schemas.schema(columns=[name for name, _ in schemas.OPTIONAL])
    made = [plain_sample(5), plain_sample(3)]
    table = rows_to_table(made, [[0], [1]], whole)
    write(table, path=path, format_="parquet", compression="zstd")
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
