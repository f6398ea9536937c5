"""Rows are found over shards, only what is needed is read, and damaged shards are refused."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest
import tokenizers
from two_turns import (
    PLAIN,
    one_turn,
    two_turns,
)

import reasonpack.rows.schema
import reasonpack.rows.table
from reasonpack.choices import ShardFormat


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_rows_count_over_shards_and_row_groups(
    format_: ShardFormat,
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reasonpack.rows.table, "ROWS_PER_GROUP", 2)
    ids = "abcdefgh"
    chats = [[one_turn(tokenizer, id_)] for id_ in ids]
    directory = write(chats[:5], [], chats[5:], format_=format_)
    for number, id_ in enumerate(ids):
        _, by_row, _ = inspect(directory, "--row", number, "--json")
        _, by_id, _ = inspect(directory, "--id", id_, "--json")
        assert by_row == by_id
        found = json.loads(by_row)
        assert (found["row"], found["samples"][0]["id"]) == (number, id_)
        assert found["shard"].startswith(f"data/train-0000{0 if number < 5 else 2}-")


def test_reads_only_what_it_needs(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tokens of the first row group overwritten, ids and other groups still read."""
    monkeypatch.setattr(reasonpack.rows.table, "ROWS_PER_GROUP", 1)
    directory = write([[one_turn(tokenizer, "a")], [two_turns(tokenizer)]])
    shard = directory / "data/train-00000-of-00001.parquet"
    chunk = pq.read_metadata(shard).row_group(0).column(0)
    content = bytearray(shard.read_bytes())
    start = chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    shard.write_bytes(content)
    status, out, err = inspect(directory)
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {shard}: ")
    assert "expected a whole shard. Fix: pack again with --overwrite." in err
    status, out, _ = inspect(directory, "--id", "chat-1")
    assert (status, out) == (0, PLAIN.replace("row 0", "row 1"))


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.parametrize("args", [["--row", 0], ["--id", "a"]])
def test_damaged_shards(
    format_: ShardFormat,
    args: list[object],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
) -> None:
    directory = write([[one_turn(tokenizer, "a")]], format_=format_)
    shard = next((directory / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-200])
    status, out, err = inspect(directory, *args)
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {shard}: ")


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.parametrize("args", [["--row", 0], ["--id", "a"], ["--id", "unknown"]])
def test_shards_of_another_version(
    format_: ShardFormat,
    args: list[object],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reasonpack.rows.schema, "FORMAT_VERSION", "2.0")
        directory = write([[one_turn(tokenizer, "a")]], format_=format_)
    status, _, err = inspect(directory, *args)
    assert (status, "format version '2.0', expected 1.x" in err) == (1, True)
