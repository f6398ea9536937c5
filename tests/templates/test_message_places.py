"""The texts of each message stand in its spans, in the prompts of real templates."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from matrix import TOOL, answer, ask, call, learned, result
from published import TEMPLATES

from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.message import Message
from reasonpack.templates.forms import dump_message
from reasonpack.templates.loops import Memo
from reasonpack.templates.message_places import MessagePlaces
from reasonpack.views.spans import Found, find_messages

pytestmark = pytest.mark.network

INTO_THE_LAST_REQUEST = {
    "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407",
    "vllm/tool_chat_template_mistral_parallel",
    "xinference/mistral-instruct-v0.3",
}
"""They write the system message into the last one of a user, wherever that is."""


def stories() -> Iterator[list[Message]]:
    """Make conversations in which each text is of one message."""
    for has_system in (False, True):
        for has_calls in (False, True):
            story = [Message("system", "System 0.")] if has_system else []
            for _ in range(3):
                story.append(ask(len(story)))
                for _ in range(2 if has_calls else 0):
                    story.append(call(len(story)))
                    story.append(result(len(story)))
                story.append(answer(len(story)))
            yield [*story, ask(len(story))]


def misplaced(name: str, story: list[Message], stop: int) -> list[str]:
    """Return the texts that do not stand in the spans of their message."""
    template, behaviour = learned(name)
    dumped = [dump_message(each, behaviour.forms) for each in story[:stop]]
    tools = [TOOL] if any(each.tool_calls for each in story) else None
    memo = Memo(template.sites, dumped) if template.sites else None
    try:
        prompt = template.render(
            dumped,
            tools=tools,
            add_generation_prompt=True,
            kwargs=behaviour.thinking,
            memo=memo,
        )
    except RecordError:
        return []
    written = memo.written if memo else MessagePlaces()
    spans = find_messages(prompt, story[:stop], behaviour, written, Found(), 0).spans
    wrong = []
    for index, message in enumerate(story[:stop]):
        calls = [f"value {each.arguments['key'].split()[1]}" for each in message.tool_calls]
        for text in filter(None, (message.content, message.reasoning, *calls)):
            for found in re.finditer(re.escape(text) + r"(?!\d)", prompt):
                span = next((each for each in spans if each.stop >= found.end()), None)
                if span is None or span.message != index:
                    wrong.append(text)
    return wrong


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_text_is_of_its_message(name: str) -> None:
    try:
        learned(name)
    except TemplateError:
        return
    wrong = []
    for story in stories():
        answers = [at for at, each in enumerate(story) if each.role == "assistant"]
        for stop in (*answers[1:], len(story)):
            wrong += misplaced(name, story, stop)
    assert (wrong != []) == (name in INTO_THE_LAST_REQUEST), wrong
