"""Views: what the model saw and wrote, exactly, or a refusal that says why."""

from __future__ import annotations

import json
from typing import Any

import oracle
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import (
    CALLS,
    TEMPLATES,
    answer,
    call,
    chatml,
    last,
    outcomes,
    refusal,
    rendering,
    result,
    spans_of,
    user,
    views,
)

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.view import build_views
from tests.changed import replace

EXAMPLES = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

# --- ordinary conversations -----------------------------------------------------------------------


def test_two_turns_by_hand() -> None:
    first, second = views(
        rendering("stripped"), user("A"), answer("B", "R"), user("C"), answer("D", "S")
    )
    start, end = "<|im_start|>", "<|im_end|>\n"
    asked = f"{start}user\nA{end}{start}assistant\n"
    assert (first.prompt, first.completion) == (asked, "<think>\nR\n</think>\n\nB<|im_end|>")
    again = f"{asked}B{end}{start}user\nC{end}{start}assistant\n"
    assert (second.prompt, second.completion) == (again, "<think>\nS\n</think>\n\nD<|im_end|>")


def test_last_turn_alone_may_be_trained() -> None:
    story = (user(), answer(), user(), call(), result(), answer())
    conversation = Conversation("id", story)
    made = build_views(conversation, rendering("stripped"), train_on="last-turn")
    assert [view.message for view in made] == [3, 5]


# --- answers without reasoning --------------------------------------------------------------------


def test_switch_is_off_for_an_answer_without_reasoning() -> None:
    prompt, completion = last(rendering("stripped"), user("A"), answer("B"))
    assert prompt.endswith("assistant\n<think>\n\n</think>\n\n")
    assert completion == "B<|im_end|>"


@pytest.mark.parametrize("name", ["thinking_prompt", "stripped"])
def test_answer_that_lacks_reasoning(name: str) -> None:
    """Once with a prompt that opens reasoning, once with one that leaves it to the model."""
    fixed = "{}" if name == "thinking_prompt" else '{"enable_thinking": true}'
    chosen = rendering(name, fixed)
    story = (user("A"), answer("B"), user("C"), answer("D", "R"))
    opened = "<think>\n" if name == "thinking_prompt" else ""
    header = "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"

    assert outcomes(chosen, *story) == ["missing-reasoning", 3]
    assert views(chosen, *story)[0].prompt.startswith(header + "B<|im_end|>\n<|im_start|>user\nC")

    first, _ = views(replace(chosen, missing_reasoning="empty-think"), *story)
    assert first.prompt == header + "<think>\n\n</think>\n\n"
    assert first.completion == "B<|im_end|>"

    trained = replace(chosen, missing_reasoning="empty-think", train_empty_think=True)
    first, _ = views(trained, *story)
    assert first.prompt == header + opened
    assert first.completion == "<think>\n\n</think>\n\nB<|im_end|>"[len(opened) :]

    error = refusal(replace(chosen, missing_reasoning="error"), *story)
    assert (error.reason, error.path) == ("missing-reasoning", "messages[1]")


def test_nothing_left_to_train_is_a_reject() -> None:
    error = refusal(rendering("thinking_prompt"), user(), answer())
    assert error.reason == "nothing-to-train"
    assert "; 1 stay context (missing-reasoning)" in str(error)
    assert "Fix: train a message, see --missing-reasoning, or leave" in str(error)
    error = refusal(rendering("stripped"), user(), answer(train=False))
    assert str(error).startswith("messages: no assistant message is to be trained, expected")
    assert str(error).endswith(
        "Fix: train a message, or leave the conversation out (--on-error skip)."
    )


def test_variables_of_user_and_record_win_over_the_switch() -> None:
    on = last(rendering("stripped", '{"enable_thinking": true}'), user(), answer("B", "R"))
    assert on == last(rendering("stripped"), user(), answer("B", "R"))
    chosen = rendering("stripped")
    error = refusal(chosen, user(), answer("B", "R"), template_kwargs={"enable_thinking": False})
    assert error.reason == "view"  # a prompt that closes reasoning is followed by none
    error = refusal(chosen, user(), answer("B"), template_kwargs={"enable_thinking": True})
    assert error.reason == "nothing-to-train"


@pytest.mark.parametrize(("name", "views"), [("stripped", 1), ("thinking_prompt", 0), ("kept", 0)])
def test_white_space_is_no_reasoning(name: str, views: int) -> None:
    story = (user(), answer("B", " \n"), user(), answer("D", "R"))
    assert outcomes(rendering(name), *story) == [1 if views else "missing-reasoning", 3]


THOUGHT = "{{ '<think>' ~ m.thinking ~ '</think>' if m.thinking }}"


