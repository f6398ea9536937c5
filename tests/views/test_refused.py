"""Each refusal of a message says what was found, and following its advice makes it go away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views
from tests.changed import replace
from tests.views.test_completion import ASK, BY_ID, SHOWS, SWITCHED, chatml, rendering

Story = tuple[Message, ...]
CALL = ToolCall("look_up", {"key": "it"}, None, "c1")
BEFORE = (ASK, Message("assistant", "Z"), Message("user", "Q"))


class Refusal(NamedTuple):
    """A template, the message that it refuses, what is said, and what the fix says to do."""

    source: str
    message: Message
    what: str
    mend: Callable[[Message], Message]
    before: Story = BEFORE
    shown: bool = True  # the template shows it as context


def said(role: str, content: str) -> Message:
    return Message(role, content)


def no_reasoning(message: Message) -> Message:
    return replace(message, reasoning=None)


def context(message: Message) -> Message:
    return replace(message, train=False)


NAMES = (
    "{{ m.content }}{% for c in (m.tool_calls or [])[:1] %}{{ '<|call|>' ~ c.function | tojson }}"
)
ONE_CALL = chatml(NAMES + "{% endfor %}")
NO_TEXT = chatml(NAMES.replace("m.content", "m.content if not m.tool_calls") + "{% endfor %}")
TWO = (CALL, ToolCall("add", {"n": 1}, None, "c2"))
SHORT = chatml("{{ m.content ~ (' (short)' if m.content == 'B') }}")
UPPER = chatml("{{ m.content | replace('B', 'b') }}")
SPOKEN = SHOWS.replace("m.content }}", "'' if m.role == 'developer' else m.content }}")

REFUSALS = {
    "no place for reasoning": Refusal(
        chatml(), Message("assistant", "B", "R"), "has no place for reasoning", no_reasoning
    ),
    "an id without the name": Refusal(
        BY_ID,
        Message("assistant", None, None, (CALL,)),
        "and not the tool's name",
        lambda message: replace(message, tool_calls=(replace(CALL, id="functions.look_up:0"),)),
    ),
    "two calls where one is shown": Refusal(
        ONE_CALL,
        Message("assistant", None, None, TWO),
        "does not show all calls of this message (look_up, add)",
        context,
        shown=False,
    ),
    "two calls of tools with names that are in all texts": Refusal(
        ONE_CALL,
        Message("assistant", None, None, (replace(CALL, name="a"), replace(CALL, name="a"))),
        "does not show all calls of this message (a, a)",
        context,
        shown=False,
    ),
    "text beside a call": Refusal(
        NO_TEXT,
        Message("assistant", "B", None, (CALL,)),
        "does not show the text beside a call",
        context,
        shown=False,
    ),
    "a call that is not shown": Refusal(
        chatml(),
        Message("assistant", "B", None, (CALL,)),
        "this message's call of",
        context,
        shown=False,
    ),
    "an answer that is altered": Refusal(
        UPPER, said("assistant", "B"), "the content", context, shown=False
    ),
    "an answer with more": Refusal(
        SHORT, said("assistant", "B"), "exactly this message after", context
    ),
    "a call cut off": Refusal(
        SHOWS, Message("assistant", "B", None, (CALL,), finished=False), "cut off", context
    ),
    "a stop inside": Refusal(
        SHOWS,
        said("assistant", "x <|im_end|> y"),
        "'<|im_end|>' stands in the content",
        lambda message: said("assistant", "x < |im_end|> y"),
    ),
    "a stop inside the name of a call": Refusal(
        SHOWS,
        Message("assistant", "B", None, (replace(CALL, name="f<|im_end|>"),)),
        "'<|im_end|>' stands in the tool_calls",
        lambda message: replace(message, tool_calls=(CALL,)),
    ),
    "reasoning behind a closed block": Refusal(
        SWITCHED,
        Message("assistant", "B", "R"),
        "and reasoning follows",
        context,
        before=(said("system", "/no_think"), *BEFORE),
    ),
}


def build(source: str, story: Story, **changes: Any) -> int:
    chosen: Rendering = rendering(source, **changes)
    return len(build_views(Conversation("id", story), chosen))


@pytest.mark.parametrize("name", REFUSALS)
def test_a_message_is_refused_and_mended(name: str) -> None:
    row = REFUSALS[name]
    with pytest.raises(RecordError) as caught:
        build(row.source, (*row.before, row.message))
    error = caught.value
    assert error.path == f"messages[{len(row.before)}]"
    assert row.what in error.what
    trained = build(row.source, (*row.before, row.mend(row.message)))
    assert trained == (1 if row.mend is context else 2)
    if row.shown and "--on-message-error context" in error.fix:
        assert build(row.source, (*row.before, row.message), on_message_error="context") == 1


def test_a_message_of_the_context_that_is_not_shown() -> None:
    story = (ASK, said("developer", "Be brief."), said("assistant", "B"))
    with pytest.raises(RecordError) as caught:
        build(SPOKEN, story)
    assert caught.value.path == "messages[1]"
    assert "does not show the content of this developer message" in caught.value.what
    assert "train" not in caught.value.fix  # which changes nothing for it
    assert build(SPOKEN, (ASK, said("system", "Be brief."), said("assistant", "B"))) == 1
    assert build(SPOKEN, (ASK, said("assistant", "B"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "system\nBe brief.\nuser\nQ\nassistant\n",
        "user\nQ\nassistant\n<think>\n",
    ],
)
def test_a_prompt_that_a_template_wrote_is_no_text_of_a_user(text: str) -> None:
    with pytest.raises(RecordError, match="a chat template wrote it") as caught:
        build(SHOWS, (*BEFORE, said("user", text), said("assistant", "B")))
    assert caught.value.path == "messages[3].content"
    assert build(SHOWS, (*BEFORE, said("user", "Q"), said("assistant", "B"))) == 2


@pytest.mark.parametrize("text", ["Ask my\nassistant", "user\nan assistant", "<|im_start|>"])
def test_other_texts_are_no_prompt_that_a_template_wrote(text: str) -> None:
    assert build(SHOWS, (said("user", text), said("assistant", "B"))) == 1


def test_an_answer_that_lacks_reasoning_may_be_an_error() -> None:
    story = (ASK, said("assistant", "B"), ASK, Message("assistant", "C", "R"))
    opens = chatml(opens="<think>")
    with pytest.raises(RecordError, match="expected some") as caught:
        build(opens, story, missing_reasoning="error")
    assert "--missing-reasoning skip-loss" in caught.value.fix
    assert build(opens, story, missing_reasoning="skip-loss") == 1


def test_a_tool_result_that_the_template_drops() -> None:
    """A template that shows results may change them; one that drops them would lose them."""
    called, result = Message("assistant", "", None, (CALL,)), said("tool", "Nobody.")
    shows = NAMES + "{% endfor %}"
    drops = shows.replace("m.content }}", "m.content if m.role != 'tool' }}", 1)
    with pytest.raises(RecordError) as caught:
        build(chatml(drops), (ASK, called, result, said("assistant", "B")))
    assert caught.value.path == "messages[2]"
    assert "does not show the content of this tool message" in caught.value.what
    assert "--role tool=user" in caught.value.fix
    assert build(chatml(drops), (ASK, called, said("user", "Nobody."), said("assistant", "B"))) == 2
    changes = shows.replace("m.content }}", "m.content | replace('Nobody', 'No one') }}", 1)
    assert build(chatml(changes), (ASK, called, result, said("assistant", "B"))) == 2


def test_answers_that_later_prompts_lack_are_counted_once() -> None:
    """Those that are trained would be refused; what stays context by choice is counted."""
    called = Message("assistant", "Soon.", None, (CALL,), train=False)
    story = (
        ASK,
        called,
        said("tool", "Nobody."),
        said("assistant", "B"),
        ASK,
        said("assistant", "C"),
    )

    def hidden(source: str) -> list[int]:
        conversation = Conversation("id", story)
        return [view.hidden for view in build_views(conversation, rendering(source))]

    assert hidden(SHOWS) == [0, 0]
    assert hidden(chatml()) == [1, 0]  # no calls
    assert hidden(NO_TEXT) == [1, 0]
