"""Files that are written, and datasets that are damaged, before a command is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fixing import Arguments
from runs import FIXTURES

from reasonpack.rows import schema as schema_module
from tests.laws.commands import Damage, copied

ASK = {"role": "user", "content": "2+2?"}
TOKENIZER = ["--tokenizer", str(FIXTURES / "tokenizer")]


def tokens(labels: list[int]) -> Damage:
    """Write a row of tokens as a trainer would prepare it."""
    table = pa.table({"input_ids": [[1, 2, 3]], "labels": [labels]})
    return lambda: pq.write_table(table, "p.parquet")


def said(name: str, *records: Any) -> Damage:
    text = "".join(json.dumps(each) + "\n" for each in records)
    return lambda: Path(name).write_text(text)


def logged(number: int) -> dict[str, Any]:
    asked = [{**ASK, "content": f"{number}+2?"}]
    return {"id": f"c{number}", "trace_id": "a", "messages": asked, "response": str(number + 2)}


def shard(change: Callable[[pa.Table], pa.Table]) -> Damage:
    """Write the only shard anew, with another content."""

    def damage() -> None:
        (path,) = Path("out/data").iterdir()
        table = pq.read_table(path)
        pq.write_table(change(table), path)

    return damage


def without_labels(table: pa.Table) -> pa.Table:
    return table.drop_columns(["labels"])


def requiring(table: pa.Table) -> pa.Table:
    prefix = schema_module.METADATA_PREFIX
    return table.replace_schema_metadata(
        {**table.schema.metadata, f"{prefix}requires".encode(): b"future"}
    )


def with_short_labels(table: pa.Table) -> pa.Table:
    at, type_ = table.schema.get_field_index("labels"), table.schema.field("labels")
    short = [each[:3] for each in table.column("labels").to_pylist()]
    return table.set_column(at, type_, pa.array(short, type_.type))


def limited(name: str, length: int) -> Damage:
    """Copy the tokenizer as of a model of so many positions."""

    def damage() -> None:
        copied(name)()
        path = Path(name, "tokenizer_config.json")
        config = json.loads(path.read_bytes())
        path.write_text(json.dumps({**config, "model_max_length": length}))

    return damage


def packed(source: str, *options: str, out: str = "out") -> Arguments:
    return ["pack", source, "-o", out, *TOKENIZER, *options]


def twice_one_id() -> None:
    lines = Path("a.jsonl").read_bytes().splitlines()
    Path("a.jsonl").write_bytes(b"\n".join([lines[0]] * 2))


def fewer() -> None:
    """Copy the tokenizer without the last of its tokens."""
    copied("fewer")()
    path = Path("fewer/tokenizer.json")
    tokenizer = json.loads(path.read_bytes())
    tokenizer["added_tokens"].pop()
    path.write_text(json.dumps(tokenizer))
