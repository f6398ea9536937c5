"""Fields that nobody reads: refused where they may be signal, named once elsewhere."""

from __future__ import annotations

import pickle

import pytest
from fields_of import ASK, LONG, TOOL, Json, of_answer, of_call, of_record, of_user, read

from reasonpack.errors import RecordError
from reasonpack.records.options import renamed_fields
from reasonpack.records.reading import Reading
from reasonpack.records.unknown import INSTRUCTED, Field, UnknownFieldError, together

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
    *(
        ({"messages": [ASK, {"role": "assistant", "content": "4"}, ASK], name: "5"}, {name: ""})
        for name in ("answer", "output", "response", "chosen")
    ),
    *((of_record(**{name: "Be brief."}), {name: "system"}) for name in sorted(INSTRUCTED)),
    (of_record(instructions=["Be brief."]), {"instructions": ""}),
    ({"prompt": "Add.", "input": "2+2", "completion": "4"}, {"input": ""}),
    ({"prompt": "2+2?", "history": [["1+1?", "2"]], "completion": "4"}, {"history": ""}),
    ({"prompt": "Go.", "instruction": "Add.", "query": "2+2", "completion": "4"},
     {"instruction": "", "query": ""}),
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
    assert f"--field {fix}" in caught.value.fix
    assert read(record, Reading(renamed=renamed_fields([fix]))).messages[0].content == "2+2?"


def test_all_fields_of_a_record_are_named_at_once() -> None:
    record = {"tool": [TOOL], "prompt": [{**ASK, "thoughts": [1]}], "completion": [
        {"role": "assistant", "content": "4", "cot": "a", "plan": "b"}]}  # fmt: skip
    with pytest.raises(UnknownFieldError) as caught:
        read(record)
    assert [field.name for field in caught.value.fields] == ["tool", "thoughts", "cot", "plan"]
    assert caught.value.where == "a.jsonl:1"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("label", ["false", "False"])
def test_a_text_as_label_may_be_a_class_or_the_expected_answer(label: str) -> None:
    assert read(of_record(label=label, reward=1)).messages[-1].train


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
        "x:3: messages[1].a: fields that are not read and may hold what the model is to learn: "
        "'a' (4 times), 'two words' (2 times, like tools), expected none. Fix: pass --field "
        "'two words=tools' to read 'two words', and --ignore-fields a to leave the others out."
    )


def test_an_error_lists_so_many_names() -> None:
    error = UnknownFieldError([Field(f"f{n}", "a", True) for n in range(103)])
    assert "'f99' (1 time) and 3 more" in str(error)
    assert "f100" not in str(error)
