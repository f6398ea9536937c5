"""Which messages are trained: by their flags, and without one."""

from __future__ import annotations

import pytest
from one_answer import ANSWER, ASK, answer, chat, parse


def test_first_assistant_message_may_be_context() -> None:
    read = parse(chat({**ANSWER, "train": False}, ASK, ANSWER))
    assert [message.train for message in read.messages] == [False, True, True]


@pytest.mark.parametrize("name", ["train", "trainable", "loss", "weight", "loss_weight"])
@pytest.mark.parametrize("value", [True, False, 1, 0, 1.0, 0.0])
def test_flags(name: str, value: float) -> None:
    assert parse(answer(content="4", **{name: value})).messages[1].train is bool(value)


def test_prompt_is_context_unless_a_flag_says_otherwise() -> None:
    prompt = [ASK, ANSWER, ASK, {**ANSWER, "weight": 1}, ASK]
    read = parse({"prompt": prompt, "completion": [ANSWER, ASK, {**ANSWER, "loss": 0}]})
    assert [m.train for m in read.messages] == [True, False, *[True] * 5, False]
