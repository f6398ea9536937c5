"""Reasoning in fields beside the content is read once, or refused where its text is not there."""

from __future__ import annotations

from typing import Any

import pytest
from records_of import ASK, read, refused

from reasonpack.records.dialects import normalised
from reasonpack.records.side_fields import SIDE_FIELDS

DETAIL = {"type": "reasoning.text", "text": "Think one.", "format": "x", "index": 0}
BLOCK = {"type": "thinking", "thinking": "Think one.", "signature": "c2ln"}
ITEM = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Think one."}]}
CONVERSE = {"reasoningText": {"text": "Think one.", "signature": "c2ln"}}
SUMMARY = {"type": "reasoning.summary", "summary": "Short."}


def answer(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Answer one.", **fields}


READ: dict[str, dict[str, Any]] = {
    "reasoning_text": {"reasoning_text": "Think one."},
    "OpenRouter": {"reasoning_details": [DETAIL]},
    "OpenRouter, with reasoning": {"reasoning_details": [DETAIL], "reasoning": "Think one."},
    "OpenRouter, in pieces": {
        "reasoning_details": [
            {"type": "reasoning.text", "text": "Think "},
            SUMMARY,
            {"type": "reasoning.text", "text": "one."},
            {"type": "reasoning.text", "text": None, "signature": "c2ln"},
        ]
    },
    "LiteLLM": {"thinking_blocks": [BLOCK]},
    "LiteLLM, with reasoning_content": {
        "thinking_blocks": [BLOCK],
        "reasoning_content": "Think one.",
    },
    "LiteLLM, with the text as thought": {"thinking_blocks": [BLOCK], "thought": "Answer one."},
    "LiteLLM, items": {"reasoning_items": [ITEM]},
    "a provider's field": {"provider_specific_fields": {"reasoning_content": "Think one."}},
    "a provider's other name": {"provider_specific_fields": {"reasoning": "Think one."}},
    "a provider's blocks": {"provider_specific_fields": {"thinking_blocks": [BLOCK]}},
    "Bedrock": {"provider_specific_fields": {"reasoningContentBlocks": [CONVERSE]}},
    "everywhere": {
        "reasoning_content": "Think one.",
        "reasoning_details": [DETAIL],
        "thinking_blocks": [BLOCK],
        "provider_specific_fields": {
            "reasoning_content": "Think one.",
            "reasoningContentBlocks": [CONVERSE],
            "refusal": None,
        },
    },
    "parts as well": {
        "content": [
            {"type": "thinking", "thinking": "Think one."},
            {"type": "text", "text": "Answer one."},
        ],
        "thinking_blocks": [BLOCK],
    },
}


@pytest.mark.parametrize("fields", READ.values(), ids=READ)
def test_reasoning_is_read_once(fields: dict[str, Any]) -> None:
    made = read(ASK, answer(**fields)).messages[1]
    assert (made.content, made.reasoning) == ("Answer one.", "Think one.")
    assert not made.extra


@pytest.mark.parametrize(
    "name",
    sorted(SIDE_FIELDS),
)
@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_absent_fields_say_nothing(name: str, nothing: object) -> None:
    made = read(ASK, answer(**{name: nothing})).messages[1]
    assert (made.reasoning, dict(made.extra)) == (None, {})


def test_blocks_without_text_or_signature_are_no_reasoning() -> None:
    assert (
        read(ASK, answer(reasoning_details=[{**DETAIL, "text": ""}])).messages[1].reasoning is None
    )


ENCRYPTED = {"type": "reasoning.encrypted", "data": "gAAA"}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "encrypted": ({"reasoning_details": [ENCRYPTED]}, "hidden-reasoning", "reasoning_details[0]"),
    "text and encrypted": (
        {"reasoning_details": [DETAIL, ENCRYPTED]},
        *("hidden-reasoning", "reasoning_details[1]"),
    ),
    "a summary": ({"reasoning_details": [SUMMARY]}, "hidden-reasoning", "reasoning_details"),
    "a summary, and the same as reasoning": (
        {"reasoning_details": [SUMMARY], "reasoning": "Short."},
        *("hidden-reasoning", "reasoning_details"),
    ),
    "a signature alone": (
        {"thinking_blocks": [{**BLOCK, "thinking": ""}]},
        *("hidden-reasoning", "thinking_blocks"),
    ),
    "redacted": (
        {"thinking_blocks": [BLOCK, {"type": "redacted_thinking", "data": "x"}]},
        *("hidden-reasoning", "thinking_blocks[1]"),
    ),
    "redacted, of Bedrock": (
        {"provider_specific_fields": {"reasoningContentBlocks": [{"redactedContent": "x"}]}},
        *("hidden-reasoning", "provider_specific_fields.reasoningContentBlocks[0]"),
    ),
    "an encrypted item": (
        {"reasoning_items": [{"type": "reasoning", "encrypted_content": "x", "summary": []}]},
        *("hidden-reasoning", "reasoning_items[0]"),
    ),
    "another type": ({"reasoning_details": [{"type": "x"}]}, "content", "reasoning_details[0]"),
    "a list as type": ({"thinking_blocks": [{"type": ["x"]}]}, "content", "thinking_blocks[0]"),
    "text": ({"thinking_blocks": "Think one."}, "type", "thinking_blocks"),
    "a number for text": (
        {"thinking_blocks": [{**BLOCK, "thinking": 3}]},
        *("type", "thinking_blocks[0]"),
    ),
    "reasoning that differs": (
        {"reasoning_content": "Other.", "reasoning_details": [DETAIL]},
        *("conflict", "reasoning_details"),
    ),
    "a provider's that differs": (
        {"thinking_blocks": [BLOCK], "provider_specific_fields": {"reasoning": "Other."}},
        *("conflict", "provider_specific_fields.reasoning"),
    ),
    "images": ({"images": ["a.png"]}, "media", "images"),
    "audio": ({"audio": {"id": "a"}}, "media", "audio"),
    "analysis": ({"channel": "analysis"}, "content", "channel"),
    "commentary": ({"channel": "commentary"}, "content", "channel"),
    "final with parts": (
        {"channel": "final", "content": [{"type": "text", "text": "a"}]},
        *("content", "channel"),
    ),
    "characters to train": (
        {"train_detail": [{"begin_offset": 0, "end_offset": 3, "train": True}]},
        *("weight", "train_detail"),
    ),
    "a mask of tokens": ({"loss_mask": [0, 1, 1]}, "weight", "loss_mask"),
}


