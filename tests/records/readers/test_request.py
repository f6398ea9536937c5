"""What a request says beside its messages: variables of the template, ids of the prompt."""

from __future__ import annotations

from typing import Any

import pytest
from logged import ANSWER, ASK, SAID, one, read, shown


@pytest.mark.parametrize("effort", ["on", "off", "High", {"type": "enabled", "budget_tokens": 9}])
def test_what_switches_reasoning_on_is_none(effort: Any) -> None:
    (call,) = read({"input": [ASK], "output": "<think>Easy.</think>4", "reasoning": effort})
    assert shown(call) == {
        "id": "x:1", "messages": SAID, "notes": {"unread record.reasoning": 1},
    }  # fmt: skip


def test_ids_of_a_request_are_those_of_the_prompt() -> None:
    request = {"token_ids": [5, 6], "sampling_params": {"max_tokens": 2}}
    said = one({"request": request, "response": {"choices": [{"token_ids": [7]}]}})
    assert said == {"id": "x:1", "prompt_ids": [5, 6], "completion_ids": [7]}


@pytest.mark.parametrize(
    ("request_", "variables"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}),
        ({"extra_body": {"chat_template_kwargs": {"a": 1}}}, {"a": 1}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"temperature": 1, "max_tokens": 5, "stream": False, "n": 1, "seed": 3}, {}),
    ],
)
def test_what_a_request_says_to_the_template(request_: Any, variables: Any) -> None:
    record = {"request": {"messages": [ASK], **request_}, "response": ANSWER}
    (call,) = read(record)
    assert call.conversation
    assert call.conversation.template_kwargs == variables
    assert not call.notes
