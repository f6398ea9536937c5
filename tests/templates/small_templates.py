"""Templates of a few lines, and what is learned of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate

TEMPLATES = Path(__file__).parents[2] / "fixtures" / "templates"
TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|turn|>", "<|body|>", "<|eot|>", "<|bos|>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<|thought|>", "<|/thought|>"),
]


def learned(source: str, variables: dict[str, Any] | None = None) -> Behaviour:
    return learn(ChatTemplate.compile(source, name="probe"), TOKENS, variables)


def of_fixture(name: str, variables: dict[str, Any] | None = None) -> Behaviour:
    return learned((TEMPLATES / f"{name}.jinja").read_text("utf-8"), variables)


TURN = "{{ '<|im_start|>' ~ m.role ~ '\n' }}"
USER_ONLY = "{% if m.role != 'assistant' %}{{ m.content }}{% endif %}"
END = "{{ '<|im_end|>\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml(assistant: str, *, prompt: str = PROMPT, before: str = "", end: str = END) -> str:
    """Write a template that differs from ChatML in what is named."""
    body = TURN + USER_ONLY + "{% if m.role == 'assistant' %}" + assistant + "{% endif %}" + end
    return before + "{% for m in messages %}" + body + "{% endfor %}" + prompt


CONTENT = "{{ m.content }}"
THOUGHT = "{% if m.reasoning %}{{ '<think>' ~ m.reasoning ~ '</think>' }}{% endif %}"
