"""Files with weights are found, packed or not, and no others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonpack.records.plan import plan
from reasonpack.records.weight_search import Search

ASK = {"role": "user", "content": "2+2?"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"weight": 70.5}}}


def record(**fields: Any) -> dict[str, Any]:
    """A chat whose answer has these fields."""
    return {"messages": [ASK, {"role": "assistant", "content": "4", **fields}]}


WEIGHTED = [
    record(weight=0.5),
    record(loss_weight=2),
    record(weight=1.5) | {"weight": 1},
    record() | {"weight": 0.25},
    {"prompt": "2+2?", "completion": [{"role": "assistant", "content": "4", "weight": 1e-3}]},
    {"messages": json.dumps(record(weight=0.5)["messages"])},
    record() | {"note": '[{"weight": 0.5}', "weight": 0.25},
]
UNWEIGHTED = [
    record(),
    record(weight=1),
    record(weight=0, loss_weight=0.0),
    record(weight=True),
    record(weight=None),
    record(content='say "weight": 0.5'),
    record(content="0.5 of the weight"),
    record(tool_calls=[CALL]),
    record() | {"extra": {"weight": 0.5}},
    record() | {"weight": [0.5, 1.0]},
    {"messages": json.dumps(record(weight=1)["messages"])},
    record() | {"note": '[{"weight": 0.5}'},
]


def is_weighted(path: Path) -> bool | None:
    ((input_,), _) = plan([(path, path.name)], weighted=True)
    return input_.weighted


def written(folder: Path, kind: str, records: list[dict[str, Any]]) -> Path:
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in records)
    path = folder / f"chats.{kind}"
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "json":
        path.write_text(json.dumps(records, indent=1))
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "jsonl.zst":
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(lines)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        table = pa.Table.from_pylist(records)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as sink:
            sink.write_table(table)
    return path


KINDS = ["jsonl", "json", "jsonl.gz", "jsonl.zst", "parquet", "arrow"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", WEIGHTED, ids=range(len(WEIGHTED)))
def test_a_weight_is_found_in_every_kind_of_file(
    tmp_path: Path, kind: str, weighted: dict[str, Any]
) -> None:
    """Behind a record that has none, and the last of all."""
    first = {name: value for name, value in weighted.items() if name != "weight"}
    if isinstance(weighted.get("messages"), list):
        first = record(weight=1) | ({"weight": 1} if "weight" in weighted else {})
    assert is_weighted(written(tmp_path, kind, [first, weighted]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", UNWEIGHTED, ids=range(len(UNWEIGHTED)))
def test_flags_and_other_weights_are_none(tmp_path: Path, kind: str, plain: dict[str, Any]) -> None:
    assert is_weighted(written(tmp_path, kind, [plain, plain])) is False


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_weight_is_found_in_every_type_of_column(tmp_path: Path, suffix: str) -> None:
    """polars writes large lists and texts, pandas categories."""
    messages = [{**ASK, "weight": None}, {"role": "assistant", "content": "4", "weight": 0.5}]
    lists = pa.array([messages])
    texts = pa.array([json.dumps(messages)])
    columns = [
        *(lists, lists.cast(pa.large_list(lists.type.value_type))),
        lists.cast(pa.list_(lists.type.value_type, 2)),
        *(texts, texts.cast(pa.large_string()), texts.dictionary_encode()),
    ]
    if pa.__version__ >= "22":  # which reads them all
        columns.append(pa.ExtensionArray.from_storage(pa.json_(), texts))
        columns.append(texts.cast(pa.string_view()))
    for number, column in enumerate(columns):
        path, table = tmp_path / f"{number}.{suffix}", pa.table({"messages": column})
        if suffix == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table)
        assert is_weighted(path), column.type


def test_files_are_not_searched_where_nothing_asks(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", WEIGHTED)
    ((input_,), _) = plan([(path, path.name)])
    assert input_.weighted is None


def test_a_file_that_was_not_searched_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", WEIGHTED)
    (inputs, units) = plan([(path, path.name)])
    known = {path.name: (inputs[0], units)}
    ((again,), _) = plan([(path, path.name)], known=known, weighted=True)
    assert again.weighted


@given(st.integers(0, 400), st.sampled_from(["0.5", "2", "1e-3", "0.10", "10"]), st.integers(0, 3))
def test_a_weight_is_found_wherever_blocks_are_cut(at: int, value: str, spaces: int) -> None:
    text = (
        b"x" * 150
        + b'{"weight"'
        + b" " * spaces
        + b": "
        + value.encode()
        + b', "a": 1}'
        + b"y" * 150
    )
    search = Search()
    for block in (text[:at], text[at:]):
        search.add(block)
    assert search.found


@given(st.sampled_from(["0", "1", "1.0", "0.00", "true", "false", "null"]), st.sampled_from(",}]"))
def test_a_flag_is_none_in_one_block(value: str, behind: str) -> None:
    search = Search()
    search.add(f'{{"weight": {value} {behind} "weightless": 0.5, "weights"'.encode())
    assert not search.found
