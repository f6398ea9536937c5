"""Conversations in other shapes → the text that Qwen3, as published, saw and wrote."""

from __future__ import annotations

import json
from typing import Any

import assets
import pytest
from records_of import ASK, read

from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import View, build_views

pytestmark = pytest.mark.network

TOKENS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"]
CALL_TEXT = '{"name": "look_up", "arguments": {"key": "a"}}'
CALL = f"<tool_call>\n{CALL_TEXT}\n</tool_call>"
THOUGHT = "<think>\nThink one.\n</think>\n\n"
OPENED = "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def qwen3() -> Rendering:
    config = json.loads((assets.tokenizer_dir("qwen3") / "tokenizer_config.json").read_bytes())
    template = ChatTemplate.compile(config["chat_template"], name="qwen3")
    return Rendering(template, learn(template, TOKENS, {}), {})


def views(rendering: Rendering, *messages: dict[str, Any], **fields: Any) -> tuple[View, ...]:
    return build_views(read(*messages, **fields), rendering)


def answer(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Answer one.", **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_details": [{"type": "reasoning.text", "text": "Think one.", "index": 0}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Think one.", "signature": "c"}]},
        {"provider_specific_fields": {"reasoning_content": "Think one."}},
        {"reasoning_text": "Think one."},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Think one."}]},
                {"type": "text", "text": "Answer one."},
            ]
        },
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_reasoning_is_trained_and_not_in_the_history(
    qwen3: Rendering, fields: dict[str, Any]
) -> None:
    first, second = views(qwen3, ASK, answer(**fields), ASK, answer(**fields))
    for view in first, second:
        assert view.prompt.endswith(OPENED)
        assert view.completion == f"{THOUGHT}Answer one.<|im_end|>"
        assert "Think one." not in view.prompt


def test_reasoning_alone_and_a_call_are_one_answer(qwen3: Rendering) -> None:
    first, second = views(
        qwen3,
        ASK,
        {"role": "assistant", "content": "<think>\nThink one.\n</think>"},
        {"role": "function_call", "content": CALL_TEXT},
        {"role": "tool", "content": "Result one."},
        {"role": "assistant", "content": "<think>\nThink two.\n</think>\n\nAnswer one."},
    )
    assert first.completion == f"{THOUGHT}{CALL}<|im_end|>"
    assert second.completion == "<think>\nThink two.\n</think>\n\nAnswer one.<|im_end|>"


def test_anthropic_blocks(qwen3: Rendering) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Think one.", "signature": "c2ln"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_01", "name": "look_up", "input": {"key": "a"}},
    ]
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "Result one."}
    first, second = views(
        qwen3,
        ASK,
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [result]},
        answer(),
    )
    assert first.completion == f"{THOUGHT}Let me look.\n{CALL}<|im_end|>"
    assert "<tool_response>\nResult one.\n</tool_response>" in second.prompt


def test_message_with_a_flag_of_slime_is_context(qwen3: Rendering) -> None:
    (view,) = views(qwen3, ASK, answer(step_loss_mask=0), ASK, answer(step_loss_mask=1))
    assert "Answer one.<|im_end|>" in view.prompt
