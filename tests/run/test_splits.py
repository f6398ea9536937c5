"""Shares of the conversations in shards of their own: equal ones together, and nobody moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import OPTIONS, chats, run, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.errors import UsageError
from reasonpack.records.conversation import parse_line
from reasonpack.run import splits
from reasonpack.run.pack import pack_files
from reasonpack.run.ray import pack_table
from tests.changed import replace

GIVEN = ("validation=0.3", "test=0.2")
SPLIT = replace(OPTIONS, split=GIVEN)


def packed(path: Path, lines: bytes, **settings: Any) -> Path:
    path.mkdir()
    (path / "a.jsonl").write_bytes(lines)
    pack_files([str(path / "a.jsonl")], path / "out", SPLIT, run=run(**settings))
    return path / "out"


def ids(directory: Path, split: str) -> set[str]:
    tables = [pq.read_table(path) for path in directory.glob(f"data/{split}-*")]
    return {id_ for table in tables for row in table["sample_id"].to_pylist() for id_ in row}


def test_each_conversation_is_of_one_split(tmp_path: Path) -> None:
    lines = chats(bad=False)
    out = packed(tmp_path / "a", lines)
    found = [ids(out, split) for split in ("train", "validation", "test")]
    assert all(found)
    assert set.union(*found) == {json.loads(line)["id"] for line in lines.splitlines()}
    assert sum(map(len, found)) == len(set.union(*found))
    assert {shard.split for shard in read_manifest(out).shards} == {"train", "validation", "test"}


def test_data_that_is_added_moves_nobody(tmp_path: Path) -> None:
    lines = chats(bad=False)
    before, after = (
        packed(tmp_path / "a", lines),
        packed(tmp_path / "b", chats(9, seed=1, bad=False) + lines),
    )
    for split in ("validation", "test"):
        assert ids(before, split) <= ids(after, split)


def test_equal_conversations_are_of_one_split(tmp_path: Path) -> None:
    again = [
        {**json.loads(line), "id": "again", "x": "y"} for line in chats(bad=False).splitlines()
    ]
    lines = [json.dumps({**each, "id": f"again {at}"}) for at, each in enumerate(again)]
    out = packed(tmp_path / "a", chats(bad=False) + "\n".join(lines).encode())
    for split in ("train", "validation", "test"):
        found = ids(out, split)
        assert {f"again {id_.split()[1]}" for id_ in found if id_.startswith("chat")} <= found


@pytest.mark.long
def test_the_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    lines = chats(bad=False)
    one, two = packed(tmp_path / "a", lines), packed(tmp_path / "b", lines, num_proc=2)
    shards = {path: content for path, content in tree(one).items() if path.startswith("data/")}
    assert shards == {path: content for path, content in tree(two).items() if path in shards}


@pytest.mark.long
@given(st.lists(st.binary(), unique=True, min_size=400, max_size=400))
def test_shares_are_about_what_was_asked_for(keys: list[bytes]) -> None:
    found = [splits.split_of(key, {"validation": 0.3, "test": 0.2}) for key in keys]
    assert 60 < found.count("validation") < 180
    assert 30 < found.count("test") < 130


def test_the_order_of_keys_does_not_count() -> None:
    ask = {"role": "user", "content": "2+2?"}
    call = {"name": "f", "arguments": {"a": 1, "b": 2}}
    answer = {"role": "assistant", "content": "4", "tool_calls": [{"function": call}]}
    other = {**answer, "tool_calls": [{"function": {**call, "arguments": '{"b": 2, "a": 1}'}}]}
    one, two, three = (
        splits.key(parse_line(json.dumps({"messages": [ask, each], **more}).encode(), "x"))
        for each, more in ((answer, {}), (other, {"id": "b"}), (answer, {"tools": [{"name": "f"}]}))
    )
    assert one == two
    assert one != three


@pytest.mark.parametrize(
    "given",
    [
        "train=0.1",
        "a",
        "a=0",
        "a=1",
        "a=x",
        "a=nan",
        "A=0.1",
        "a b=0.1",
        "=0.1",
        "a=0.1 a=0.2",
        "a=0.5 b=0.5",
    ],
)
def test_what_is_no_share_is_refused(given: str, tmp_path: Path) -> None:
    options = replace(OPTIONS, split=tuple(given.split(" ")) if "=" in given else (given,))
    (tmp_path / "a.jsonl").write_bytes(chats(1, bad=False))
    with pytest.raises(UsageError, match=r"^--split: .*write --split validation=0\.02"):
        pack_files([str(tmp_path / "a.jsonl")], tmp_path / "out", options)


def test_a_table_has_no_splits() -> None:
    with pytest.raises(UsageError, match=r"^--split: "):
        pack_table(pa.table({"messages": [[]]}), SPLIT)
