"""Fields of a record that describe its last answer are read as fields of that answer."""

from __future__ import annotations

from typing import Any

import pytest

from reasonpack.records.last_answer import with_answer

ASK, ANSWER = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
THREE_OR_FOUR = {"generations": ["3", "4"], "finish_reasons": ["stop", "length"]}
LENGTH = {"finish_reason": "length"}
CUT = {**ANSWER, **LENGTH}


@pytest.mark.parametrize(
    ("container", "record", "answer"),
    [
        ("completion", {"completion": "4", "finish_reasons": ["length", "length"]}, CUT),
        ("completion", {"completion": "4", **THREE_OR_FOUR}, CUT),
        ("messages", {"messages": [ASK, ANSWER], **THREE_OR_FOUR}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "finish_reason": "length"}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "status": "Truncated"}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "is_truncated": True}, CUT),
        ("messages", {"messages": [ASK, CUT], "finish_reason": "stop"}, CUT),
        *(
            ("messages", {"messages": [ASK, {**CUT, "finish_reason": none}], **LENGTH}, CUT)
            for none in (None, "", [], {})
        ),
        ("messages", {"messages": [ASK], "thought": "Easy.", "answer": "4"}, {"thought": "Easy."}),
        (
            "conversations",
            {"conversations": [{"from": "gpt", "value": "4"}], **THREE_OR_FOUR},
            {"from": "gpt", "value": "4", "finish_reason": "length"},
        ),
    ],
)
def test_it_is_in_the_answer(container: str, record: Any, answer: dict[str, Any]) -> None:
    read, used = with_answer(record, container)
    assert read[container][-1].items() >= answer.items()
    assert used or answer is CUT
    if container == "messages":
        assert read[container][0] == ASK


@pytest.mark.parametrize(
    ("container", "record"),
    [
        ("completion", {"completion": "5", **THREE_OR_FOUR}),
        ("completion", {"completion": "4", **THREE_OR_FOUR, "generations": ["4"]}),
        ("completion", {"completion": "4", "finish_reasons": []}),
        ("completion", {"completion": "4", "finish_reasons": [3]}),
        ("completion", {"completion": "4", "finish_reasons": "length"}),
        ("completion", {"completion": "4", "finish_reasons": {"first": "length"}}),
        ("completion", {"completion": 4, "reasoning": "Easy."}),
        ("completion", {"completion": "4", "reasoning": ""}),
        ("completion", {"completion": "4", "reasoning": "off"}),
        ("messages", {"messages": [ASK], "thinking": "High", "answer": "4"}),
        ("completion", {"completion": "4", "reasoning": ["Easy."]}),
        ("completion", {"completion": [], "reasoning": "Easy.", "answer": "4"}),
        ("completion", {"completion": ["4"], "reasoning": "Easy.", "answer": "4"}),
        ("messages", {"messages": "[]", "reasoning": "Easy.", "answer": "4"}),
        ("messages", {"messages": [ASK], "finish_reason": "stop", "answer": "4"}),
        ("messages", {"messages": [ASK], "reasoning": "Easy.", "answer": 4}),
        ("messages", {"messages": [ANSWER, ASK], "reasoning": "Easy.", "answer": "4"}),
    ],
)
def test_it_stays_where_it_says_nothing_of_one_answer(container: str, record: Any) -> None:
    assert with_answer(record, container) == (record, frozenset())
