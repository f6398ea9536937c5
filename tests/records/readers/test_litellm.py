"""Logs of LiteLLM, a gateway → calls."""

from __future__ import annotations

import pytest
from logged import shown
from test_call_formats import calls, read, records

from reasonpack.errors import RecordError


def test_a_failed_call_of_a_gateway_is_counted() -> None:
    assert shown(calls("litellm")[2]) == {
        "id": "chatcmpl-3",
        "trained": False,
        "notes": {"failed-call": 1},
    }


def test_messages_that_a_gateway_left_out_are_refused() -> None:
    record = records("litellm")[0]
    record["messages"] = [{"role": "user", "content": "redacted-by-litellm"}]
    with pytest.raises(RecordError, match="messages that the proxy left out of the log"):
        read(record)


def test_a_call_of_no_language_model_is_counted() -> None:
    record = {**records("litellm")[0], "call_type": "aembedding", "response": {"data": []}}
    assert [(call.trained, call.notes) for call in read(record)] == [(False, {"no-call": 1})]
