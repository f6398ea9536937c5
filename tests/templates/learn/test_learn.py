"""What is learned about a template, and which templates are refused before the first record."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from reasonpack.errors import TemplateError
from reasonpack.templates import limits
from reasonpack.templates.behaviour import Behaviour, override
from reasonpack.templates.forms import Forms
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.learn.stop_token import BEGINS
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate

TEMPLATES = Path(__file__).parents[3] / "fixtures" / "templates"
TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|turn|>", "<|body|>", "<|eot|>", "<|bos|>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<|thought|>", "<|/thought|>"),
]


def learned(source: str, variables: dict[str, Any] | None = None) -> Behaviour:
    return learn(ChatTemplate.compile(source, name="probe"), TOKENS, variables)


def of_fixture(name: str, variables: dict[str, Any] | None = None) -> Behaviour:
    return learned((TEMPLATES / f"{name}.jinja").read_text("utf-8"), variables)


# --- the fixtures -------------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", EXPECTED)
def test_fixture_is_learned(name: str) -> None:
    found = of_fixture(name)
    wanted = dataclasses.replace(CHATML, **EXPECTED[name])
    for field in dataclasses.fields(Behaviour):
        got, expected = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in {"call", "text_call"}:  # `tojson` of a function is cut at its name
            got, expected = json.dumps(got), json.dumps(expected)
        assert got == expected, field.name


def test_every_fixture_has_its_expectation() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in TEMPLATES.glob("*.jinja"))


def test_variables_of_the_user_win_over_the_switch() -> None:
    found = of_fixture("stripped", {"enable_thinking": False})
    assert found.thinking == found.not_thinking == {}
    assert found.prompt_closed == "<think>\n\n</think>\n\n"


# --- other ways to write a template ---------------------------------------------------------------

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


def test_reasoning_field_is_found() -> None:
    assert learned(chatml(THOUGHT + CONTENT)).forms == Forms(("reasoning",))


def test_reasoning_may_be_read_from_the_content_alone() -> None:
    source = chatml("{{ m.content.split('</think>')[-1] if not loop.last else m.content }}")
    found = learned(source)
    assert found.forms.inline == "<think>\n{}\n</think>\n\n"
    assert (found.opener, found.closer) == ("<think>\n", "\n</think>\n\n")
    assert not found.kept_after_user


def test_reasoning_may_be_a_part_of_the_content() -> None:
    parts = (
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ '[THINK]' ~ p.thinking ~ '[/THINK]' if p.type == 'thinking' else p.text }}"
        "{% endfor %}{% endif %}"
    )
    found = learned(chatml(parts))
    assert found.forms.parts
    assert (found.opener, found.closer) == ("[THINK]", "[/THINK]")


def test_delimiters_that_are_never_shown_follow_from_a_prompt_that_opens() -> None:
    dropped = "{{ m.content.split('</think>')[-1] }}"
    opened = PROMPT.replace("assistant\n", "assistant\n<think>\n")
    found = learned(chatml(dropped, prompt=opened))
    assert (found.prompt_opener, found.opener, found.closer) == ("<think>\n", "", "\n</think>\n\n")
    assert not found.shows_reasoning
    opened = opened.replace("<think>\n", "<think>")
    assert learned(chatml(dropped, prompt=opened)).closer == "</think>"
    assert learned(chatml(dropped)).closer == ""  # nothing says where reasoning would begin


def test_what_is_closed_before_it_begins_is_no_reasoning() -> None:
    assert learned(chatml("{{ '<think></think>' ~ m.content }}")).closer == ""


def test_empty_message_beside_a_call_is_avoided() -> None:
    """As DeepSeek-R1: a content, even an empty one, is a message of its own."""
    calls = "{{ '<tool_call>' ~ m.tool_calls | tojson ~ '<|im_end|>\n' if m.tool_calls }}"
    content = "{% if m.content is not none %}{{ m.content }}<|im_end|>\n{% endif %}"
    source = chatml(calls + content, end="")
    assert learned(source).forms.empty_content is None


@pytest.mark.parametrize(
    ("test", "on", "off"),
    [
        ("not think_now", {"think_now": True}, {"think_now": False}),
        ("mode == 'off'", {}, {"mode": "off"}),
        ("mode in ['off', 'on'] and mode != 'on'", {"mode": "on"}, {"mode": "off"}),
        ("budget is defined and budget == 0", {}, {"budget": 0}),
    ],
)
def test_switch_is_found_whatever_it_is_called(test: str, on: Any, off: Any) -> None:
    closed = "{% if add_generation_prompt and (" + test + ") %}{{ '<think></think>' }}{% endif %}"
    found = learned(chatml(THOUGHT + CONTENT, prompt=PROMPT + closed))
    assert found.not_thinking == off
    assert found.thinking == on or (found.thinking == {} and on == {})
    assert found.prompt_closed == "<think></think>"


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


# --- templates that cannot be trusted -----------------------------------------------------------

PLANTS = {
    "reorders messages": (
        chatml(CONTENT).replace("in messages", "in messages | reverse"),
        "does not show 3 messages in their order",
    ),
    "drops a user message": (
        chatml(CONTENT).replace("in messages", "in messages[-2:]"),
        "leaves out message 1 of 3 (user)",
    ),
    "drops an answer": (
        chatml("{{ m.content if loop.last }}"),
        "leaves out message 2 of 3 (assistant)",
    ),
    "counts the messages": (
        chatml(CONTENT, before="{{ messages | length }}"),
        "renders the first 1 messages otherwise once there are 3",
    ),
    "rewrites history by its length": (
        chatml("{{ m.content ~ ('…' if messages | length > 4) }}"),
        "renders the first 3 messages otherwise once there are 5",
    ),
    "prompts for another role": (
        chatml(CONTENT, prompt=PROMPT.replace("assistant", "bot")),
        r"the generation prompt ends in '<|im_start|>bot\n'",
    ),
    "prompts where it should not": (
        chatml(CONTENT, prompt=PROMPT.replace("if add_generation_prompt", "if true")),
        "writes the generation prompt where none is asked for",
    ),
    "has no stop token": (
        chatml(CONTENT, end="{{ '\n\n' }}").replace("<|im_start|>", "# "),
        "expected a special token of the tokenizer that ends it",
    ),
    "reads the clock": (chatml(CONTENT, before="{{ strftime_now('%d') }}"), "reads the clock"),
    "draws at random": (chatml(CONTENT, before="{{ [1, 2] | random }}"), "draws at random"),
    "shows an address": (chatml(CONTENT, before="{{ messages.append }}"), "an address in memory"),
    "refuses everything": (
        "{{ raise_exception('No.') }}",
        "refuses a plain conversation of 1 messages, expected a chat template (",
    ),
    "recurses": (
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + chatml(CONTENT),
        "RecursionError",
    ),
    "reaches for attributes": (
        chatml(CONTENT, before="{{ messages.__class__.__mro__ }}"),
        "",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_plant_is_refused_with_what_is_wrong(plant: str) -> None:
    source, message = PLANTS[plant]
    with pytest.raises(TemplateError) as caught:
        learned(source)
    assert message in str(caught.value)
    assert str(caught.value).startswith("probe: ")
    assert " Fix: " in str(caught.value)


def test_the_plain_template_behind_the_plants_is_fine() -> None:
    assert learned(chatml(CONTENT)).answer_stop == Stop("<|im_end|>", after="\n")


def test_endless_template_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(limits, "SECONDS", 0.1)
    with pytest.raises(TemplateError, match=r"took more than 0\.1 s"):
        learned(chatml(CONTENT, before=loop))


# --- what the user knows better -----------------------------------------------------------------


def test_override_replaces_what_it_names() -> None:
    learned_ = of_fixture("plain")
    changes = {
        "opener": "<think>\n",
        "closer": "\n</think>\n\n",
        "answer": ["", "\n"],
        "answer_stop": {"token": "<|eot|>"},
        "forms": {"reasoning_fields": ["thought"]},
        "thinking": {"mode": "on"},
        "kept_after_user": True,
    }
    found = override(learned_, json.loads(json.dumps(changes)))
    assert (found.opener, found.closer, found.answer) == ("<think>\n", "\n</think>\n\n", ("", "\n"))
    assert found.answer_stop == Stop("<|eot|>", after="\n")
    assert found.forms == dataclasses.replace(learned_.forms, reasoning_fields=("thought",))
    assert (found.thinking, found.kept_after_user) == ({"mode": "on"}, True)
    assert override(found, {}) == found


def test_what_the_command_prints_can_be_given_back() -> None:
    found = of_fixture("headers")
    assert override(found, json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_inline_reasoning_is_written_with_the_given_delimiters() -> None:
    found = learned(chatml("{{ m.content if '</think>' in m.content or true }}"))
    assert found.forms.inline == "<think>\n{}\n</think>\n\n"
    assert override(found, {"opener": "<think>", "closer": "</think>"}).forms.inline == (
        "<think>{}</think>"
    )
    mine = override(found, {"closer": "</think>", "forms": {"inline": "<think>{}</think>"}})
    assert mine.forms.inline == "<think>{}</think>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oepner": "x"}, "oepner: unknown, expected one of answer, answer_stop, asked, call"),
        ({"opener": None}, "opener: null, expected str"),
        ({"opener": ["x"]}, "opener: array, expected str"),
        ({"kept_in_loop": 1}, "kept_in_loop: int, expected bool"),
        ({"answer": "x"}, "answer: str, expected array"),
        ({"answer": ["x"]}, "answer: 1, expected array of length 2"),
        ({"thinking": True}, "thinking: bool, expected object"),
        ({"ends": {"user": 1}}, "ends[...]: int, expected str"),
        ({"answer_stop": "x"}, "answer_stop: str, expected object"),
        ({"answer_stop": {"tokn": "x"}}, "answer_stop.tokn: unknown, expected one of after, shown"),
        ({"answer_stop": {"shown": "x"}}, "answer_stop.shown: str, expected bool"),
        ({"forms": {"reasoning_fields": "x"}}, "forms.reasoning_fields: str, expected array"),
        ({"forms": {"empty_content": 1}}, "forms.empty_content: int, expected str | null"),
    ],
)
def test_override_of_another_type_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        override(of_fixture("plain"), changes)
    assert f"--template-behaviour: {message}" in str(caught.value)
