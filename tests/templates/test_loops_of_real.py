"""Every real template renders with a memo what it renders without one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from matrix import compiled
from published import TEMPLATES

from reasonpack.errors import ReasonpackError
from reasonpack.templates.loops import Memo
from reasonpack.templates.template import ChatTemplate

pytestmark = pytest.mark.network

Json = dict[str, Any]
TEXTS = ["Hi", "", "A b\nc", "<think>x</think>y", "  sp ", "<tool_response>q</tool_response>"]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": PARAMETERS}}
    for name in "fg"
]


def answer(draw: random.Random, calls: int = 0) -> Json:
    message: Json = {"role": "assistant", "content": draw.choice(TEXTS)}
    if calls:
        message["tool_calls"] = [
            {
                "type": "function",
                "id": f"functions.{name}:{draw.randrange(9)}",
                "function": {"name": name, "arguments": {"a": draw.choice(["x", 1, None])}},
            }
            for name in draw.choices("fg", k=calls)
        ]
    if draw.random() < 0.5:
        message.update(dict.fromkeys(["reasoning_content", "reasoning", "thinking"], "Hm."))
    return message


def chat(draw: random.Random) -> list[Json]:
    messages: list[Json] = []
    if draw.random() < 0.4:
        messages.append({"role": "system", "content": draw.choice(TEXTS)})
    while len(messages) < 12:
        messages.append({"role": "user", "content": draw.choice(TEXTS)})
        for _ in range(draw.choice([0, 0, 1, 3])):
            messages.append(answer(draw, calls=draw.choice([1, 1, 2])))
            for call in messages[-1]["tool_calls"]:
                result = {"tool_call_id": call["id"], "name": call["function"]["name"]}
                messages.append({"role": "tool", "content": draw.choice(TEXTS), **result})
        messages.append(answer(draw))
    if draw.random() < 0.2:
        role = draw.choice(["developer", "system", "user", "tool", "unknown"])
        messages.insert(draw.randrange(len(messages)), {"role": role, "content": "?"})
    return messages


def rendered(template: ChatTemplate, messages: list[Json], memo: Memo | None, **more: Any) -> str:
    try:
        return template.render(messages, memo=memo, **more)
    except ReasonpackError as error:
        return str(error)


@pytest.mark.parametrize("name", TEMPLATES)
def test_beginnings_of_chats(name: str) -> None:
    template, _ = compiled(name)
    draw = random.Random(name)
    for _ in range(4):
        messages = chat(draw)
        more = {
            "tools": draw.choice([None, TOOLS]),
            "kwargs": draw.choice([{}, {"enable_thinking": False}, {"thinking": True}]),
        }
        memo = Memo(template.sites, [*messages, *TOOLS]) if template.sites else None
        for stop in range(1, len(messages) + 1):
            for prompt in (True, False):
                case = {"add_generation_prompt": prompt, **more}
                plain = rendered(template, messages[:stop], None, **case)
                assert rendered(template, messages[:stop], memo, **case) == plain


def test_nearly_all_have_loops_that_a_memo_runs() -> None:
    without = [name for name in TEMPLATES if not compiled(name)[0].sites]
    assert len(without) <= len(TEMPLATES) // 10, without
