"""Rows of Parquet and Arrow files are read or refused; bad text refuses its own row only."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changed import replace
from planned import planned, records, write_rows
from runs import SKIPPING, run

from reasonpack.errors import StorageError
from reasonpack.records.row_files import damaged
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

ARROW = [(pa.ipc.new_file, None), (pa.ipc.new_stream, None), (pa.ipc.new_stream, "zstd")]


def write_arrow(path: Path, rows: list[dict[str, object]], form: tuple[Any, str | None]) -> None:
    """Write rows in batches of five."""
    table = pa.Table.from_pylist(rows)
    writer, codec = form
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(str(path), "wb") as file, writer(file, table.schema, options=options) as out:
        out.write_table(table, max_chunksize=5)


@pytest.mark.parametrize("form", ARROW)
def test_an_arrow_file_is_read_in_batches(tmp_path: Path, form: tuple[Any, str | None]) -> None:
    path = tmp_path / "chats.arrow"
    rows: list[dict[str, object]] = [{"id": number, "prompt": "x" * 50} for number in range(23)]
    write_arrow(path, rows, form)
    for unit_bytes, stops in ((1, [1, 2, 3, 4, 5]), (10**6, [5])):
        units = planned(path, unit_bytes=unit_bytes)
        found = records(units, path)
        assert [record.row for record in found] == rows
        assert [record.where for record in found] == [f"chats:{n}" for n in range(1, 24)]
        assert [unit.stop for unit in units] == stops


@pytest.mark.long
@pytest.mark.parametrize("form", ARROW)
def test_a_damaged_arrow_file_is_refused(tmp_path: Path, form: tuple[Any, str | None]) -> None:
    """Also a stream that ends behind one of its batches, and two streams in one file."""
    path = tmp_path / "chats.arrow"
    write_arrow(path, [{"id": number, "prompt": "x"} for number in range(20)], form)
    whole = path.read_bytes()
    two = [] if whole.startswith(b"ARROW1") else [whole + whole]
    for content in (*(whole[:end] for end in range(6, len(whole), 3)), whole[:-8], *two):
        path.write_bytes(content)
        with pytest.raises(StorageError, match="expected a whole Arrow file") as caught:
            records(planned(path, unit_bytes=1), path)
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.long
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_garbled_rows_are_refused_or_read(tmp_path: Path, form: str) -> None:
    """No error but StorageError comes out."""
    path = tmp_path / f"chats.{form}"
    rows: list[dict[str, object]] = [{"id": n, "prompt": "x" * n} for n in range(60)]
    if form == "parquet":
        write_rows(path, rows, group=20)
    else:
        write_arrow(path, rows, ARROW[1])
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


@pytest.mark.parametrize("list_", [pa.list_, pa.large_list])
def test_times_that_python_cannot_hold_are_whole_numbers(list_: Any, tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    message = pa.struct([("role", pa.string()), ("time", pa.timestamp("us", "Mars/Phobos"))])
    messages = pa.array([[{"role": "user", "time": 1 << 62}]], list_(message))
    day = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"messages": messages, "day": day}), path)
    (record,) = records(planned(path, unit_bytes=1), path)
    assert record.row == {"messages": [{"role": "user", "time": 1 << 62}], "day": 2**31 - 1}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"chats.{suffix}"
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    with pytest.raises(StorageError, match="two columns of the name 'prompt'"):
        records(planned(path, unit_bytes=1), path)


GOOD = [{"role": "user", "content": b"2+2?"}, {"role": "assistant", "content": b"4"}]
BAD = [{"role": "user", "content": b"caf\xe9"}, {"role": "assistant", "content": b"4"}]
WRITTEN = json.dumps(BAD, default=lambda text: text.decode("latin1"), ensure_ascii=False)


VIEWS = [(pa.string_view(), pa.binary_view())] if pa.__version__ >= "22" else []


def tables() -> Iterator[tuple[str, str, pa.Array]]:
    """Yield columns of chats, the second with bad text, and the path of the text."""
    stored = pa.struct([("role", pa.string()), ("content", pa.binary())])
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    for name, lists in (
        ("lists", (pa.list_(stored), pa.list_(message))),
        ("large lists", (pa.large_list(stored), pa.large_list(message))),
        ("lists of one size", (pa.list_(stored, 2), pa.list_(message, 2))),
    ):
        chats = pa.array([GOOD, BAD, GOOD], lists[0])
        yield name, "messages[0].content: not UTF-8: byte 0xe9 at byte 4", chats.view(lists[1])
    good = json.dumps(GOOD, default=bytes.decode).encode()
    texts = [good, WRITTEN.encode("latin1"), good]
    for type_, stored in (
        (pa.string(), pa.binary()),
        (pa.large_string(), pa.large_binary()),
        *VIEWS,
    ):
        of_text = pa.array(texts, stored).view(type_)
        yield str(type_), "messages: not UTF-8: byte 0xe9 at byte 34", of_text
        if type_ == pa.string() and hasattr(pa, "json_"):  # since pyarrow 19
            yield "JSON", "messages: not UTF-8", pa.ExtensionArray.from_storage(pa.json_(), of_text)
    coded = pa.array(texts, pa.binary()).dictionary_encode()
    coded = coded.view(pa.dictionary(pa.int32(), pa.string()))
    yield "categories", "messages: not UTF-8: byte 0xe9 at byte 34", coded


COLUMNS = {name: (said, column) for name, said, column in tables()}


@pytest.mark.parametrize("input_format", ["auto", "calls"])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_row_with_text_that_is_not_utf8_is_rejected_alone(
    name: str, suffix: str, input_format: str, tmp_path: Path
) -> None:
    said, column = COLUMNS[name]
    path, output = tmp_path / f"a.{suffix}", tmp_path / "out"
    table = pa.table({"id": ["a", "b", "c"], "messages": column})
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    options = replace(SKIPPING, input_format=input_format)
    manifest = pack_files([str(path)], output, options, run=run())
    assert (manifest.counts.packed, manifest.counts.rejects) == (2, {"encoding": 1})
    (reject,) = map(json.loads, (output / "rejects.jsonl").read_text().splitlines())
    assert reject["where"] == f"{path}:2"
    assert reject["error"].startswith(f"{path}:2: {said}")
    whole = json.loads(base64.b64decode(reject["record_base64"]).decode("latin1"))
    assert whole["messages"] in (json.loads(WRITTEN), WRITTEN)
    found = verify_dataset(str(output), [str(path)])
    assert (found.listed, found.unchecked) == ([], {})


def test_a_type_that_pyarrow_cannot_read_is_no_damage(tmp_path: Path) -> None:
    """As pyarrow 17 says of views, which polars writes."""
    error = pa.ArrowNotImplementedError("Unsupported cast from string_view to binary")
    found = damaged(Path("a.arrow"), "arrow", error)
    assert "install a newer pyarrow" in found.fix
    assert "copy or write it again" in damaged(Path("a.arrow"), "arrow", pa.ArrowInvalid("x")).fix


def test_bad_text_in_a_column_of_no_interest_is_refused(tmp_path: Path) -> None:
    """As it is in a line of JSON."""
    path = tmp_path / "a.parquet"
    note = pa.array([b"\xff", b"x"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": ["a", "b"], "note": note}), path)
    bad, good = records(planned(path, unit_bytes=1), path)
    assert (bad.line, bad.row) == (b'{"prompt": "a", "note": "\xff"}', None)
    assert (good.line, good.row) == (b"", {"prompt": "b", "note": "x"})