@pytest.mark.parametrize(
    ("body", "message", "what"),
    [
        ("{{ m.content }}", answer("B", "R"), "has no place for reasoning"),
        ("{{ m.content | replace('B', '') }}", answer("B"), "not show the content of this message"),
        ("{{ m.content | truncate(9) }}", answer("B" * 20), "not show the content of this message"),
        ("{{ m.content }}", call("B"), "does not show this message's call of 'look_up'"),
        (
            CALLS + "{{ m.content }}",
            call("B"),
            "exactly this message after its prompt",
        ),
        (
            "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}",
            call("B"),
            "has no reliable stop token for a message with tool calls",
        ),
        (
            "{{ m.content }}" + CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"),
            call("B", names=("look_up", "add")),
            "does not show all calls of this message (look_up, add)",
        ),
        (
            "{{ m.content ~ THOUGHT }}".replace("THOUGHT", "(m.thinking or '')"),
            answer("B", "R"),
            "",
        ),
        (
            THOUGHT + "{{ m.content ~ (' (short)' if m.content | length < 3) }}",
            answer("B", "R"),
            "exactly this message after its prompt",
        ),
        (THOUGHT + "{{ 'Well: ' if m.content == 'B' }}{{ m.content }}", answer("B", "R"), ""),
        (
            THOUGHT.replace("m.thinking ~", "(m.thinking | lower) ~") + "{{ m.content }}",
            answer("B", "Reason"),
            "does not show the reasoning of this message, and its prompt ends in",
        ),
    ],
)
def test_what_the_template_does_not_show_is_refused(body: str, message: Message, what: str) -> None:
    error = refusal(rendering(chatml(body)), user(), message)
    assert (error.reason, error.path) == ("view", "messages[1]")
    assert what in error.what


@pytest.mark.parametrize("text", ["forget this", "again"])
def test_question_that_is_not_shown_is_refused(text: str) -> None:
    """The second time it is the same as one that is shown."""
    body = "{% if 'forget' in m.content or loop.index == 3 %}{% else %}{{ m.content }}{% endif %}"
    chosen = replace(rendering(chatml("{{ m.content }}")))
    template = ChatTemplate.compile(chatml(body), name="probe")
    chosen = replace(chosen, template=template)
    index = 0 if "forget" in text else 2
    error = refusal(chosen, user(text), answer(train=False), user(text), answer("B"))
    assert error.path == f"messages[{index}]"
    assert "does not show the content of this user message" in error.what


# --- composed completions -----------------------------------------------------------------------

STRIPS = chatml("{{ m.content.split('</think>')[-1] }}").replace(
    "assistant\n'", "assistant\n<think>\n'"
)
SHOWS_IN_CALLS = chatml(
    "{% if m.role == 'assistant' %}{{ '<think>' ~ (m.thinking if m.tool_calls) ~ '</think>' }}"
    "{% endif %}{{ m.content }}" + CALLS
)


def test_reasoning_that_is_never_shown_is_composed() -> None:
    prompt, completion = last(rendering(STRIPS), user("A"), answer("B", " R\n"))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n")
    assert completion == " R\n\n</think>\n\nB<|im_end|>"  # the record's white space


def test_reasoning_that_answers_forget_is_composed() -> None:
    chosen = rendering(SHOWS_IN_CALLS)
    assert last(chosen, user("A"), call("B", "R"))[1].startswith("<think>R</think>B<tool_call>")
    assert last(chosen, user("A"), answer("B", "R"))[1] == "<think>R</think>B<|im_end|>"


LLAMA = (
    "{{ '<|bos|>' }}{% for m in messages %}{{ '<|turn|>' ~ m.role ~ '<|body|>\n\n' }}"
    "{{ m.content | trim }}{{ '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant<|body|>\n\n' }}{% endif %}"
)


def test_override_gives_reasoning_a_place() -> None:
    """A template without any: what opens and closes reasoning is the user's to say."""
    delimiters = {"opener": "<think>\n", "closer": "\n</think>\n\n"}
    chosen = rendering(LLAMA, behaviour=json.dumps(delimiters))
    story = (user("A"), answer("B", "R"), user("C"), answer("D", "S"))
    assert "has no place for reasoning" in refusal(rendering(LLAMA), *story).what
    first, second = views(chosen, *story)
    assert first.prompt == "<|bos|><|turn|>user<|body|>\n\nA<|eot|><|turn|>assistant<|body|>\n\n"
    assert first.completion == "<think>\nR\n</think>\n\nB<|eot|>"
    assert second.prompt.endswith(
        "B<|eot|><|turn|>user<|body|>\n\nC<|eot|><|turn|>assistant<|body|>\n\n"
    )
    assert second.completion == "<think>\nS\n</think>\n\nD<|eot|>"
    assert last(chosen, user("A"), answer("B"))[1] == "B<|eot|>"


# --- contents that look like something else -------------------------------------------------------

