"""Rows of tokens, saved as others save them, and what the command check finds in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from click.testing import CliRunner
from runs import FIXTURES

import reasonpack
from reasonpack.cli import cli
from tests.run.check.saved_sets import save_to_disk

TOKENIZER = str(FIXTURES / "tokenizer")
CHATS = FIXTURES / "chats.jsonl"
Rows = list[tuple[list[int], list[int]]]
START, STOP = 3985, 3986
"""The ids of <|im_start|> and <|im_end|>."""


def check(*arguments: object, tokenizer: str = TOKENIZER) -> tuple[int, dict[str, Any]]:
    call = ["check", *map(str, arguments), "--tokenizer", tokenizer, "--json"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


def places(found: dict[str, Any], kind: str) -> dict[str, int]:
    return {code: group["places"] for code, group in found[kind].items()}


def right_rows(tmp_path: Path, template: str | None = None, source: Path = CHATS) -> Rows:
    options = reasonpack.Options(
        tokenizer=TOKENIZER,
        chat_template=template,
        layout="npass",
        missing_reasoning="empty-think",
        on_error="skip",
    )
    reasonpack.pack_files([str(source)], tmp_path / "npass", options)
    (shard,) = (tmp_path / "npass" / "data").glob("*.parquet")
    table = pq.read_table(shard, columns=["input_ids", "labels"])
    return list(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))


def saved(folder: Path, rows: Rows) -> Path:
    ids, labels = zip(*rows, strict=True)
    return save_to_disk(folder / "set", {"input_ids": list(ids), "labels": list(labels)})


def stop_untrained(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids, [-100 if label == STOP else label for label in labels]
