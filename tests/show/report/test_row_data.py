"""What the page has of a row is the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from two_turns import row_of_vector, two_turns

from reasonpack.datasets.manifest import read_manifest
from reasonpack.masks.dense import visible
from reasonpack.rows.sample import IGNORE
from reasonpack.show.message_view import find_view, prompts_of
from reasonpack.show.report.row_data import rows_data
from reasonpack.show.row import RowData, read_rows
from tests.changed import replace


@pytest.fixture
def row(write: Any, tokenizer: tokenizers.Tokenizer) -> RowData:
    directory = write([[two_turns(tokenizer), two_turns(tokenizer, "chat-2")]])
    return read_rows(directory, read_manifest(directory), [0])[0]


@pytest.fixture
def calls(tmp_path: Path) -> RowData:
    """A row of three calls of which the second begins like the first."""
    return row_of_vector("calls_weighted", tmp_path)


def unrolled(runs: list[list[Any]], length: int, step: int) -> list[Any]:
    starts, values = runs
    ends = [*starts[1:], length]
    return [
        value + step * (token - start) if step else value
        for start, end, value in zip(starts, ends, values, strict=True)
        for token in range(start, end)
    ]


def read_back(data: dict[str, Any], tokens: dict[str, Any]) -> dict[str, list[Any]]:
    length = len(data["ids"])
    ids = [tokens["ids"][entry] for entry in data["ids"]]
    changes = data["trained"]
    trained = [sum(change <= token for change in changes) % 2 == 1 for token in range(length)]
    other = dict(zip(*data["labels"], strict=True))
    return {
        "input_ids": ids,
        "position_ids": unrolled(data["positions"], length, 1),
        "labels": [
            other.get(token, ids[token]) if trained[token] else IGNORE for token in range(length)
        ],
    }


def test_every_token_can_be_read_back(row: RowData) -> None:
    found = rows_data([row], None)
    (data,) = found["rows"]
    for name, values in read_back(data, found["tokens"]).items():
        assert values == getattr(row, name).tolist()
    assert data["segments"]["until"] == [each.visible_until for each in row.segments]
    assert data["samples"] == {"id": ["chat-1", "chat-2"], "start": [0, row.samples[1].start]}
    json.dumps(found, allow_nan=False)


def test_a_damaged_row_is_shown_as_it_is(row: RowData) -> None:
    labels, positions = row.labels.copy(), row.position_ids.copy()
    labels[[8, 20]], positions[[9, 30]] = 77, 1_000
    damaged = replace(row, labels=labels, position_ids=positions)
    found = rows_data([damaged], None)
    for name, values in read_back(found["rows"][0], found["tokens"]).items():
        assert values == getattr(damaged, name).tolist()


def test_views_are_those_of_inspect(row: RowData) -> None:
    data = rows_data([row], None)["rows"][0]
    until = np.zeros(len(row.input_ids), np.int32)
    for segment in row.segments:
        until[row.tokens(segment)] = segment.visible_until
    seen = visible(until)
    assert len(data["views"]) == 4
    for each in data["views"]:
        view = find_view([(row, each["sample"])], each["message"])
        assert np.flatnonzero(seen[each["last"]]).tolist() == view.tokens.tolist()
        assert each["prompt"] == view.prompt_length


def test_a_row_that_is_cut_is_a_row_and_says_what_is_left_out(row: RowData) -> None:
    whole, cut = (rows_data([row], None, most)["rows"][0] for most in (None, 20))
    assert (len(cut["ids"]), cut["left_out"]) == (20, len(row.input_ids) - 20)
    assert whole["left_out"] == 0
    assert max(cut["segments"]["until"]) == 20
    assert len(cut["segments"]["start"]) < len(whole["segments"]["start"])
    assert [view["message"] for view in cut["views"]] == [1]
    assert cut["samples"]["id"] == ["chat-1"]


def test_further_columns_are_runs_and_no_number_is_null(row: RowData) -> None:
    values = np.full(len(row.input_ids), 0.1, np.float32)
    values[3:5] = np.nan
    more = replace(row, columns={"logprobs": values})
    runs = rows_data([more], None)["rows"][0]["columns"]["logprobs"]
    assert unrolled(runs, len(values), 0) == [
        None if token in {3, 4} else 0.1 for token in range(len(values))
    ]


def test_parts_of_characters_are_lone_surrogates(
    row: RowData, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    from reasonpack.tokens.token_bytes import bytes_of_tokens
    from reasonpack.tokens.tokenizer import load_tokenizer

    piece = bytes_of_tokens(load_tokenizer(tmp_path / "tokenizer.json"))
    tokens = rows_data([row], piece)["tokens"]
    assert {"\udcc3", "<think>"} <= set(tokens["texts"])
    joined = "".join(tokens["texts"][tokens["ids"].index(each)] for each in row.input_ids.tolist())
    assert "Hé<e>" in joined.encode("utf-8", "surrogateescape").decode()
    unknown = replace(row, input_ids=row.input_ids + 100_000)
    assert set(rows_data([unknown], piece)["tokens"]["texts"]) == {None}


def test_calls_have_views_of_their_own(calls: RowData) -> None:
    data = rows_data([calls], None)["rows"][0]
    assert [each["id"] for each in data["calls"]] == ["a1", "a2", "b1"]
    found = {each["call"]: (each["sample"], each["last"], each["prompt"]) for each in data["views"]}
    assert found == {0: (0, 5, 2), 1: (0, 8, 2), 2: (1, 13, 2)}
    assert {each["message"] for each in data["views"]} == {1}
    starts, weights = data["columns"]["loss_weights"]
    assert dict(zip(starts, weights, strict=True))[2] == 0.75


def test_rejected_answers_have_views(calls: RowData) -> None:
    target, chosen = np.full(len(calls.labels), IGNORE, np.int32), calls.labels.copy()
    target[11:], chosen[11:] = calls.labels[11:], IGNORE
    rejected = replace(calls, labels=chosen, columns={**calls.columns, "preference_labels": target})
    assert [each.call for each, _ in prompts_of(rejected, 1, within=99)] == [2]
