"""Blocks of reasoning and contents with nothing in them."""

from __future__ import annotations

from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message, parse_line
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.forms import Forms, as_written
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.view import Rendering, build_views

TOKENS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|call|>"]
ASK = Message("user", "Why?")
BLANK = {"missing_reasoning": "empty-think"}


def rendering(answer: str, opens: str, **changes: Any) -> Rendering:
    """Learn a template that writes answers, and what begins one, as Jinja source."""
    source = (
        "{% macro calls(m) %}{% for c in m.tool_calls or [] %}<|call|>{{ c.function.name }} "
        "{{ c.function.arguments | tojson }}{% endfor %}{% endmacro %}"
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
    conversation = Conversation("id", story, template_kwargs=variables)
    view = build_views(conversation, chosen)[-1]
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
        one, two = build_views(Conversation("id", story), chosen)
        assert one.completion == called
        assert two.prompt.startswith(f"{one.prompt}{called}{more}\n<|im_start|>user\nWhy?")


SWITCHED = (
    "{{ m.content if enable_thinking else '<think>\n\n</think>\n' ~ m.content }}",
    "{{ '' if enable_thinking else '<think>\n\n</think>\n' }}",
)
"""Passes content through, behind an empty block of its own where thinking is off."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (BLANK, ("<think>\n\n</think>\n\n", "So.<|im_end|>")),
        ({**BLANK, "train_empty_think": True}, ("", "<think>\n\n</think>\n\nSo.<|im_end|>")),
    ],
)
def test_an_empty_block_of_the_record_is_the_models_where_thinking_is_on(
    changes: Any, expected: tuple[str, str]
) -> None:
    message = Message("assistant", "So.", verbatim="<think>\n\n</think>\n\nSo.")
    chosen = rendering(*SWITCHED, **changes)
    assert written(chosen, message, enable_thinking=True) == expected
    off = ("<think>\n\n</think>\n", "So.<|im_end|>")
    assert written(chosen, message) == written(chosen, message, enable_thinking=False) == off
    untrained = rendering(*SWITCHED)
    with pytest.raises(RecordError, match="missing-reasoning"):
        written(untrained, message, enable_thinking=True)


def test_an_empty_block_of_the_record_stays_in_the_history_of_a_prompt_that_has_none() -> None:
    message = Message("assistant", "So.", verbatim="<think>\n\n</think>\n\nSo.")
    reasoned = Message("assistant", "B", "A", verbatim="<think>A</think>B")
    story = (ASK, message, ASK, reasoned)
    views = build_views(Conversation("id", story), rendering(*SWITCHED, **BLANK))
    assert "assistant\n<think>\n\n</think>\n\nSo.<|im_end|>" in views[1].prompt
    assert views[0].prompt.endswith("assistant\n<think>\n\n</think>\n")


@pytest.mark.parametrize(("content", "shown"), [("", ""), ("4", "4\n")])
def test_reasoning_of_white_space_is_none_where_the_prompt_closes_it(
    content: str, shown: str
) -> None:
    """As Laguna does: the block would be another one with it."""
    answer = (
        "{{ '<think>\n' ~ m.reasoning ~ '\n' if m.reasoning }}{{ '</think>\n' }}"
        "{{ m.content ~ '\n' if m.content }}"
    )
    chosen = rendering(answer, "{{ '<think>' if enable_thinking else '</think>' }}", **BLANK)
    for thought in (None, "", " \n"):
        message = Message("assistant", content, thought)
        assert written(chosen, message) == ("</think>", f"\n{shown}<|im_end|>")


def test_reasoning_of_white_space_stays_in_the_history_as_a_template_shows_it() -> None:
    answer = "{{ '<think>\n' ~ m.reasoning ~ '\n</think>\n' if m.reasoning }}{{ m.content }}"
    chosen = rendering(answer, "{{ '<think>\n</think>\n' if not enable_thinking }}", **BLANK)
    chat = [ASK, Message("assistant", "4", " \n", train=False), ASK, Message("assistant", "5")]
    conversation = Conversation("test", tuple(chat), None)
    (view,) = build_views(conversation, chosen)
    assert "assistant\n<think>\n \n\n</think>\n4<|im_end|>" in view.prompt
    assert view.completion == "5<|im_end|>"


def test_line_breaks_before_the_tag_that_the_prompt_opened_are_the_models() -> None:
    """The template writes the tag itself, as Nemotron Nano 2 does; the record's is left out."""
    forms = Forms(inline="{}\n</think>\n\n", inline_as_written=True)
    for text, given in (("\n</think>\n\n", "\n</think>\n\n"), (" <think>\nA</think>", "A</think>")):
        assert as_written(Message("assistant", "", verbatim=text), forms) == given


def test_tags_that_the_template_drops_are_trained_as_the_record_has_them() -> None:
    """It says what closes reasoning, and not what opens it: a field cannot be written."""
    chosen = rendering("{{ m.content.split('</think>')[-1] }}{{ calls(m) }}", "")
    for content in ("<think>\nA\n</think>\n\nSo.", "A\n</think>\n\nSo."):
        message = Message("assistant", "So.", "A", verbatim=content)
        assert written(chosen, message) == ("", f"{content}<|im_end|>")
    with pytest.raises(RecordError, match='"closer": ') as caught:
        written(chosen, Message("assistant", "So.", "A"))
    assert "--template-behaviour FILE" in caught.value.fix


@pytest.mark.parametrize("text", [True, False])
def test_reasoning_alone_beside_a_call(text: bool) -> None:
    """What parts the two is known where the template shows texts beside calls."""
    shown = "{{ m.content.split('</think>')[-1] }}"
    beside = f"{shown}{{{{ calls(m) }}}}" if text else f"{{{{ calls(m) or {shown[3:-3]} }}}}"
    chosen = rendering(beside, "")
    call = (ToolCall("look_up", {"key": "v"}, None, "c1"),)
    message = Message("assistant", "", "A", call, verbatim="<think>A</think>\n")
    called = '<|call|>look_up {"key": "v"}<|im_end|>'
    if text:
        assert written(chosen, message) == ("", f"<think>A</think>\n{called}")
    else:
        with pytest.raises(RecordError, match="no place for reasoning"):
            written(chosen, message)


def test_a_content_that_goes_on_from_the_tag_of_its_prompt() -> None:
    chosen = rendering("{{ m.content }}", "{{ '<judge>\n' }}")
    for content in ("<judge>\nEasy.\n</judge>\nSo.", "Easy.\n</judge>\nSo."):
        made = written(chosen, Message("assistant", content))
        assert made == ("<judge>\n", "Easy.\n</judge>\nSo.<|im_end|>")
    with pytest.raises(RecordError, match="does not show exactly this message"):
        written(chosen, Message("assistant", "So."))


def test_nothing_is_trained_of_an_answer_that_was_cut_off_before_it_began() -> None:
    line = (
        b'{"messages": [{"role": "user", "content": "Why?"}, '
        b'{"role": "assistant", "content": "", "finish_reason": "length"}]}'
    )
    read = parse_line(line, "here:1")
    assert read.notes == {"nothing-written": 1}
    with pytest.raises(RecordError, match=r"1 stay context \(nothing-written\)"):
        build_views(read, rendering(*SWITCHED, **BLANK))
