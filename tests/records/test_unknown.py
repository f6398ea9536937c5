"""Fields that nobody reads: refused where they may be signal, named once elsewhere."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from reasonpack.errors import RecordError, UsageError
from reasonpack.records.conversation import Conversation, parse_line, parse_row
from reasonpack.records.options import ignored_fields, renamed_fields
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.unknown import INSTRUCTED, Field, UnknownFieldError, together
from reasonpack.wording import nearest

Json = dict[str, Any]
LONG = "Two and two make four, as everybody knows."
ASK = {"role": "user", "content": "2+2?"}


def read(record: Json, reading: Reading = DEFAULT) -> Conversation:
    return parse_line(json.dumps(record).encode(), "a.jsonl:1", reading=reading)


def of_answer(**fields: Any) -> Json:
    return {"messages": [ASK, {"role": "assistant", "content": "4", **fields}]}


def of_user(**fields: Any) -> Json:
    return {"messages": [{**ASK, **fields}, {"role": "assistant", "content": "4"}]}


def of_record(**fields: Any) -> Json:
    return {**of_answer(), **fields}


def of_call(**fields: Any) -> Json:
    function = {"name": "f", "arguments": {}, **fields.pop("function", {})}
    answer = of_answer(tool_calls=[{"type": "function", "function": function, **fields}])
    return {**answer, "tools": [TOOL]}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}

# A record, and the names of its fields that are refused, each with the known one it is like.
REFUSED: list[tuple[Json, dict[str, str]]] = [
    # On an answer everything that is not harmless.
    (of_answer(think="a"), {"think": "reasoning_content"}),
    (of_answer(thoughts="a"), {"thoughts": "thought"}),
    (of_answer(cot="a"), {"cot": "reasoning_content"}),
    (of_answer(tool_uses=[{"name": "f", "arguments": {}}]), {"tool_uses": "tool_calls"}),
    (of_answer(function_calls="f()"), {"function_calls": ""}),
    (of_answer(reasoning_contnet="a"), {"reasoning_contnet": "reasoning_content"}),
    (of_answer(thoughts=["a"]), {"thoughts": ""}),
    (of_answer(masked=0), {"masked": ""}),
    (of_answer(train_on=0), {"train_on": "train"}),
    (of_answer(zzz=False), {"zzz": ""}),
    (of_answer(refusal="I cannot."), {"refusal": ""}),
    (of_answer(cot="a", plan="b"), {"cot": "reasoning_content", "plan": ""}),
    # Inside of it likewise.
    (of_call(result="5"), {"tool_calls.result": ""}),
    (of_call(function={"thought": "a"}), {"tool_calls.function.thought": ""}),
    (
        {"tools": [TOOL], **of_answer(function_call={"name": "f", "arguments": {}, "why": "a"})},
        {"function_call.why": ""},
    ),
    (
        of_answer(content=[{"type": "text", "text": "4", "thinking": "easy"}]),
        {"content.thinking": ""},
    ),
    (of_answer(provider_specific_fields={"cot": "a"}), {"provider_specific_fields.cot": ""}),
    (
        of_answer(additional_kwargs={"reasoning_content": "a", "refusal": None}),
        {"additional_kwargs.reasoning_content": "reasoning_content"},
    ),
    (of_answer(metadata={"thinking": LONG}), {"metadata.thinking": "thinking"}),
    # Elsewhere what could be signal under a name near a known one.
    (of_record(tool=[TOOL]), {"tool": "tools"}),
    (of_record(agent_tools=[TOOL]), {"agent_tools": "tools"}),
    (of_record(metadata={"tools": [TOOL]}), {"metadata.tools": "tools"}),
    (of_record(loss_masks=[1, 0]), {"loss_masks": ""}),
    (of_record(thoughts=LONG), {"thoughts": ""}),
    (of_record(reasoning=LONG), {"record.reasoning": ""}),
    (of_record(reasoning={"type": "text", "text": "Easy."}), {"record.reasoning": ""}),
    (of_record(mesages=["a"]), {"mesages": ""}),
    (of_user(contnet=LONG), {"contnet": ""}),
    (of_user(reasoning_steps=["a"]), {"reasoning_steps": ""}),
    ({"prompt": [ASK], "completion": [{"role": "assistant", "content": "4"}], "thought": "a"},
     {"record.thought": ""}),
    ({"prompt": "2+2?", "completion": "4", "cot": "Add."}, {"cot": "reasoning_content"}),
    ({"prompt": "2+2?", "completion": "4", "Complex_CoT": "Add."},
     {"Complex_CoT": "reasoning_content"}),
    ({"prompt": "2+2?", "completion": "4", "thoughts": "Add."}, {"thoughts": "reasoning_content"}),
    ({"prompt": "2+2?", "completion": "4", "train": False}, {"record.train": ""}),
    (of_record(train=0), {"record.train": ""}),
    (of_record(label=False), {"label": ""}),
    *(
        ({"messages": [ASK, {"role": "assistant", "content": "4"}, ASK], name: "5"}, {name: ""})
        for name in ("answer", "output", "response", "chosen")
    ),
    ({"prompt": "Say it.", "completion": "4", "kto_tag": False}, {"kto_tag": ""}),
    *((of_record(**{name: "Be brief."}), {name: "system"}) for name in sorted(INSTRUCTED)),
    (of_record(instructions=["Be brief."]), {"instructions": ""}),
    ({"prompt": "Add.", "input": "2+2", "completion": "4"}, {"input": ""}),
    ({"prompt": "2+2?", "history": [["1+1?", "2"]], "completion": "4"}, {"history": ""}),
    ({"prompt": "Go.", "instruction": "Add.", "query": "2+2", "completion": "4"},
     {"instruction": "", "query": ""}),
    (of_record(loss="false"), {"record.loss": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "names"), REFUSED, ids=",".join)
def test_what_may_be_signal_is_refused(record: Json, names: dict[str, str]) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(record)
    found = {field.name: field.near for field in caught.value.fields}
    assert found.keys() == names.keys()
    for name, near in names.items():
        if near:
            assert found[name] == near


@pytest.mark.parametrize(("record", "names"), REFUSED, ids=",".join)
def test_ignoring_a_field_that_is_refused_helps(record: Json, names: dict[str, str]) -> None:
    assert read(record, Reading(ignored=frozenset(names))).notes == {
        f"left-out {name}": 1 for name in names
    }


@pytest.mark.parametrize(("record", "_"), REFUSED, ids=",".join)
def test_every_name_that_the_fix_gives_can_be_read(record: Json, _: object) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(record)
    renamed = {field.name: field.near for field in caught.value.fields if field.near}
    for name, known in renamed.items():
        assert f"--field {name}={known}" in caught.value.fix
        others = frozenset(caught.value.fields[n].name for n in range(len(caught.value.fields)))
        parsed = renamed_fields([f"{name}={known}"])
        read(record, Reading(renamed=parsed, ignored=others - {name}))


# A field that is refused, beside others of its answer; and whether the fix offers to read it.
OFFERED: list[tuple[Json, str, bool]] = [
    ({"cot": "a"}, "cot", True),
    ({"cot": "a", "reasoning": "b"}, "cot", False),
    ({"reasoning_contnet": "a", "thought": "b"}, "reasoning_contnet", False),
    ({"content": "<think>in</think>B", "cot": "a"}, "cot", False),
    ({"content": "in\n</think>\nB", "cot": "a"}, "cot", False),
    ({"content": [{"type": "thinking", "thinking": "in"}], "cot": "a"}, "cot", False),
    ({"cot": "a", "rationale": "b"}, "rationale", False),
    ({"comment": "a"}, "comment", False),
    ({"compute_loss": 0}, "compute_loss", True),
    ({"compute_loss": 0, "trainable": 1}, "compute_loss", False),
    ({"no_loss": True}, "no_loss", False),
    ({"skip_train": 1}, "skip_train", False),
    ({"loss_masked": True}, "loss_masked", False),
    ({"exclude_from_training": True}, "exclude_from_training", False),
    ({"content": None, "text": "a"}, "text", True),
]


@pytest.mark.parametrize(("fields", "name", "offered"), OFFERED)
def test_the_fix_offers_only_names_that_are_free_and_mean_the_same(
    fields: Json, name: str, offered: bool
) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(of_answer(**fields))
    assert (f"--field {name}=" in caught.value.fix) is offered


@pytest.mark.parametrize(
    ("record", "fix"),
    [
        (of_user(content=None, contnet="2+2?"), "contnet=content"),
        ({"messages": [{"rol": "user", "content": "2+2?"}, *of_answer()["messages"]]}, "rol=role"),
        ({"mesages": of_answer()["messages"]}, "mesages=messages"),
    ],
)
def test_what_is_missing_under_a_misspelt_name_is_read_as_the_fix_says(
    record: Json, fix: str
) -> None:
    with pytest.raises(RecordError) as caught:
        read(record)
    assert f"--field {fix}." in caught.value.fix
    assert read(record, Reading(renamed=renamed_fields([fix]))).messages[0].content == "2+2?"


# A record, and what is noted of it.
READ: list[tuple[Json, dict[str, int]]] = [
    (of_answer(think=None, cot="", plan=[], zzz={}), {}),
    (of_answer(usage={"completion_tokens_details": {"reasoning_tokens": 5}}), {}),
    (of_answer(usage={"server_tool_use": {"web_search_requests": 1}, "tool_turns": [5]}), {}),
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


def test_all_fields_of_a_record_are_named_at_once() -> None:
    record = {"tool": [TOOL], "prompt": [{**ASK, "thoughts": [1]}], "completion": [
        {"role": "assistant", "content": "4", "cot": "a", "plan": "b"}]}  # fmt: skip
    with pytest.raises(UnknownFieldError) as caught:
        read(record)
    assert [field.name for field in caught.value.fields] == ["tool", "thoughts", "cot", "plan"]
    assert caught.value.where == "a.jsonl:1"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unknown_fields_are_named_before_what_else_is_wrong() -> None:
    record = {"messages": [ASK, {"role": "assistant", "contnet": "4"}]}
    with pytest.raises(UnknownFieldError, match=r"--field contnet=content"):
        read(record)
    assert read(record, Reading(renamed={"contnet": "content"})).messages[1].content == "4"


def test_fields_of_several_records_are_counted_by_name() -> None:
    errors = [
        UnknownFieldError([Field("a", "messages[1].a", True, where=f"x:{n}")]) for n in (3, 5)
    ]
    errors.append(UnknownFieldError([Field("two words", "b", True, "tools", where="y:1")]))
    both = together([*errors, together(errors)])
    assert [(f.name, f.count, f.where) for f in both.fields] == [
        ("a", 4, "x:3"),
        ("two words", 2, "y:1"),
    ]
    assert str(both) == (
        "x:3: messages[1].a: fields that are not read and may hold what the model is to learn, "
        "expected none: 'a' (4 times), 'two words' (2 times, like tools). Fix: pass --field "
        "'two words=tools' to read 'two words', and --ignore-fields a to leave the others out."
    )


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


def test_renaming() -> None:
    reading = Reading(renamed=renamed_fields(["a.b=reasoning", "defs=tools", "cot=reasoning"]))
    answer = {"role": "assistant", "content": "4", "metadata": {"x": 1}, "a": {"b": "easy"}}
    record = of_record(defs=[TOOL], messages=[ASK, answer])
    conversation = read(record, reading)
    assert conversation.tools == (TOOL,)
    assert conversation.messages[1].reasoning == "easy"


@pytest.mark.parametrize("name", ["reasoning", "tools", "content", "reasoning_details", "weight"])
def test_ignoring_what_is_read_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: is read, .* Fix: .* message.{name} or record"):
        ignored_fields([name])


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
    assert caught.value.fix == f"pass --ignore-fields {name} to leave it out."
    assert read(record, Reading(ignored=ignored_fields([name]))).notes == {f"left-out {name}": 1}


def test_reasoning_of_a_user_is_not_to_be_read_as_such() -> None:
    message = {**ASK, "reasoning_contnet": LONG}
    with pytest.raises(UnknownFieldError) as caught:
        read(of_record(messages=[message, {"role": "assistant", "content": "4"}]))
    assert caught.value.fix == "pass --ignore-fields reasoning_contnet to leave it out."


def test_leaving_out_calls_is_named_with_what_it_trains() -> None:
    with pytest.raises(UnknownFieldError) as caught:
        read(of_answer(function_calls="f()"))
    assert caught.value.fix == (
        "pass --ignore-fields function_calls to leave it out (an answer whose call is left out is "
        "trained to end before it)."
    )


def test_renaming_to_what_is_there_is_refused() -> None:
    reading = Reading(renamed={"cot": "reasoning"})
    assert read(of_answer(cot="a", reasoning="a"), reading).messages[1].reasoning == "a"
    with pytest.raises(RecordError, match=r"messages\[1\]\.cot: it cannot be read as reasoning"):
        read(of_answer(cot="a", reasoning="b"), reading)


@pytest.mark.parametrize("pair", ["cot", "=reasoning", "cot=reson", "cot="])
def test_renaming_to_what_is_not_read_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=r"--field: .*, expected NAME=KNOWN with one of"):
        renamed_fields([pair])


def test_the_error_of_a_misspelt_name_offers_the_known_one() -> None:
    with pytest.raises(
        UsageError, match=r"--field: cot=reasonning, expected cot=reasoning\. Fix: "
    ):
        renamed_fields(["cot=reasonning"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("reasonning", "reasoning"), ("thougth", "thought"), ("tols", "tools"), ("tool", "tools"),
     ("id", ""), ("topic", ""), ("turns", ""), ("Reasoning", "reasoning")],
)  # fmt: skip
def test_the_nearest_name(name: str, expected: str) -> None:
    assert nearest(name, ["reasoning", "thought", "tools", "train", "role"]) == expected


def test_an_error_lists_so_many_names() -> None:
    error = UnknownFieldError([Field(f"f{n}", "a", True) for n in range(103)])
    assert "'f99' (1 time) and 3 more" in str(error)
    assert "f100" not in str(error)


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
