"""Shards of other versions, damaged ones and such of another format: read, or refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from made_samples import (
    plain_groups,
    plain_table,
    write,
)

from reasonpack.choices import ShardFormat
from reasonpack.datasets.shards import open_shard, read_shard
from reasonpack.errors import FormatError


def requiring(requires: str) -> pa.Table:
    table = plain_table([2])
    return table.replace_schema_metadata({**table.schema.metadata, "reasonpack.requires": requires})


@pytest.mark.parametrize("requires", ["step_weights", "step_weights,loss_weights"])
def test_what_is_required_and_not_known_is_refused(
    format_: ShardFormat, path: Path, requires: str
) -> None:
    write(requiring(requires), path=path, format_=format_)
    with pytest.raises(FormatError, match="requires 'step_weights' to be applied, expected some"):
        next(read_shard(path))
    with open_shard(path, unchecked=True) as opened:
        assert len(opened.schema.names) == 10


def test_a_required_column_that_is_missing_is_refused(path: Path, format_: ShardFormat) -> None:
    write(requiring("loss_weights"), path=path, format_=format_)
    with pytest.raises(FormatError, match="loss_weights is missing"):
        next(read_shard(path))


def test_an_optional_column_of_another_type_is_refused(path: Path, format_: ShardFormat) -> None:
    table = plain_table([2])
    write(table.append_column("advantages", table.column("labels")), path=path, format_=format_)
    with pytest.raises(FormatError, match="advantages is list<"):
        next(read_shard(path))


def test_single_rows_of_a_group_are_those_of_the_whole_group(
    path: Path, format_: ShardFormat
) -> None:
    table = plain_table(range(1, 31))
    write(table, path=path, format_=format_)
    with open_shard(path) as opened:
        group, places = opened.read(0), [0, 7, 8, 20, 29]
        rows = list(opened.rows(0, places))
    assert rows == [group.slice(at, 1) for at in places]


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
