"""Each kind of record that cannot be packed is refused, in these words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from refused import ANSWER, ASK, REFUSED, REFUSED_ROWS, chat

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.conversation import REASONS, parse_line, parse_row

SCHEMA = Path(__file__).parents[2] / "schemas" / "record.schema.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def check(error: RecordError, *said: str) -> None:
    reason, what, fix = said
    assert error.reason == reason
    assert str(error) == f"chats.jsonl:7: {what}. Fix: {fix}."
    assert what.endswith(f", expected {error.expected}")
    assert fix == error.fix
    assert str(error).isprintable()


@pytest.mark.parametrize(("record", "reason", "what", "fix"), REFUSED.values(), ids=REFUSED)
def test_refused_record(record: object, reason: str, what: str, fix: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_line(json.dumps(record).encode(), "chats.jsonl:7")
    check(caught.value, reason, what, fix)


@pytest.mark.parametrize(
    ("record", "reason", "what", "fix"), REFUSED_ROWS.values(), ids=REFUSED_ROWS
)
def test_refused_row(record: object, reason: str, what: str, fix: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_row(record, "chats.jsonl:7")
    check(caught.value, reason, what, fix)


def test_row_nested_in_itself() -> None:
    row = chat(ASK, ANSWER)
    row["tools"] = [row]
    with pytest.raises(RecordError, match=r"^x: lists or objects nested too deeply, "):
        parse_row(row, "x")


def test_a_line_that_takes_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(chat(ASK, ANSWER)).encode()
    monkeypatch.setattr(strict_json, "LARGEST", len(line))
    parse_line(line, "chats.jsonl:7")
    with pytest.raises(RecordError) as caught:
        parse_line(line + b" ", "chats.jsonl:7")
    what = f"a line of {len(line) + 1} bytes, expected at most {len(line)}"
    check(caught.value, "size", what, "leave it out")


def test_every_reason_is_documented_and_tested() -> None:
    tested = {reason for _, reason, *_ in (*REFUSED.values(), *REFUSED_ROWS.values())} | {"size"}
    assert tested == set(REASONS)


# What a schema cannot see, or could only say at length.
UNSEEN_REASONS = {"closing-tag", "conflict", "duplicate-key", "json", "no-prompt", "unknown-field"}
UNSEEN = {
    "a tool without a name",
    "a weight",
    "reasoning without its call",
    "arguments that are no object",
    "a call without a name in a function call",
    "a function call that is a list of text",
    "a function call without calls",
    "a think tag that is never closed",
    "a think tag that is never closed, in a completion",
    "a sample of status Status.Failed",
    "a sample that a clock ended",
    "an answer with an error",
    "a sample of status aborted",
    "a sample that is to be removed",
    "a record with label False",
    "a record with kto_tag false",
    "a record with train False",
    "a record with trainable 0",
    "a record with loss false",
    "a sample with a flag of an error",
    "a sample with an error",
    "an answer with nothing in it",
    "reasoning after text",
    "reasoning with its tags in a field",
    "reasoning with its tags in a part",
    "template variables that are a list",
    "tools that are an object",
}
SEEN = {"two containers", "a call twice in one"}


@pytest.mark.parametrize("kind", REFUSED)
def test_schema_refuses_what_it_can(kind: str) -> None:
    record, reason, *_ = REFUSED[kind]
    unseen = kind in UNSEEN or (reason in UNSEEN_REASONS and kind not in SEEN)
    assert VALIDATOR.is_valid(record) is unseen