@pytest.mark.parametrize(("fields", "reason", "path"), REFUSED.values(), ids=REFUSED)
def test_refused_fields(fields: dict[str, Any], reason: str, path: str) -> None:
    error = refused(ASK, answer(**fields))
    assert (error.reason, error.path) == (reason, f"messages[1].{path}")
    assert error.fix or reason == "type"


def test_final_channel_says_nothing_more() -> None:
    assert not read(ASK, answer(channel="final")).messages[1].extra


def test_a_provider_s_other_fields_are_left_to_the_rule_for_unknown_ones() -> None:
    fields = {"reasoning_content": "Think one.", "citations": ["a"]}
    made = normalised([answer(provider_specific_fields=fields)], "messages").messages[0]
    assert made["provider_specific_fields"] == {"citations": ["a"]}


def test_reasoning_of_a_user_is_refused_as_in_a_field_of_its_own() -> None:
    error = refused({**ASK, "reasoning_details": [DETAIL]}, answer())
    assert (error.reason, error.path) == ("role", "messages[0]")


@pytest.mark.parametrize("name", ["loss_mask", "step_loss_mask", "training"])
@pytest.mark.parametrize("value", [0, 1, True, False])
def test_flags_of_trainers(name: str, value: object) -> None:
    conversation = read(ASK, answer(**{name: value}), ASK, answer(**{name: 1}))
    assert [m.train for m in conversation.messages] == [True, bool(value), True, True]
