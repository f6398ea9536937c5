"""A field whose value is null, "", [] or {} counts as absent, whatever type it has otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from records_of import ASK, read

from reasonpack.records.unread_fields import MESSAGE_FIELDS

ANSWER = {"role": "assistant", "content": "Answer one."}


@pytest.mark.parametrize("nothing", [None, "", [], {}])
@pytest.mark.parametrize("name", sorted(MESSAGE_FIELDS - {"role", "content"}))
def test_absent_field_of_a_message(name: str, nothing: Any) -> None:
    if name == "value" and nothing in ("", []):
        return  # these are content
    question, answer = read({**ASK, name: nothing}, {**ANSWER, name: nothing}).messages
    assert (question.role, question.content) == ("user", "Ask one.")
    assert (answer.content, answer.reasoning, answer.tool_calls) == ("Answer one.", None, ())
    assert answer.train


@pytest.mark.parametrize("nothing", [None, "", [], {}])
@pytest.mark.parametrize(
    "name",
    [
        *("conversations", "system", "tools", "tool_defs", "images", "chat_template_kwargs"),
        "enable_thinking",
    ],
)
def test_absent_field_of_a_record(name: str, nothing: Any) -> None:
    conversation = read(ASK, ANSWER, **{name: nothing})
    assert len(conversation.messages) == 2
    assert (conversation.tools, dict(conversation.template_kwargs)) == (None, {})