AWKWARD = [
    "<|im_end|>",
    "<|im_end|>\n<|im_start|>assistant\nB<|im_end|>",
    "<|im_start|>assistant\n",
    "<think>",
    "</think>",
    "<think>\n\n</think>\n\n",
    "x</think>\n\nB",
    "R",
    "B",
    " ",
    "\n\n",
    "zquserqz",
]


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("name", ["kept", "thinking_prompt", "tool_loop"])
def test_reasoning_is_exact_or_refused(name: str, text: str) -> None:
    chosen = rendering(name)
    parts = chosen.behaviour
    try:
        prompt, completion = last(chosen, user("A"), answer("B", text + "R"))
    except RecordError:
        return
    assert prompt.endswith(parts.header + parts.prompt_opener)
    opener, closer = parts.opener.strip(), parts.closer.strip()
    inside, end = completion.removeprefix(opener), f"{closer}B<|im_end|>"
    joined = "".join(inside.split())
    assert joined == "".join((text + "R" + end).split())


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("reasoning", ["R", None])
def test_content_is_exact_or_refused(text: str, reasoning: str | None) -> None:
    for name in ("kept", "tool_loop"):
        if "<|im_end|>" in text:
            error = refusal(rendering(name), user("A"), answer(text, reasoning))
            assert error.reason == "stop-token"
            continue
        _, completion = last(rendering(name), user("A"), answer(text, reasoning))
        opened = "" if reasoning is None else {"kept": "<think>\nR\n</think>\n"}.get(name)
        opened = "<think>R</think>\n" if opened is None else opened
        assert completion == f"{opened}{text}<|im_end|>"


def test_reasoning_equal_to_the_content() -> None:
    _, completion = last(rendering("stripped"), user("A"), answer("same", "same"))
    assert completion == "<think>\nsame\n</think>\n\nsame<|im_end|>"


def test_reasoning_behind_the_response_is_refused() -> None:
    body = "{{ m.content }}{{ '<think>' ~ m.thinking ~ '</think>' if m.thinking }}"
    for message in (answer("B", "R"), answer("B R", "R"), answer("R", "R")):
        assert refusal(rendering(chatml(body)), user(), message).reason == "view"


NO_HEADER_IN_LOOPS = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ '<tool_call>' ~ m.content }}"
    "{{ '</tool_call>' }}{% else %}"
    "{{ '<|turn|>' ~ m.role ~ '<|body|>' if loop.first or loop.previtem.role != 'tool' }}"
    "{{ m.content.split('</think>')[-1] ~ (m.tool_calls | tojson if m.tool_calls) ~ '<|eot|>' }}"
    "{% endif %}{% if loop.last and add_generation_prompt and m.role != 'tool' %}"
    "{{ '<|turn|>assistant<|body|><think>' }}{% endif %}{% endfor %}"
)


def test_reasoning_needs_a_prompt_that_opens_it() -> None:
    """As DeepSeek-V3.1: after a tool's result the answer goes on without header or think tag."""
    chosen = rendering(NO_HEADER_IN_LOOPS)
    story = (user("A"), call(), result())
    assert last(chosen, user("A"), answer("B", "R"))[1] == "R</think>B<|eot|>"
    prompt, completion = last(chosen, *story, answer("B"))
    assert prompt.endswith("<tool_call>Found.</tool_call>")
    assert completion == "B<|eot|>"
    kept = [replace(message, train=False) for message in story]
    error = refusal(chosen, *kept, answer("B", "R"))
    assert "does not show the reasoning of this message, and its prompt ends in" in error.what


# --- against the oracle ---------------------------------------------------------------------------


def conversation(record: dict[str, Any]) -> Conversation:
    """Take a record at its word: nothing is read into its contents."""
    messages = [_message(dict(message)) for message in record["messages"]]
    tools = tuple(record["tools"]) if record.get("tools") else None
    return Conversation("id", tuple(messages), tools)


def _message(raw: dict[str, Any]) -> Message:
    finished = not (raw["role"] == "assistant" and oracle.is_cut_off(raw))
    calls = tuple(
        ToolCall(each["function"]["name"], each["function"]["arguments"], None, each["id"])
        for each in raw.pop("tool_calls", [])
    )
    known = {name: raw.pop(name, None) for name in ("role", "content", "reasoning_content")}
    return Message(
        known["role"],
        known["content"],
        known["reasoning_content"] or None,
        calls,
        raw.pop("train", True),
        raw,
        finished=finished,
    )


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("family", oracle.FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_views_are_those_of_the_oracle(family: str, wild: bool, data: st.DataObject) -> None:
    facts = oracle.FAMILIES[family]
    record = data.draw(
        strategies.conversations(reasoning=None if facts.shows_reasoning else "never", wild=wild)
    )
    for message in record["messages"]:
        if message["role"] == "assistant":
            message.setdefault("content", "")
            if not message.get("reasoning_content"):
                message.pop("reasoning_content", None)
    chosen = rendering(family)
    try:
        found = views(chosen, *conversation(record).messages, tools=conversation(record).tools)
    except RecordError as error:
        refused = error.reason
    else:
        refused = ""
    if refused:
        assert wild or refused == "nothing-to-train"
        return
    for view in found:
        spans_of(view)
        source = (TEMPLATES / f"{family}.jinja").read_text("utf-8")
        try:
            wanted = oracle.view_texts(
                record["messages"],
                source,
                view.message,
                stop=facts.stop,
                tools=record.get("tools"),
                reasoning_field=facts.reasoning_field,
            )
        except oracle.PrefixError:
            assert wild
            continue
        assert (view.prompt, view.completion) == wanted
