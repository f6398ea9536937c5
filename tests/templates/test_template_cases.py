"""Templates, and records for templates, that gave wrong views or none, and what is right.

The first of each kind is kept beside the project for acceptance; see also records/test_field_cases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import assets
import pytest
from published import eos
from runs import FIXTURES

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import View, build_views

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases"
here = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
ASK, ANSWER = {"role": "user", "content": "Ask one."}, {"role": "assistant", "content": "Answer."}
CHATML = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"]


def rendering(source: str, tokens: list[str]) -> Rendering:
    template = ChatTemplate.compile(source, name="case")
    return Rendering(template, learn(template, tokens), {})


def records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_bytes().splitlines()]


def views(record: dict[str, Any], chosen: Rendering) -> list[View]:
    read = parse_line(json.dumps(record).encode(), "x:1")
    return list(build_views(read, chosen))


def ends(record: dict[str, Any], chosen: Rendering, prompt: str, completion: str) -> None:
    """See how the first prompt ends, and all of what is written after it."""
    view = views(record, chosen)[0]
    assert (view.prompt[-len(prompt) :], view.completion) == (prompt, completion)


# --- templates -----------------------------------------------------------------------------------

TEMPLATES = {
    "header_in_user_turn": (
        ["<|user|>", "<|bot|>", "<|eos|>"], "<|user|>Ask one.<|bot|>", "Answer.<|eos|>"
    ),
    "header_in_user_turn_brackets": (
        ["<|user|>", "<|eos|>"], "<|user|>Ask one.[bot]", "Answer.<|eos|>"
    ),
    "trailing_header": (
        ["<|start|>", "<|bot|>", "<|user|>", "<|answer|>", "<|/answer|>", "<|end|>"],
        "<|start|><|bot|><|answer|>", "Answer.<|/answer|><|end|>",
    ),
}  # fmt: skip


@here
@pytest.mark.parametrize("name", TEMPLATES)
def test_where_an_answer_begins_and_stops(name: str) -> None:
    tokens, prompt, completion = TEMPLATES[name]
    chosen = rendering((CASES / f"{name}.jinja").read_text(), tokens)
    ends({"messages": [ASK, ANSWER, ASK, ANSWER]}, chosen, prompt, completion)


@here
def test_a_name_that_stands_only_in_the_id_of_a_call() -> None:
    tokens = ["<|bot|>", "<|call|>", "<|args|>", "<|/call|>", "<|end|>", "<think>", "</think>"]
    chosen = rendering((CASES / "call_id_is_name.jinja").read_text(), tokens)
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": {}}}
    record = {"messages": [ASK, {**ANSWER, "reasoning_content": "T", "tool_calls": [call]}]}
    written = "T</think>Answer.<|call|>functions.f:0<|args|>{}<|/call|><|end|>"
    ends(record, chosen, "<|bot|><think>", written)
    call["id"] = "call_1"
    with pytest.raises(RecordError, match=r"messages\[1\]"):
        views(record, chosen)


@pytest.mark.parametrize("added", [[], ["\n", "\n\n"], ["\n", "\n\n", " ", "\t"]])
def test_white_space_among_the_added_tokens_changes_nothing(added: list[str]) -> None:
    source = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text()
    behaviour = rendering(source, CHATML + added).behaviour
    assert behaviour == rendering(source, CHATML).behaviour
    assert behaviour.answer_stop.token == "<|im_end|>"


# --- records -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen3() -> Rendering:
    config = json.loads((assets.tokenizer_dir("qwen3") / "tokenizer_config.json").read_bytes())
    return rendering(config["chat_template"], CHATML)


@here
@pytest.mark.network
def test_a_stop_token_within_an_answer(qwen3: Rendering) -> None:
    with pytest.raises(RecordError, match=r"<\|im_end\|>"):
        views(records("stop_in_content")[0], qwen3)


@here
@pytest.mark.network
def test_one_generation_that_is_stored_as_two_messages(qwen3: Rendering) -> None:
    call = '<tool_call>\n{"name": "look_up", "arguments": {"key": "a"}}\n</tool_call><|im_end|>'
    written = f"<think>\nThink one.\n</think>\n\n{call}"
    ends(records("swift_think_then_call")[0], qwen3, "assistant\n", written)


@here
@pytest.mark.network
@pytest.mark.parametrize("number", [0, 1])
def test_white_space_beside_a_call(number: int) -> None:
    name = "llama.cpp/Kimi-K3"
    source = assets.template(name)
    tokens = ["<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>", *eos(name)]
    view = views(records("blank_content_with_call")[number], rendering(source, tokens))[0]
    assert "Call f." in view.completion
    assert '"f"' in view.completion


NO_THINK = {
    "NVIDIA-Nemotron-Nano-v2": (
        0, ["<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"],
        "<SPECIAL_11>Assistant\n<think></think>", "Answer one.\n<SPECIAL_12>",
    ),
    "HuggingFaceTB-SmolLM3-3B": (
        1, CHATML, "assistant\n<think>\n\n</think>\n", "Answer one.<|im_end|>"
    ),
}  # fmt: skip


@here
@pytest.mark.network
@pytest.mark.parametrize("name", NO_THINK)
def test_a_control_word_that_the_template_takes_out(name: str) -> None:
    number, tokens, prompt, completion = NO_THINK[name]
    chosen = rendering(assets.template(f"llama.cpp/{name}"), tokens)
    ends(records("nemotron_no_think")[number], chosen, prompt, completion)


OFF = (
    "{% set off = '/no_think' in messages[0].content %}{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content.split('</think>')[-1].lstrip() | replace('/no_think', '') }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{{ '<think>\n\n</think>\n\n' if off else '<think>\n' }}{% endif %}"
)


@here
def test_a_control_word_that_closes_the_block_of_the_prompt_alone() -> None:
    """The template shows no block, not even in the last answer: the completion is put together."""
    chosen = rendering(OFF, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"])
    prompt = "<|assistant|><think>\n\n</think>\n\n"
    for record in records("nemotron_no_think"):
        ends(record, chosen, prompt, "Answer one.<|end|>")
