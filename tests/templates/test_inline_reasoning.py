"""Reasoning within the content, where the template passes content through: it stays as it is.

<think>A</think>B  ─┬→ parse_row → view       → prompt + completion ─┐
                    └→ apply_chat_template, as it stands in the record ─┴→ equal, in tokens
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reasonpack.records.conversation import parse_row
from reasonpack.views.view import build_views
from tests.templates.test_transformers import _on_the_day, made_tokenizer, ours, sides, switches

__all__ = ["_on_the_day"]

pytestmark = [pytest.mark.network, pytest.mark.torch]

PASSED_THROUGH = [
    "llama.cpp/HuggingFaceTB-SmolLM3-3B",
    "llama.cpp/LFM2.5-Instruct",
    "llama.cpp/ibm-granite-granite-3.3-2B-Instruct",
    "vllm/tool_chat_template_hunyuan_a13b",
    "llama.cpp/LFM2.5-8B-A1B",
]
PARSED = [
    "llama.cpp/llama-cpp-deepseek-r1",
    "llama.cpp/deepseek-ai-DeepSeek-V3.1",
    "llama.cpp/Qwen-QwQ-32B",
    "llama.cpp/NVIDIA-Nemotron-Nano-v2",
]
"""Templates that read no field, and look for the tags themselves."""
FORMS = [
    "<think>A</think>B",
    "<think>\nA\n</think>\n\nB",
    "<think> A </think> B",
    "<think>A\n\nA</think>\nB\n",
    "A\n</think>\n\nB",
]


def chat(content: str, *, turns: int) -> list[dict[str, Any]]:
    turn = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    return turn * turns


@pytest.mark.parametrize("name", PASSED_THROUGH)
def test_content_stays_as_the_record_has_it(name: str, tmp_path: Path) -> None:
    made_tokenizer(name, tmp_path)
    both = sides(name, tmp_path)
    settings = {"return_dict": False, **switches(name)[True]}
    continued = 0
    for messages in [chat(form, turns=turns) for form in FORMS for turns in (1, 2)]:
        conversation = parse_row({"messages": messages}, "record")
        *_, view = build_views(conversation, both.context.rendering(conversation))
        prompt, completion = ours(both.context, view)
        render = both.library.apply_chat_template
        assert prompt == render(messages[:-1], add_generation_prompt=True, **settings)
        whole = render(messages, **settings)
        if whole[: len(prompt)] == prompt:  # else the history is rewritten behind the answer
            assert whole[len(prompt) :][: len(completion)] == completion
            continued += 1
    assert continued >= len(FORMS)


@pytest.mark.parametrize("name", PARSED)
def test_a_template_that_looks_for_tags_is_given_them(name: str, tmp_path: Path) -> None:
    """What it leaves of an earlier answer is its own, the line breaks behind the tag among it."""
    made_tokenizer(name, tmp_path)
    both = sides(name, tmp_path)
    for form in FORMS[:4]:
        messages = chat(form, turns=2)
        conversation = parse_row({"messages": messages}, "record")
        *_, view = build_views(conversation, both.context.rendering(conversation))
        prompt, completion = ours(both.context, view)
        settings = {"return_dict": False, **switches(name)[True]}
        wanted = both.library.apply_chat_template(
            messages[:-1], add_generation_prompt=True, **settings
        )
        assert prompt == wanted
        written = both.context.tokenizer.decode(completion)
        tag = "<think>" if "<think>" in written else ""
        assert "".join(written.split()).startswith(
            "".join(form.split()).removeprefix(tag or "<think>")
        )
