"""Blocks of reasoning and contents with nothing in them."""

from __future__ import annotations

from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.view import Rendering, build_views

TOKENS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|call|>"]
ASK = Message("user", "Why?")
BLANK = {"missing_reasoning": "empty-think"}


def rendering(answer: str, opens: str, **changes: Any) -> Rendering:
    """Learn a template that writes answers, and what begins one, as Jinja source."""
    source = (
        "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}"
        f"{{% if m.role == 'assistant' %}}{answer}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\n' }}}}{opens}{{% endif %}}"
    )
    template = ChatTemplate.compile(source, name="probe")
    return Rendering(template, learn(template, TOKENS), {}, **changes)


def written(chosen: Rendering, *story: Message, **variables: Any) -> tuple[str, str]:
    """Return the end of the last prompt, behind the header, and the completion."""
    story = story if story[0].role != "assistant" else (ASK, *story)
    conversation = Conversation("id", "here:1", story, template_kwargs=variables)
    view = build_views(conversation, chosen).views[-1]
    return view.prompt.rpartition("assistant\n")[2], view.completion


def test_an_answer_that_the_template_writes_into_the_open_block_stands_behind_it() -> None:
    """The rendering goes on from the prompt, and nothing in it closes the reasoning."""
    answer = (
        "{{ '<think>\n' ~ m.content if loop.last else m.content.split('</think>')[-1] | trim }}"
    )
    chosen = rendering(answer, "{{ '<think>\n' }}", **BLANK)
    assert written(chosen, Message("assistant", "So.")) == (
        "<think>\n\n</think>\n\n",
        "So.<|im_end|>",
    )


def test_tags_in_the_content_do_not_follow_a_prompt_that_closes_the_reasoning() -> None:
    closes = (
        "{{ '<think></think>' if '/no_think' in messages[0].content else '' }}"
        "{# </think> is in the content #}"
    )
    chosen = rendering(f"{closes}{{{{ m.content }}}}", closes)
    message = Message("assistant", "So.", "A", verbatim="<think>A</think>So.")
    assert written(chosen, ASK, message)[1] == "<think>A</think>So.<|im_end|>"
    with pytest.raises(RecordError, match="reasoning follows"):
        written(chosen, Message("system", "/no_think"), ASK, message)


def test_an_empty_block_has_the_white_space_of_a_full_one() -> None:
    """The prompt opens it without a line break, and without thinking it is closed at once."""
    answer = (
        "{{ '<think>\n' ~ m.reasoning ~ '\n</think>\n' if m.reasoning else '</think>\n' }}"
        "{{ m.content }}"
    )
    chosen = rendering(answer, "{{ '<think>' if enable_thinking else '</think>' }}", **BLANK)
    made = written(chosen, Message("assistant", "So."), enable_thinking=True)
    assert made == ("<think>\n\n</think>\n", "So.<|im_end|>")


def test_the_records_tags_stand_where_the_template_writes_an_empty_block() -> None:
    """It writes one before calls, whatever their content has."""
    answer = (
        "{{ '<think></think>' ~ m.content.split('</think>')[-1] if not m.tool_calls else "
        "'<think></think>' ~ m.content }}"
        "{% for c in m.tool_calls or [] %}<|call|>{{ c.function.name }} "
        "{{ c.function.arguments | tojson }}{% endfor %}"
    )
    chosen = rendering(answer, "<think>")
    call = (ToolCall("look_up", {"key": "v"}, None, "c1"),)
    message = Message("assistant", "So.", "A", call, verbatim="<think>A</think>So.")
    prompt, completion = written(chosen, message)
    assert prompt + completion == '<think>A</think>So.<|call|>look_up {"key": "v"}<|im_end|>'


def test_an_empty_text_beside_a_call_is_in_the_history_what_the_template_makes_of_it() -> None:
    """An empty message of its own, which the model that called did not write; null is none."""
    answer = (
        "{% for c in m.tool_calls or [] %}<|call|>{{ c.function.name }} "
        "{{ c.function.arguments | tojson }}{% endfor %}"
        "{% if m.tool_calls and m.content is not none %}"
        "{{ '<|im_end|>\n<|im_start|>assistant\n' ~ m.content }}{% endif %}"
        "{{ m.content if not m.tool_calls else '' }}"
    )
    chosen = rendering(answer, "")
    assert chosen.behaviour.forms.empty_as_written
    call = (ToolCall("look_up", {"key": "v"}, None, "c1"),)
    called = '<|call|>look_up {"key": "v"}<|im_end|>'
    for content, more in (("", "\n<|im_start|>assistant\n<|im_end|>"), (None, "")):
        story = (ASK, Message("assistant", content, None, call), ASK, Message("assistant", "So."))
        one, two = build_views(Conversation("id", "here:1", story), chosen).views
        assert one.completion == called
        assert two.prompt.startswith(f"{one.prompt}{called}{more}\n<|im_start|>user\nWhy?")
