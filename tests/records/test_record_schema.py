"""The schema of a record refuses nothing that is read, and reading ends in a record or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reasonpack.errors import RecordError
from reasonpack.records import conversation, draft, responses, side_fields
from reasonpack.records.conversation import REASONS, Conversation, parse_line, parse_row
from reasonpack.records.draft import ROLES
from reasonpack.records.flags import WEIGHTS
from reasonpack.records.last_answer import CONTINUED, ENDS, OF_THE_END, STATES, TRUNCATED
from reasonpack.records.message import _KNOWN
from reasonpack.records.reading import Reading
from reasonpack.records.tool_calls import ARGUMENTS, Function
from reasonpack.records.tools import TOOL_FIELDS
from reasonpack.records.unread_fields import MESSAGE_FIELDS as READ

PATH = Path(__file__).parents[2] / "schemas" / "record.schema.json"
SCHEMA = json.loads(PATH.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)

ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}
CALL = {"name": "f", "arguments": {}}

ANY: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, 0.5, "", "hi", "<think>", "[]", "{}", [], {}, [{}], ["a"]]
)


def some_of(fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Make objects with a few of these fields, sometimes with a value of another kind."""
    return st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({n: fields[n] | fields[n] | ANY for n in names})
    )


ROLE_NAMES = st.sampled_from([*ROLES, "assistant", "user", "User"])
GIVEN = dict.fromkeys(ARGUMENTS, st.sampled_from(['{"a": 1}', {}, {"a": 1}]))
GIVEN["parameters"] |= st.just({"type": "object", "properties": {}})
FUNCTION = some_of({"name": st.just("f"), **GIVEN})
FUNCTION |= st.just(CALL)
CALL_FIELDS = {
    "function": FUNCTION,
    "type": st.just("function"),
    "id": st.just("c1"),
    "name": st.just("f"),
    **GIVEN,
}
TOOL_CALL = some_of(CALL_FIELDS) | FUNCTION
TEXT_PART = st.sampled_from([{"type": name, "text": "a"} for name in ("text", "output_text")])
PART_TYPES = ["text", "thinking", "reasoning", "image", "tool_use", "tool_result", "input_text"]
PART = (
    some_of(
        {"type": st.sampled_from(PART_TYPES), "thinking": st.just("a") | st.lists(TEXT_PART)}
        | dict.fromkeys(["text", "reasoning", "signature", "name", "id"], st.just("a"))
        | {"closed": st.booleans(), "input": st.just({}), "content": st.lists(TEXT_PART)}
    )
    | TEXT_PART
    | st.sampled_from(
        [
            {"type": "tool_use", "name": "f", "input": {}},
            {"type": "tool_result", "content": "a"},
            {"type": "thinking", "thinking": "a", "signature": "b"},
        ]
    )
)
CONTENT = st.sampled_from(["4", "a</think>4", json.dumps(CALL)]) | st.lists(PART, max_size=2)
FLAG = st.sampled_from([True, False, 0, 1, 0.5])
REASONING_ITEM = some_of(
    {"content": st.just([{"type": "reasoning_text", "text": "a"}])}
    | dict.fromkeys(["summary", "encrypted_content", "id"], st.just("a"))
)
SIDE_FIELDS = {
    "reasoning_details": st.lists(
        some_of(
            {
                "type": st.sampled_from(
                    ["reasoning.text", "reasoning.summary", "reasoning.encrypted"]
                )
            }
            | dict.fromkeys(["text", "summary", "signature"], st.just("a"))
        ),
        max_size=2,
    ),
    "thinking_blocks": st.lists(
        some_of(
            {"type": st.sampled_from(["thinking", "redacted_thinking"])}
            | dict.fromkeys(["thinking", "signature"], st.just("a"))
        ),
        max_size=2,
    ),
    "reasoning_items": st.lists(REASONING_ITEM, max_size=1),
    "reasoningContentBlocks": st.lists(
        st.sampled_from([{"reasoningText": {"text": "a", "signature": "b"}}, {"redacted": "a"}])
    ),
    "channel": st.sampled_from(["final", "analysis"]),
    "train_detail": st.just([{"begin_offset": 0, "end_offset": 1, "train": True}]),
    **dict.fromkeys(draft.MEDIA_FIELDS, st.just(["a"])),
}
ENDINGS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ENDS, st.sampled_from(["stop", "length", "FinishReason.MAX_TOKENS", "stop_sequence"])
    ),
    "finish_details": st.sampled_from([{"type": "interrupted"}, {"type": "stop"}, "stop"]),
    **dict.fromkeys(STATES, st.sampled_from(["completed", "Truncated", "env_done", "failed"])),
    **dict.fromkeys(TRUNCATED, st.booleans()),
    "error": st.sampled_from([False, 0.5, {"message": "m"}]),
}
"""Fields that say how an answer ended."""
MESSAGE_FIELDS = {
    **dict.fromkeys(["role", "from"], ROLE_NAMES),
    **dict.fromkeys(["content", "value"], CONTENT),
    **dict.fromkeys(draft.REASONING, st.just("a")),
    **dict.fromkeys(draft.FLAGS, FLAG),
    **SIDE_FIELDS,
    "provider_specific_fields": some_of({**SIDE_FIELDS, "reasoning_content": st.just("a")}),
    "tool_calls": st.lists(TOOL_CALL, max_size=2),
    "function_call": FUNCTION,
    **ENDINGS,
    **dict.fromkeys(CONTINUED, st.booleans()),
}
MESSAGE = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    ROLE_NAMES,
    CONTENT,
    some_of(MESSAGE_FIELDS),
) | some_of(MESSAGE_FIELDS)
ITEM_TYPES = ["message", *responses.ITEM_FIELDS, "web_search_call"]
ITEM = st.builds(
    lambda kind, more: {"type": kind, "content": [{"type": "reasoning_text", "text": "a"}], **more},
    st.sampled_from(ITEM_TYPES),
    some_of(
        dict.fromkeys(["id", "call_id", "status", "summary", "encrypted_content"], st.just("a"))
        | {"output": CONTENT, "train": FLAG, "arguments": st.just("{}"), "name": st.just("f")}
    ),
) | st.sampled_from(
    [
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "output": "4"},
        {"type": "message", **ANSWER},
    ]
)
MESSAGES = st.lists(MESSAGE | ITEM | st.sampled_from([ASK, ANSWER]), max_size=3)
TOOL_LIST = st.sampled_from(
    [[{"name": "f"}], '[{"name": "f"}]', [{"name": "f", "input_schema": {}}], ["f"]]
)
RECORD_FIELDS = {
    **dict.fromkeys(
        ["messages", "conversations", "conversation"], MESSAGES | MESSAGES.map(json.dumps)
    ),
    **dict.fromkeys(["prompt", "completion"], MESSAGES | st.just("hi")),
    **dict.fromkeys(TOOL_FIELDS, TOOL_LIST),
    **dict.fromkeys(draft.MEDIA_FIELDS, st.just(["a.png"])),
    "id": st.sampled_from(["a", 7]),
    "system": st.just("hi") | st.lists(TEXT_PART, max_size=2),
    "chat_template_kwargs": st.just({"a": 1}),
    "enable_thinking": st.booleans(),
    **dict.fromkeys(draft.REASONING, st.just("a")),
    **ENDINGS,
    "answer": st.just("4"),
    **dict.fromkeys(WEIGHTS, st.sampled_from([0, 1, 0.5, -1, 1e9])),
}
RECORDS = st.builds(
    lambda messages, write, more: {"messages": write([ASK, ANSWER, *messages]), **more},
    MESSAGES,
    st.sampled_from([list, json.dumps]),
    some_of({k: v for k, v in RECORD_FIELDS.items() if k != "messages"}),
) | some_of(RECORD_FIELDS)


