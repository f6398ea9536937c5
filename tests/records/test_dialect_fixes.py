"""What is refused in the shapes of other services can be mended as the refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from records_of import ASK, read, refused

Messages = list[dict[str, Any]]
TEXT = {"type": "text", "text": "a"}
THINKING = {"type": "thinking", "thinking": "t"}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "r"}
ANSWER = {"role": "assistant", "content": "a"}
CONTEXT = {**ANSWER, "train": False}
CALL = {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}
ALONE = {"role": "assistant", "content": "<think>t</think>"}
REASONING = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "t"}]}
SAID = {"type": "message", **ANSWER}


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts)}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


# What is refused, words of the fix, and what it may become.
FIXES: dict[str, tuple[Messages, str, list[Messages]]] = {
    "text behind a call": (
        [assistant(USE, TEXT)],
        "put it before the call; or split the message in two",
        [[assistant(TEXT, USE)], [assistant(USE), user(RESULT), assistant(TEXT)]],
    ),
    "thinking behind a call": (
        [assistant(USE, THINKING)],
        "put it before the call; or split the message in two",
        [[assistant(THINKING, USE)], [assistant(USE), user(RESULT), assistant(THINKING, TEXT)]],
    ),
    "calls twice": (
        [assistant(USE) | {"tool_calls": [{"name": "f", "arguments": {}}]}],
        "keep one of the two",
        [[assistant(USE)], [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]}]],
    ),
    "a result behind text": (
        [assistant(USE), user(TEXT, RESULT), ANSWER],
        "put the results before the text",
        [[assistant(USE), user(RESULT, TEXT), ANSWER]],
    ),
    "a result of the assistant": (
        [assistant(USE, RESULT)],
        "write it in a user message after this one",
        [[assistant(USE), user(RESULT)]],
    ),
    "redacted": (
        [assistant({"type": "redacted_thinking", "data": "x"}, TEXT)],
        'write its text; or remove it and set "train": false',
        [[assistant(THINKING, TEXT)], [assistant(TEXT) | {"train": False}]],
    ),
    "a summary": (
        [ANSWER | {"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]}],
        'write its text; or remove it and set "train": false',
        [[ANSWER | {"reasoning_details": [{"type": "reasoning.text", "text": "t"}]}], [CONTEXT]],
    ),
    "an encrypted item": (
        [{"type": "reasoning", "encrypted_content": "x"}, SAID],
        'write the text as "content": [{"type": "reasoning_text"',
        [[REASONING, SAID], [{**SAID, "train": False}]],
    ),
    "items in another order": (
        [SAID, REASONING],
        "write chat messages in place of the items: one for each answer of the model",
        [[ANSWER, {"role": "assistant", "content": "b", "reasoning": "t"}]],
    ),
    "another item": (
        [{"type": "web_search_call", "id": "w"}, SAID],
        "write it as a message with a role",
        [[{"role": "tool", "content": "w"}, SAID]],
    ),
    "reasoning that differs": (
        [ANSWER | {"reasoning": "x", "thinking_blocks": [THINKING]}],
        "keep one of the two",
        [[ANSWER | {"reasoning": "x"}], [ANSWER | {"thinking_blocks": [THINKING]}]],
    ),
    "a block of another type": (
        [ANSWER | {"thinking_blocks": [{"type": "x"}]}],
        "write the reasoning as the text of reasoning_content",
        [[ANSWER | {"reasoning_content": "x"}]],
    ),
    "a channel": (
        [ANSWER | {"channel": "analysis"}, ANSWER | {"channel": "final"}],
        "write all channels of an answer as one message: analysis as reasoning_content",
        [[ANSWER | {"reasoning_content": "a"}]],
    ),
    "characters to train": (
        [ANSWER | {"train_detail": [{"begin_offset": 0, "end_offset": 0, "train": True}]}],
        'remove it, and write "train" for the whole message',
        [[ANSWER | {"train": True}], [CONTEXT]],
    ),
    "a mask of tokens": (
        [ANSWER | {"loss_mask": [1]}],
        "write 0 or 1",
        [[ANSWER | {"loss_mask": 1}]],
    ),
    "flags of one answer": (
        [ALONE, CALL | {"train": False}],
        'write "train" with the same value on both',
        [[ALONE | {"train": False}, CALL | {"train": False}], [ALONE | {"train": True}, CALL]],
    ),
    "media": (
        [user(TEXT, {"type": "image", "source": {}}), ANSWER],
        "leave the record out, or pass --on-error skip",
        [[ANSWER]],
    ),
}


@pytest.mark.parametrize(("messages", "words", "mended"), FIXES.values(), ids=FIXES)
def test_what_the_fix_says_helps(messages: Messages, words: str, mended: list[Messages]) -> None:
    assert words in refused(ASK, *messages).fix
    for each in mended:
        assert read(ASK, *each).messages
