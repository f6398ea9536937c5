"""Calls are shown whole, or the view is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stories import CALLS, PROMPT, TURN, call, chatml, last, refusal, rendering, result, user

from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate
from tests.changed import replace


def test_call_behind_a_stop_token_is_refused() -> None:
    calls = "{{ m.content }}{{ '<|im_end|>\n<|im_start|>assistant\n' if m.tool_calls }}" + CALLS
    assert rendering(chatml(calls)).behaviour.call_stop == Stop("")
    error = refusal(rendering(chatml(calls)), user(), call())
    assert "has no reliable stop token for a message with tool calls" in error.what


@pytest.mark.parametrize(
    "arguments", [{}, {"a": "<|im_start|>assistant\nx", "b": [1, {"c": None}]}]
)
def test_calls_are_whole(arguments: Any) -> None:
    for name in ("stripped", "tool_loop", "kept"):
        message = call(None, "R", names=("add", "add"), arguments=arguments)
        _, completion = last(rendering(name), user("A"), message)
        shown = json.dumps(arguments, ensure_ascii=False)
        assert completion.count(shown) == 2
        assert completion.endswith("</tool_call><|im_end|>")


def test_earlier_call_is_not_taken_for_the_last() -> None:
    """The template loses a call that repeats another; the earlier one stands at the end."""
    body = (
        "{% if loop.index != 4 %}"
        + TURN
        + "{{ m.content }}"
        + CALLS
        + "{{ '<|im_end|>\n' }}{% endif %}"
    )
    source = "{% for m in messages %}" + body + "{% endfor %}" + PROMPT
    template = ChatTemplate.compile(source, name="probe")
    chosen = replace(rendering(chatml("{{ m.content }}" + CALLS)), template=template)
    story = (user(), replace(call(), train=False), result(), call())
    assert refusal(chosen, *story).reason == "view"


def test_call_that_loses_an_argument_is_refused() -> None:
    shown = "{{ '<tool_call>' ~ c.function.name ~ ' key=' ~ c.function.arguments.key }}"
    calls = "{% for c in m.tool_calls or [] %}" + shown + "{% endfor %}"
    chosen = rendering(chatml("{{ m.content }}" + calls))
    kept = last(chosen, user(), call(arguments={"key": "it"}))[1]
    assert kept == "<tool_call>look_up key=it<|im_end|>"
    for arguments in ({"query": "it"}, {"key": "it", "other": [{"a": "lost"}]}):
        assert refusal(chosen, user(), call(arguments=arguments)).reason == "view"