WEIGHED = Reading(weighs=True)


def outcome(read: Callable[[], Conversation]) -> Conversation | tuple[str, str]:
    try:
        return read()
    except RecordError as error:
        return error.reason, str(error)


@given(RECORDS)
def test_any_record_is_read_or_refused_and_the_schema_refuses_no_more(record: Any) -> None:
    line = json.dumps(record).encode()
    read = outcome(lambda: parse_line(line, "x", reading=WEIGHED))
    assert read == outcome(lambda: parse_row(record, "x", reading=WEIGHED))
    if isinstance(read, Conversation):
        VALIDATOR.validate(record)
        return
    reason, said = read
    assert reason in REASONS
    assert said.startswith("x: ")
    assert said.isprintable()


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_names_what_is_read() -> None:
    message, function = SCHEMA["$defs"]["message"], SCHEMA["$defs"]["function"]
    assert {*ENDINGS} == OF_THE_END
    beside = {*draft.REASONING, *OF_THE_END, *WEIGHTS, "answer"}
    assert set(SCHEMA["properties"]) == {*conversation._FIELDS, *beside} == set(RECORD_FIELDS)
    read = READ | side_fields.SIDE_FIELDS
    assert set(message["properties"]) == read == set(MESSAGE_FIELDS)
    assert READ - {*OF_THE_END, *CONTINUED} == _KNOWN
    assert set(function["properties"]) == set(Function.__struct_fields__)
    assert SCHEMA["$defs"]["role"]["enum"] == list(ROLES)
    answers = [said for said, role in ROLES.items() if role == "assistant"]
    of_items, *of_messages = SCHEMA["$defs"]["answer"]["anyOf"]
    assert of_items["properties"]["type"]["enum"] == list(responses.BY_MODEL)
    for choice in of_messages:
        assert [field["enum"] for field in choice["properties"].values()] == [answers]
    items = SCHEMA["$defs"]["item"]["oneOf"]
    named = [item["properties"]["type"]["const"] for item in items]
    assert named == list(responses.ITEM_FIELDS)
