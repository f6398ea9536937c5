"""The schema of a call refuses nothing that is read, and reading ends in calls or an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from test_record_schema import ANSWER, ANY, ASK, ENDINGS, MESSAGES, some_of

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CALL_FLAGS, CONTEXT_FIELDS, TOKEN_NAMES, VALUE_NAMES
from reasonpack.records.calls import Call, read_calls
from reasonpack.records.conversation import REASONS
from reasonpack.records.last_answer import OF_THE_END
from reasonpack.records.readers import answers, generic
from reasonpack.records.readers.levels import TOKEN_FIELDS
from reasonpack.records.unit import Record

SCHEMAS = Path(__file__).parents[2] / "schemas"
SCHEMA, OTHER = (
    json.loads((SCHEMAS / f"{name}.schema.json").read_bytes()) for name in ("call", "record")
)
REGISTRY = Registry().with_resource("record.schema.json", Resource.from_contents(OTHER))
VALIDATOR = Draft202012Validator(SCHEMA, registry=REGISTRY)

IDS = st.lists(st.sampled_from([0, 1, 7, 2**31 - 1, 2**31, -1, True, 0.0]), max_size=3)
NUMBERS = st.lists(st.sampled_from([0, -1, -0.5, 0.5, None, True, 1e39]), max_size=3)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt_ids": IDS,
    "completion_ids": IDS,
    "logprobs": NUMBERS | st.just({"content": [{"logprob": -1}]}),
    "loss_mask": st.lists(st.sampled_from([0, 1, True, False, 0.5]), max_size=4),
    "advantages": NUMBERS | st.sampled_from([1, -0.5]),
    "reward": st.sampled_from([1, -0.5, {"a": 1}, 1e39]),
    "weight": st.sampled_from([0, 1, 0.5, -1]),
}
VALUES = {
    name: KINDS[kind] for kind, names in (TOKEN_NAMES | VALUE_NAMES).items() for name in names
}
CHOICE = st.builds(
    lambda message, more: {"message": message, **more},
    st.sampled_from([ANSWER, {"content": None}, None]),
    some_of({**VALUES, **ENDINGS, "index": st.just(0), "text": st.just("4")}),
)
RESPONSE = some_of(
    {
        "id": st.just("r"),
        "choices": st.lists(CHOICE, max_size=2),
        "output": MESSAGES,
        **ENDINGS,
        "incomplete_details": st.just({"reason": "a"}),
        **VALUES,
    }
)
ANSWERS = st.sampled_from(["4", ANSWER, [ANSWER], ""]) | RESPONSE | MESSAGES
CANDIDATE = ANSWERS | some_of({"message": st.just(ANSWER), "text": st.just("4"), **VALUES})
CONTEXT = {
    "system": st.just("hi"),
    "chat_template_kwargs": st.just({"a": 1}),
    "enable_thinking": st.booleans(),
    **dict.fromkeys([n for n in CONTEXT_FIELDS if n not in ("system", "enable_thinking",
        "chat_template_kwargs")], st.just([{"name": "f", "input_schema": {}}])),
}  # fmt: skip
ASKED = {**dict.fromkeys(["messages", "prompt", "input"], MESSAGES | st.just("hi")), **CONTEXT}
REQUEST = some_of({**ASKED, "reasoning": st.just({"effort": "low"}), "temperature": st.just(1)})
CALL_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **ASKED,
    **VALUES,
    **ENDINGS,
    **dict.fromkeys(CALL_FLAGS, st.booleans()),
    **dict.fromkeys(["response", "completion"], ANSWERS),
    **dict.fromkeys(["chosen", "rejected"], CANDIDATE),
    **dict.fromkeys(["id", "call_id", "model_call_id"], st.sampled_from(["a", 7])),
    "request": REQUEST,
    "choices": st.lists(CHOICE, max_size=2),
    "candidates": st.lists(CANDIDATE, max_size=2),
    "output": MESSAGES,
    "is_copied_context": st.booleans(),
    "tokens": IDS,
    "response_length": st.sampled_from([0, 1, 4]),
    "instructions": st.just("hi"),
    "extra_body": st.just({"chat_template_kwargs": {"b": 1}}),
    "reasoning_effort": st.just("low"),
}
BASE = st.sampled_from(
    [
        {"messages": [ASK], "response": ANSWER},
        {"prompt_token_ids": [1], "completion_token_ids": [2, 3]},
        {"request": {"messages": [ASK]}, "response": {"choices": [{"message": ANSWER}]}},
        {},
    ]
)
CALL = st.builds(lambda base, more: {**base, **more}, BASE, some_of(CALL_FIELDS))
GROUP = st.builds(
    lambda calls, more: {**more, "calls": calls},
    st.lists(CALL, min_size=1, max_size=2),
    some_of({**CONTEXT, **VALUES, **ENDINGS}),
)
RECORDS = CALL | GROUP | some_of({**CALL_FIELDS, "calls": ANY})


def outcome(record: Record) -> list[Call] | RecordError:
    try:
        return read_calls(record)
    except RecordError as error:
        return error


@pytest.mark.long
@given(RECORDS)
def test_any_record_is_read_or_refused_and_the_schema_refuses_no_more(record: Any) -> None:
    read = outcome(Record("x", json.dumps(record).encode()))
    row = outcome(Record("x", b"", record))
    if "null" not in json.dumps(record):  # a null key of a row is none
        assert str(row) == str(read)
    if not isinstance(read, RecordError):
        assert read
        VALIDATOR.validate(record)
        return
    assert read.reason in REASONS
    assert str(read).startswith("x: ")
    assert str(read).isprintable()
    assert read.fix


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_names_what_is_read() -> None:
    found = {name: set(each.get("properties", ())) for name, each in SCHEMA["$defs"].items()}
    values, ends, fields = found["values"], found["end"], {*CALL_FIELDS}
    assert values == {*VALUES}
    assert values == TOKEN_FIELDS
    assert ends == {*OF_THE_END}
    assert fields == found["call"] | values | ends
    assert fields == generic.OF_A_CALL
    assert found["response"] | values | ends == answers._RESPONSE
    assert found["choice"] | values | ends == answers._CHOICE
    described = SCHEMA["$defs"]["calls"]["description"]
    listed = described.rpartition("for it: ")[2].partition(". Its id")[0].split(", ")
    assert {*listed} == generic.OF_A_GROUP - {*generic.LISTS, *generic.IDS, *OF_THE_END}
    assert [each["required"] for each in SCHEMA["anyOf"][:-1]] == [[n] for n in generic.LISTS]
