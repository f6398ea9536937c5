"""The columns that the keys in records ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reasonpack.records import repeated_items
from reasonpack.records.key_columns import KeyColumns

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({"nodes": [{"token_ids": [5], "logprobs": [-1]}]}, {"logprobs"}),
        ({"nodes": [{"token_ids": [5], "logprobs": []}]}, set()),
        ({"tokens": [5, 7], "response_length": 1, "rollout_log_probs": [-1]}, {"logprobs"}),
        ({"prompt_ids": [5], "completion_ids": [7], "request": {"logprobs": 5}}, set()),
        ({"messages": [], "choices": [{"logprobs": {"content": [{"logprob": -1}]}}]}, set()),
        ({"rewards": {"right": 1.0}, "advantage": None}, {"call_reward"}),
        ({"token_ids": [5], "own": {"logprobs": [-1]}, "advantages": [1.0]}, {"advantages"}),
    ],
)
def test_columns_are_found_wherever_their_values_stand(record: Json, columns: set[str]) -> None:
    keys = KeyColumns(ignored=["own.logprobs"] if "own" in record else [])
    line = json.dumps(record).encode()
    keys.see(line, line)
    assert keys.found == columns


@pytest.mark.parametrize("answer", [{"token_ids": [5]}, {"logprobs": [-1]}])
def test_columns_are_found_in_what_a_line_has_of_one_before(
    answer: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says of which tokens the log probabilities are may stand in the other part."""
    monkeypatch.setattr(repeated_items, "HEAD", 9)
    keys, lines = KeyColumns(), repeated_items.RepeatedItems()
    history = [{"token_ids": [5]} if "logprobs" in answer else {"logprobs": [-1]}]
    for record in ({"input": history}, {"input": [*history, {"id": 1}], **answer}):
        line = json.dumps(record).encode()
        keys.see(line, new := lines.short(line))
    assert len(new) < len(line)
    assert keys.found == {"logprobs"}
