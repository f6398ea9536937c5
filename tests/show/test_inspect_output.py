"""What inspect prints: the exact text of a view, JSON, a sample by its id."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from two_turns import (
    SECOND_PROMPT,
    one_turn,
    two_turns,
)

FIRST_VIEW = (
    "sample chat-1, message 1: 14 tokens at positions 0–13, "
    "trained from token 6 (character 12) to the end\n"
)


def test_view_is_the_exact_text(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    directory = write([[two_turns(tokenizer)]])
    assert inspect(directory, "--view", 1) == (
        0,
        "<u>Hi<e>\n<a><think>\n?</think>Hé<e>",
        FIRST_VIEW,
    )
    status, out, _ = inspect(directory, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")


def test_view_json(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    _, out, _ = inspect(write([[two_turns(tokenizer)]]), "--view", 3, "--json")
    assert json.loads(out) == {
        "shard": "data/train-00000-of-00001.parquet",
        "row": 0,
        "sample": "chat-1",
        "message": 3,
        "length": 29,
        "prompt_ids": tokenizer.encode(SECOND_PROMPT).ids,
        "completion_ids": tokenizer.encode("Ok.<e>").ids,
        "position_ids": list(range(29)),
        "prompt": SECOND_PROMPT,
        "completion": "Ok.<e>",
    }


def test_id_shows_one_sample(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    rows = [[one_turn(tokenizer, "a")], [one_turn(tokenizer, "b"), two_turns(tokenizer, "c")]]
    directory = write(rows)
    _, out, _ = inspect(directory, "--id", "c")
    lines = out.splitlines()
    assert lines[0] == "data/train-00000-of-00001.parquet, row 1: 43 tokens, 15 trained, 2 samples"
    assert lines[2] == "sample c: 37 tokens from 6, 12 trained"
    assert lines[4].split() == ["0", "h", "–", "6", "1", "0–0", "43", "0", "<u>"]
    assert "sample b" not in out
    _, out, _ = inspect(directory, "--id", "c", "--json")
    assert json.loads(out)["samples"] == [{"id": "c", "start": 6, "length": 37}]
    assert {segment["start"] for segment in json.loads(out)["segments"]} == {
        6, 7, 11, 12, 16, 20, 25, 38, 39,
    }  # fmt: skip
    status, out, _ = inspect(directory, "--row", 1, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")
    status, out, _ = inspect(directory, "--id", "b", "--view", 1)
    assert (status, out) == (0, "<u>b<e>No<e>")


def test_id_in_several_rows(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    chats = [[one_turn(tokenizer, "a")], [two_turns(tokenizer, "a"), one_turn(tokenizer, "b")]]
    directory = write(chats, chats)
    for args in (["--id", "a"], ["--id", "a", "--json"]):
        _, first, _ = inspect(directory, "--row", 0, *args)
        see = "Row 0 of 4 with this id; see also 1, 2, 3.\n"
        assert inspect(directory, *args) == (0, first, see)
    status, out, err = inspect(directory, "--id", "a", "--view", 3)
    assert (status, out) == (2, "")
    assert err.endswith("in 2 samples, expected one. Fix: choose with --id and --row: "
                        "'a' in row 1, 'a' in row 3.\n")  # fmt: skip
    status, out, err = inspect(directory, "--id", "a", "--row", 3, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")
    assert err.startswith("sample a, message 3")
