"""What is learned about a template, of the fixtures and of other ways to write one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from small_templates import CONTENT, TEMPLATES, chatml, learned, of_fixture

from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.forms import Forms
from reasonpack.templates.learn.stop_token import BEGINS
from reasonpack.templates.stop import Stop
from tests.changed import replace

CHATML = Behaviour(
    forms=Forms(("reasoning_content",)),
    thinking={},
    not_thinking={},
    header="<|im_start|>assistant\n",
    prompt_opener="",
    prompt_closed="",
    opener="<think>\n",
    closer="\n</think>\n\n",
    shows_reasoning=True,
    strips=("newlines", "newlines"),
    answer=("", ""),
    call='<tool_call>\n{"name": "',
    text_call=("", '\n<tool_call>\n{"name": "'),
    answer_stop=Stop("<|im_end|>", after="\n"),
    call_stop=Stop("<|im_end|>", after="\n"),
    ends={
        "system": "<|im_end|>\n",
        "developer": "<|im_end|>\n",
        "user": "<|im_end|>\n",
        "tool": "<|im_end|>\n",
    },
    kept_after_user=False,
    kept_in_loop=True,
    kept_after_loop=True,
    ends_generation=("<|im_end|>",),
    writes_none=False,
    dumped=(),
    asked=("content", "reasoning_content", "role", "tool_calls"),
)
NO_DEVELOPER = {"system": "<|im_end|>\n", "user": "<|im_end|>\n"}
EXPECTED: dict[str, dict[str, Any]] = {
    "stripped": {
        "thinking": {"enable_thinking": True},
        "not_thinking": {"enable_thinking": False},
        "prompt_closed": "<think>\n\n</think>\n\n",
        "ends": {**NO_DEVELOPER, "tool": "\n</tool_response><|im_end|>\n"},
    },
    "thinking_prompt": {
        "prompt_opener": "<think>\n",
        "prompt_closed": "<think>\n",
        "opener": "",
        "call": '\n<tool_call>\n{"name": "',
        "ends": {**NO_DEVELOPER, "tool": "<|im_end|>\n"},
        "dumped": ("tool_calls.function",),
    },
    "tool_loop": {
        "strips": ("nothing", "nothing"),
        "opener": "<think>",
        "closer": "</think>\n",
        "call": "<tool_call>",
        "text_call": ("", "<tool_call>"),
        "ends": {**NO_DEVELOPER, "tool": "</tool_response><|im_end|>\n"},
    },
    "empty_history": {
        "strips": ("white space", "white space"),
        "thinking": {"enable_thinking": True},
        "not_thinking": {"enable_thinking": False},
        "header": "<|im_start|>assistant",
        "prompt_closed": "\n<think></think>",
        "opener": "\n<think>",
        "closer": "</think>\n",
        "call": "<tool_call>",
        "text_call": ("", "\n<tool_call>"),
        "answer_stop": Stop("<|im_end|>"),
        "call_stop": Stop("<|im_end|>"),
        "ends": {
            **dict.fromkeys(("system", "developer", "user"), "<|im_end|>"),
            "tool": "\n</tool_response><|im_end|>",
        },
    },
    "kept": {
        "strips": ("nothing", "nothing"),
        "closer": "\n</think>\n",
        "call": '<tool_call>{"name": "',
        "text_call": ("", '<tool_call>{"name": "'),
        "kept_after_user": True,
    },
    "plain": {
        "forms": Forms(inline_as_written=True),
        "strips": ("nothing", "nothing"),
        "asked": ("content", "role", "tool_calls"),
        "dumped": ("tool_calls.function",),
        "opener": "",
        "closer": "",
        "shows_reasoning": False,
        "call": '\n<tool_call>{"name": "',
        "text_call": ("", '\n<tool_call>{"name": "'),
        "kept_in_loop": False,
        "kept_after_loop": False,
    },
    "headers": {
        "forms": Forms(("thinking",)),
        "strips": ("nothing", "nothing"),
        "ends_generation": ("<|eot|>",),
        "asked": ("content", "role", "thinking", "tool_calls"),
        "thinking": {"thinking": True},
        "not_thinking": {"thinking": False},
        "header": "<|turn|>model<|body|>",
        "prompt_closed": "<|thought|><|/thought|>",
        "opener": "<|thought|>",
        "closer": "<|/thought|>",
        "call": "<|call|>",
        "text_call": ("", "<|call|>"),
        "answer_stop": Stop("<|eot|>"),
        "call_stop": Stop("<|eot|>"),
        "ends": dict.fromkeys(("system", "developer", "user", "tool"), "<|eot|>"),
    },
}


@pytest.mark.parametrize("fixture", EXPECTED)
def test_fixture_is_learned(fixture: str) -> None:
    found = of_fixture(fixture)
    wanted = replace(CHATML, **EXPECTED[fixture])
    for name in Behaviour.__struct_fields__:
        got, expected = getattr(found, name), getattr(wanted, name)
        if name in {"call", "text_call"}:  # `tojson` of a function is cut at its name
            got, expected = json.dumps(got), json.dumps(expected)
        assert got == expected, name


def test_every_fixture_has_its_expectation() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in TEMPLATES.glob("*.jinja"))


def test_stop_may_be_what_begins_the_next_message() -> None:
    source = (
        "{% for m in messages %}{{ '<|turn|>' if m.role == 'user' else '<|body|>' }}"
        "{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '<|body|>' }}{% endif %}"
    )
    assert learned(source).answer_stop == Stop("<|turn|>", shown=False, source=BEGINS)


def test_template_for_tools_only_is_probed_with_tools() -> None:
    source = "{{ tools | length }}" + chatml(CONTENT)
    assert learned(source).answer_stop.token == "<|im_end|>"


def test_calls_that_end_in_two_ways_have_no_stop() -> None:
    calls = (
        "{{ m.content }}{% for c in m.tool_calls or [] %}{{ '<tool_call>' ~ c.function.name }}"
        "{{ c.function.arguments | tojson ~ ('</tool_call>' if loop.first else '<|eot|>') }}"
        "{% endfor %}"
    )
    end = "{{ '' if m.tool_calls else '<|im_end|>' }}"
    assert learned(chatml(calls, end=end)).call_stop == Stop("")
