"""Which answers are trained, which parts of them, and where these stand."""

from __future__ import annotations

import pytest
from stories import answer, call, rendering, result, user

from reasonpack.errors import RecordError, UsageError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.views.chosen import PARTS, Chosen, read_train_on, written
from reasonpack.views.view import build_views
from tests.changed import replace

STORY = (user("A"), answer("B", "R"), user("C"), call("Look", "S"), result(), answer("D"))


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("all", [1, 3, 5]),
        ("last-turn", [3, 5]),
        ("last-message", [5]),
        ("reasoning", [1, 3]),
        ("response", [1, 3, 5]),
        ("tool-calls", [3]),
        ("last-turn,reasoning", [3]),
        ("last-message,response", [5]),
        ("reasoning,response,tool-calls", [1, 3, 5]),
    ],
)
def test_answers_are_chosen(train_on: str, expected: list[int]) -> None:
    assert read_train_on(train_on).messages(STORY) == expected


@pytest.mark.parametrize("train_on", ["last-turn", "last-message"])
def test_a_flag_of_a_message_wins(train_on: str) -> None:
    flagged = (*STORY[:1], replace(STORY[1], flagged=True), *STORY[2:])
    assert 1 in read_train_on(train_on).messages(flagged)
    silent = (*STORY[:5], replace(STORY[5], train=False))
    assert 5 not in read_train_on(train_on).messages(silent)


def parts(train_on: str, *story: Message, template: str = "tool_loop") -> list[str]:
    """The text that is trained of the last view."""
    conversation = Conversation("id", story)
    view = build_views(conversation, rendering(template), train_on=train_on)[-1]
    text = view.prompt + view.completion
    begin, found = len(view.prompt), []
    for span in view.spans:
        if span.stop > begin:
            found += [text[begin : span.stop]] if span.trained else []
            begin = span.stop
    return found


THOUGHT, TEXT = "<think>S</think>\n", "Look"


def test_parts_by_hand() -> None:
    story = (user("A"), call("Look", "S"))
    (calls,) = parts("tool-calls", *story)
    assert calls.startswith("<tool_call>")
    assert calls.endswith("</tool_call><|im_end|>")
    assert parts("reasoning", *story) == [THOUGHT]
    assert parts("response", *story) == [TEXT]
    assert parts("reasoning,tool-calls", *story) == [THOUGHT, calls]
    assert parts("response,tool-calls", *story) == [TEXT + calls]
    assert parts("all", *story) == [THOUGHT, TEXT + calls]


def test_line_breaks_behind_reasoning_in_the_content_are_as_many_as_it_has() -> None:
    thinks = replace(call("", "S"), verbatim="<think>S</think>\n\n")
    (calls,) = parts("tool-calls", user("A"), thinks, template="plain")
    assert calls.startswith("\n<tool_call>")
    assert parts("reasoning", user("A"), thinks, template="plain") == ["<think>S</think>\n\n"]


def test_reasoning_in_the_content_ends_at_the_tag_that_was_read_as_its_end() -> None:
    reading = {"reasoning": "S</think>", "verbatim": "<think>S</think></think>\nB"}
    thinks = replace(answer("B", "S"), **reading)
    assert parts("response", user("A"), thinks, template="plain") == ["B<|im_end|>"]
    (thought,) = parts("reasoning", user("A"), thinks, template="plain")
    assert thought == "<think>S</think></think>\n"


def test_the_stop_is_of_the_last_part() -> None:
    assert parts("response", user("A"), answer("B", "R")) == ["B<|im_end|>"]
    (calls,) = parts("tool-calls", user("A"), call(None, "S"))
    assert calls.startswith("<tool_call>")
    assert calls.endswith("<|im_end|>")


def test_parts_that_cannot_be_told_apart_are_refused() -> None:
    """Where calls stand before the text; what does not divide them is as it was."""
    story, text = (user("A"), call("Look")), "<call>look_up</call>Look<|im_end|>"
    for train_on in ("response", "reasoning,tool-calls"):
        with pytest.raises(RecordError, match="tool calls that do not follow the text") as error:
            read_train_on(train_on).stretches(text, story, 1, 0)
        assert error.value.path == "messages[1]"
    for train_on in ("all", "reasoning", "response,tool-calls"):
        assert read_train_on(train_on).stretches(text, story, 1, 0)


def test_an_answer_whose_parts_are_not_shown_is_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template without a place for reasoning, and reasoning that it leaves out."""
    assert not any(trained for _, trained in read_train_on("reasoning").stretches("B", STORY, 1, 0))
    right = Chosen.stretches
    monkeypatch.setattr(Chosen, "stretches", lambda self, *each: right(self, *each[:3], 0))
    with pytest.raises(RecordError, match="none of the parts to train") as error:
        parts("reasoning", user("A"), answer("B", "R"))
    assert error.value.reason == "nothing-to-train"


@pytest.mark.parametrize("text", ["", "none", "all,last-turn", "reasoning,reasoning", "all;x"])
def test_other_values_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--train-on"):
        read_train_on(text)


def test_it_is_written_in_one_way() -> None:
    assert (
        written(read_train_on("tool-calls, last-turn,reasoning"))
        == "last-turn,reasoning,tool-calls"
    )
    assert written(read_train_on(",".join(PARTS))) == "all"
