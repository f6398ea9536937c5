"""Messages of one answer: what they say of it has to agree; and what text cannot hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from records_of import ASK, read, refused

from reasonpack.records.conversation import parse_line
from reasonpack.records.draft import MEDIA_FIELDS
from tests.records.test_dialects import ANSWER, RESULT, THINK, WITH_CALL


@pytest.mark.parametrize(
    "flags", [({"loss": 0}, {}), ({}, {"train": False}), ({"loss": 1}, {"loss": 0})]
)
def test_flags_of_one_answer_have_to_agree(flags: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = flags
    alone = {"role": "assistant", "content": THINK, **first}
    error = refused(ASK, alone, {**WITH_CALL["tool_call"], **second})
    assert (error.reason, error.path) == ("conflict", "messages[2]")
    # What the fix says ends it.
    same = {"train": False}
    alone, call = {"role": "assistant", "content": THINK, **same}, WITH_CALL["tool_call"] | same
    assert not read(ASK, alone, call).messages[1].train


def test_flags_agree_by_what_holds_without_one() -> None:
    alone, call = {"role": "assistant", "content": THINK}, WITH_CALL["tool_call"]
    record = {"prompt": [ASK, alone, {**call, "loss": 0}, RESULT], "completion": "Answer one."}
    conversation = parse_line(json.dumps(record).encode(), "x:1")
    assert [m.train for m in conversation.messages] == [True, False, True, True]
    assert conversation.sources == (0, 1, 3, 4)


@pytest.mark.parametrize("name", MEDIA_FIELDS)
def test_media_beside_the_messages_are_refused(name: str) -> None:
    error = refused(ASK, ANSWER, **{name: ["a.png"]})
    assert (error.reason, error.path) == ("media", name)
