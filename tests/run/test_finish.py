"""The end of a run: what stands beside the shards, notes on the inputs, and nothing packed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from again import again
from commanded import Call, write
from runs import agents, chats, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.shards import read_shard
from reasonpack.rows.content_hash import content_hash
from reasonpack.run import parts


@pytest.mark.parametrize("name", ["manifest.json", "rejects.jsonl", "README.md"])
def test_what_is_made_of_receipts_is_made_again(name: str, copy: Path, done: Path) -> None:
    (copy / name).write_bytes(b"{}")
    assert again().packed == []
    assert tree(copy) == tree(done / "out")


def test_a_manifest_is_taken_away_while_a_unit_is_packed_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def looking(*arguments: Any, **more: Any) -> Any:
        seen.append((copy / "manifest.json").exists())
        return whole(*arguments, **more)

    whole = parts.process
    monkeypatch.setattr(parts, "process", looking)
    next(copy.glob("data/*")).unlink()
    again()
    assert seen == [False]


def test_the_manifest_holds_the_hash_of_what_is_read_back(copy: Path) -> None:
    manifest = read_manifest(copy)
    for shard in manifest.shards:
        assert content_hash(read_shard(copy / shard.path)) == shard.content_hash
        path = copy / "again.parquet"
        table = pa.Table.from_batches(list(read_shard(copy / shard.path)))
        pq.write_table(table, path, version="1.0", compression="none", row_group_size=3)
        assert path.read_bytes() != (copy / shard.path).read_bytes()
        assert content_hash(pq.ParquetFile(path).iter_batches()) == shard.content_hash
    joined = "\n".join(shard.content_hash for shard in manifest.shards)
    assert manifest.content_hash == hashlib.sha256(joined.encode()).hexdigest()
    assert np.unique([shard.content_hash for shard in manifest.shards]).size == len(manifest.shards)


# --- nothing packed ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"[]", b" [\n]\n"])
def test_no_record_at_all_is_an_error(content: bytes, call: Call) -> None:
    write("chats.jsonl", content)
    status, error = call("pack", "chats.jsonl")
    assert status == 1
    assert error.startswith("Error: out: no record in chats.jsonl, expected ")
    assert not Path("out/manifest.json").exists()


def test_all_rejected_is_an_error_and_the_rejects_are_kept(call: Call) -> None:
    write("chats.jsonl", b"{\n{\n")
    for _ in range(2):  # also where all was done before
        status, error = call("pack", "chats.jsonl", "--on-error", "skip")
        assert status == 1
        assert "rejected       2 json: " in error
        assert error.splitlines()[-1].startswith(
            "Error: out: nothing was packed: 2 records rejected, "
        )
        rejects = Path("out/rejects.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["record"] for line in rejects] == ["{", "{"]
        assert not Path("out/manifest.json").exists()
    write("chats.jsonl", chats(3))
    assert call("pack", "chats.jsonl", "--overwrite")[0] == 0


def test_calls_without_an_answer_are_named_where_nothing_is_packed(call: Call) -> None:
    failed = b'{"request": {"messages": [{"role": "user", "content": "x"}]}, "response": %s}\n'
    write("calls.jsonl", failed % b'{"error": {"message": "busy"}}')
    status, error = call("pack", "calls.jsonl")
    assert status == 1
    assert "calls that failed, and are not trained: 1\n" in error
    assert "Error: out: no call to train among 1, expected " in error
    write("calls.jsonl", failed % b'{"error": {"message": "busy"}}' + failed % b'{"a": 1}')
    status, error = call("pack", "calls.jsonl", "--on-error", "skip", "--overwrite")
    assert status == 1
    assert (
        "Error: out: nothing was packed: 1 record rejected, 1 call not to be trained, expected "
        in error
    )


ASKED = b'{"messages": [{"role": "user", "content": "x"}], '


def test_a_call_that_is_kept_as_context_is_no_missing_record(call: Call) -> None:
    write(
        "calls.jsonl",
        b'{"messages": [{"role": "user", "content": "x"}], "response": "a<|im_end|>b"}',
    )
    status, error = call("pack", "calls.jsonl", "--on-message-error", "context")
    assert status == 1
    assert "Error: out: no call to train among 1, expected " in error


def test_shares_that_take_nothing_are_named(call: Call) -> None:
    for content in (chats(1), ASKED + b'"response": "y"}'):
        write("a.jsonl", content)
        status, error = call("pack", "a.jsonl:0.0001", "--overwrite")
        assert status == 1
        assert "Error: out: the shares of the inputs take none of 1, expected at least one" in error
        assert call("pack", "a.jsonl:1", "--overwrite")[0] == 0


def test_an_empty_part_is_none_but_parts_that_are_all_empty_are_no_dataset(call: Call) -> None:
    write("chats.jsonl", b"\n")
    for part in ("0", "1"):
        arguments = ("pack", "chats.jsonl", "--shard-index", part, "--shard-count", "2")
        assert call(*arguments)[0] == 0
    status, error = call("merge")
    assert status == 1
    assert error.startswith("Error: out: no record in chats.jsonl, expected ")
    assert not Path("out/manifest.json").exists()


# --- notes ---------------------------------------------------------------------------------------


def test_an_empty_file_among_others_is_named(call: Call) -> None:
    write("a.jsonl", chats(3))
    write("b.jsonl", b"")
    write("c.jsonl", b"\n\n")
    status, error = call("pack", "a.jsonl", "b.jsonl", "c.jsonl")
    assert status == 0
    assert "b.jsonl, c.jsonl: no record in it\n" in error


def test_of_inputs_with_calls_the_empty_ones_are_named(call: Call) -> None:
    """Though units are of groups, each of the input of its first record."""
    lines = [json.dumps(each).encode() + b"\n" for each in agents(2, bad=False)]
    for name, part in (("a", lines[::2]), ("b", lines[1::2]), ("c", [])):
        write(f"{name}.jsonl", b"".join(part))
    status, error = call("pack", "a.jsonl", "b.jsonl", "c.jsonl")
    assert status == 0
    assert "\nc.jsonl: no record in it\n" in error


@pytest.mark.parametrize("again", ["a.jsonl", "./a.jsonl", "link.jsonl", "hard.jsonl", "b.jsonl"])
def test_the_same_file_twice_is_said_and_packed_twice(again: str, call: Call) -> None:
    write("a.jsonl", chats(3))
    Path("link.jsonl").symlink_to("a.jsonl")
    Path("hard.jsonl").hardlink_to("a.jsonl")
    shutil.copy("a.jsonl", "b.jsonl")
    status, error = call("pack", "a.jsonl", again)
    assert status == 0
    assert f"a.jsonl, {Path(again)}: the same bytes, packed 2 times\n" in error
    assert "6 packed of 6" in error


def test_two_empty_files_are_not_called_the_same(call: Call) -> None:
    write("a.jsonl", chats(3))
    write("b.jsonl", b"")
    write("c.jsonl", b"")
    assert "same bytes" not in call("pack", "a.jsonl", "b.jsonl", "c.jsonl")[1]


@pytest.mark.filterwarnings("ignore")  # of these libraries: not ours
@pytest.mark.long  # where CI has these libraries
@pytest.mark.parametrize(
    "library", [pytest.param("datasets", marks=pytest.mark.torch), "pandas", "duckdb", "polars"]
)
def test_the_lines_of_the_card_read_the_rows(
    library: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip(library)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    card = (done / "out" / "README.md").read_text("utf-8")
    (block,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    (line,) = [line for line in block.splitlines() if line.startswith(library)]
    rows = eval(line, {library: module, "DIR": str(done / "out")})
    rows = rows["train"] if library == "datasets" else rows
    names = getattr(rows, "column_names", None) or list(rows.columns)
    assert len(rows) == read_manifest(done / "out").counts.rows
    assert {"length", "sample_id"} <= set(names)
