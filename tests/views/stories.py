"""Short conversations, and templates to render them with."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.rows.kind import Kind
from reasonpack.templates.behaviour import override
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import View, build_views, each_view
from tests.changed import replace

TEMPLATES = Path(__file__).parents[2] / "fixtures" / "templates"
TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|turn|>", "<|body|>", "<|eot|>", "<|bos|>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<|thought|>", "<|/thought|>"),
]


@functools.cache
def rendering(source: str, variables: str = "{}", behaviour: str = "{}") -> Rendering:
    """Give the rendering of a fixture, or of a template's text."""
    if "{" not in source:
        source = (TEMPLATES / f"{source}.jinja").read_text("utf-8")
    template = ChatTemplate.compile(source, name="probe")
    learned = learn(template, TOKENS, json.loads(variables))
    changed = override(learned, json.loads(behaviour))
    return Rendering(template, changed, json.loads(variables))


def user(text: str = "Why?") -> Message:
    return Message("user", text)


def answer(text: str | None = "So.", reasoning: str | None = None, **more: Any) -> Message:
    return Message("assistant", text, reasoning, **more)


def call(
    text: str | None = None, reasoning: str | None = None, *, names: Any = ("look_up",), **more: Any
) -> Message:
    calls = tuple(
        ToolCall(name, more.get("arguments", {"query": "it"}), None, f"c{number}")
        for number, name in enumerate(names)
    )
    return Message("assistant", text, reasoning, calls)


def result(text: str = "Found.") -> Message:
    return Message("tool", text, extra={"tool_call_id": "c0", "name": "look_up"})


def views(chosen: Rendering, *messages: Message, **more: Any) -> tuple[View, ...]:
    return build_views(Conversation("id", messages, **more), chosen)


def outcomes(chosen: Rendering, *messages: Message, **more: Any) -> list[int | str]:
    """Return of each message to be trained its index, or why it stays context."""
    conversation = Conversation("id", messages, **more)
    with ready_for_bounds():
        return [
            each if isinstance(each, str) else each.message
            for each in each_view(conversation, chosen)
        ]


def last(chosen: Rendering, *messages: Message, **more: Any) -> tuple[str, str]:
    *before, final = messages
    kept = [replace(message, train=False) for message in before]
    (view,) = views(chosen, *kept, final, **more)
    return view.prompt, view.completion


def refusal(chosen: Rendering, *messages: Message, **more: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        views(chosen, *messages, **more)
    return caught.value


def spans_of(view: View) -> list[tuple[str, str, int]]:
    """Pair each stretch of text with its kind and its message."""
    text, at, found = view.prompt + view.completion, 0, []
    for span in view.spans:
        if span.stop > at:
            found.append((text[at : span.stop], Kind(span.kind).label, span.message))
        at = span.stop
    assert at == len(text)
    return found


TURN = "{{ '<|im_start|>' ~ m.role ~ '\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml(body: str) -> str:
    return "{% for m in messages %}" + TURN + body + "{{ '<|im_end|>\n' }}{% endfor %}" + PROMPT


CALLS = "{% for c in m.tool_calls or [] %}{{ '<tool_call>' ~ c.function | tojson }}{% endfor %}"
