"""Fields of a record that nothing reads: noticed, harmless, or read where the template asks."""

from __future__ import annotations

from typing import Any

import pytest
from fields_of import ASK, LONG, TOOL, Json, of_answer, of_call, of_record, of_user, read

from reasonpack.records.conversation import parse_row
from reasonpack.records.options import ignored_fields
from reasonpack.records.reading import Reading
from reasonpack.records.unknown import UnknownFieldError

# A record, and what is noted of it.
READ: list[tuple[Json, dict[str, int]]] = [
    (of_answer(think=None, cot="", plan=[], zzz={}), {}),
    (of_answer(usage={"completion_tokens_details": {"reasoning_tokens": 5}}), {}),
    (of_answer(usage={"server_tool_use": {"web_search_requests": 1}, "tool_turns": [5]}), {}),
    (of_record(token_usage={"input_tokens": [12, 30], "output_tokens": [5, 6]}), {}),
    (of_answer(name="bot", id="m1", metadata={"source": "x"}, timestamp=5), {}),
    (of_answer(text="4"), {}),
    (of_answer(reasoning=LONG, rationale=LONG[:41]), {}),
    (of_call(index=0, id="c1"), {}),
    (of_call(function={"description": "d", "strict": True}), {}),
    (of_answer(content=[{"type": "text", "text": "4", "cache_control": {"type": "x"}}]), {}),
    (of_record(score=3, reasoning="on", thinking_budget=100), {
        "unread record.reasoning": 1, "unread thinking_budget": 1}),
    (of_record(thinking={"type": "enabled", "budget_tokens": 9}, reasoning={"effort": "high"}), {
        "unread record.thinking": 1, "unread record.reasoning": 1}),
    (of_record(metadata={"reason_low": {"count": 7}, "reasoning": "low"}), {}),
    ({"prompt": "2+2?", "completion": "4", "reasoning": "off"}, {"unread record.reasoning": 1}),
    (of_answer(temperature=0.6, top_p=1.0, token_counter=31), {}),
    (of_record(label=True, input="2+2?", output="5", answer="4"), {}),
    ({"prompt": "2+2?", "instruction": "2+2?", "history": [], "completion": "4"}, {}),
    (of_record(train=True, loss=0.5), {"unread record.train": 1, "unread record.loss": 1}),
    (of_record(cot="Add."), {"unread cot": 1}),
    (of_record(constraints=["one word"], glossary=["word"]), {"unread glossary": 1}),
    (of_record(metadata={"prompt": LONG, "content": LONG}), {}),
    (of_record(extra_info={"split": "train", "q": LONG}), {"unread extra_info": 1}),
    (of_record(thinking_of=LONG, messages=[
        ASK, {"role": "assistant", "content": "4", "reasoning": LONG}]), {}),
    (of_user(cot=LONG, mood="good"), {"unread cot": 1, "unread mood": 1}),
    (of_user(tool_call_ids=["a"], name="b"), {}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "notes"), READ)
def test_the_rest_is_named_or_harmless(record: Json, notes: dict[str, int]) -> None:
    assert read(record).notes == notes


def test_what_the_template_asks_for_is_read() -> None:
    record = of_answer(tool_plan="First f.", citations=[1])
    message = read(record, Reading(asked=frozenset({"tool_plan"}))).messages[1]
    assert message.extra["tool_plan"] == "First f."
    with pytest.raises(UnknownFieldError, match="tool_plan"):
        read(record)


def test_a_field_of_a_call_that_the_template_would_show_is_not_harmless() -> None:
    function = {"name": "f", "arguments": {}, "id": "a", "status": "done", "type": None}
    record = of_answer(tool_calls=[{"id": "a", "index": 0, "function": function}])
    assert read(record).notes == {"no-tools": 1}
    dumped = frozenset({"tool_calls.function"})
    with pytest.raises(UnknownFieldError) as caught:
        read(record, Reading(dumped=dumped))
    names = ["tool_calls.function.id", "tool_calls.function.status"]
    assert [each.name for each in caught.value.fields] == names
    found = read(record, Reading(dumped=dumped, ignored=frozenset(names)))
    assert sorted(found.notes) == [*(f"left-out {name}" for name in names), "no-tools"]


def test_ignoring_a_name_leaves_what_is_read_under_it_elsewhere() -> None:
    parts = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "4", "thinking": "x"},
    ]
    record = of_record(tools=[TOOL], messages=[
        ASK, {"role": "assistant", "content": parts, "tools": False}])  # fmt: skip
    conversation = read(
        record, Reading(ignored=ignored_fields(["message.tools", "content.thinking"]))
    )
    assert conversation.tools == (TOOL,)
    assert conversation.messages[1].reasoning == "Hm."


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (of_record(reasoning=LONG), "record.reasoning"),
        (of_record(reasoning_details=[{"text": LONG}]), "record.reasoning_details"),
        (of_answer(tools=[TOOL]), "message.tools"),
        (of_answer(system="Be brief."), "message.system"),
    ],
)
def test_what_is_read_elsewhere_is_named_with_its_place(record: Json, name: str) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(record)
    assert caught.value.fix == f"pass --ignore-fields {name} to leave it out"
    assert read(record, Reading(ignored=ignored_fields([name]))).notes == {f"left-out {name}": 1}


def test_reasoning_of_a_user_is_not_to_be_read_as_such() -> None:
    message = {**ASK, "reasoning_contnet": LONG}
    with pytest.raises(UnknownFieldError) as caught:
        read(of_record(messages=[message, {"role": "assistant", "content": "4"}]))
    assert caught.value.fix == "pass --ignore-fields reasoning_contnet to leave it out"


def test_leaving_out_calls_is_named_with_what_it_trains() -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(of_answer(function_calls="f()"))
    assert caught.value.fix == (
        "pass --ignore-fields function_calls to leave it out (an answer whose call is left out is "
        "trained to end before it)"
    )


@pytest.mark.parametrize(
    ("field", "refused"),
    [
        ({"metadata": {"train": False}}, True),
        ({"metadata": {"loss_mask": 0}}, True),
        ({"metadata": {"reasoning_content": "R"}}, True),
        ({"usage": {"reasoning_tokens": 0, "reasoning": 7}}, False),
        ({"metadata": {"train": True, "model": "m"}}, False),
    ],
)
def test_a_known_name_within_a_harmless_field_is_seen(field: dict[str, Any], refused: bool) -> None:
    answer = {"role": "assistant", "content": "B", **field}
    record = {"messages": [{"role": "user", "content": "A"}, answer]}
    if not refused:
        parse_row(record, "here:1")
        return
    with pytest.raises(UnknownFieldError):
        parse_row(record, "here:1")
