"""Which token ends a message, by the model's files and by what templates write behind answers."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import assets
import pytest

from reasonpack.errors import TemplateError
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.learn.stop_token import BEGINS, ENDS_ALL, FOLLOWS, LISTED, STATED
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import load_tokenizer

TOKENS = ["<|user|>", "<|bot|>", "<|end|>", "<|close|>", "<|eos|>", "<|sep|>", "<|open|>"]
DATE = datetime.date(2026, 1, 2)
PROMPT = "{% if add_generation_prompt %}{{ '<|bot|>' }}{% endif %}"
CALLS = "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"


def chat(bot: str, *, user: str = "'<|end|>'", behind: str = "", prompt: str = PROMPT) -> str:
    """Write a template whose answers and user messages end in the texts of two expressions."""
    turn = "{{ ('<|bot|>' if m.role == 'assistant' else '<|user|>') ~ (m.content or '') }}" + CALLS
    end = "{{ (" + bot + ") if m.role == 'assistant' else (" + user + ") }}"
    return "{% for m in messages %}" + turn + end + "{% endfor %}" + behind + prompt


def learned(source: str, tokens: list[str] = TOKENS, **known: Any) -> Behaviour:
    return learn(ChatTemplate.compile(source, name="probe"), tokens, **known)


@pytest.mark.parametrize(
    ("bot", "known", "token", "source"),
    [
        ("'<|end|>'", {}, "<|end|>", FOLLOWS),
        ("'<|end|>\n'", {}, "<|end|>", FOLLOWS),
        ("'<|close|><|end|>'", {}, "<|end|>", ENDS_ALL),
        ("'<|close|> said <|end|>'", {}, "<|end|>", ENDS_ALL),
        ("'<|close|><|eos|>'", {"eos": ["<|eos|>"]}, "<|eos|>", LISTED),
        ("'<|eos|><|sep|>'", {"eos": ["<|eos|>"]}, "<|eos|>", LISTED),
        # Only the conversation as a whole ends in the second.
        ("'<|end|>\n' ~ ('<|eos|>' if loop.last else '')", {}, "<|end|>", FOLLOWS),
        # Two ends: the last answer's is what the model writes.
        ("'<|eos|>' if loop.last else '<|end|>'", {}, "<|eos|>", FOLLOWS),
        # Neither special nor listed: no token that could stop a model.
        ("'<|close|><|end|>'", {"special": {"<|end|>"}}, "<|end|>", FOLLOWS),
        ("'<|close|><|end|>'", {"special": {"<|close|>"}, "eos": ["<|end|>"]}, "<|end|>", LISTED),
        ("''", {}, "<|user|>", BEGINS),
        (
            "'<|close|><|sep|>'",
            {"stated": {"answer_stop": {"token": "<|sep|>"}}},
            "<|sep|>",
            STATED,
        ),
    ],
)
def test_the_stop_of_an_answer(bot: str, known: dict[str, Any], token: str, source: str) -> None:
    found = learned(chat(bot), **known).answer_stop
    assert (found.token, found.source) == (token, source)
    assert found.shown is (source != BEGINS)


@pytest.mark.parametrize("space", ["\n", "\n\n", " ", "\t"])
def test_white_space_among_the_added_tokens_changes_nothing(space: str) -> None:
    thought = "{{ '<think>\n' ~ m.thinking ~ '\n</think>\n\n' if m.thinking }}"
    source = chat("'<|end|>\n'").replace("~ (m.content", "}}" + thought + "{{ (m.content")
    tokens = [*TOKENS, "<think>", "</think>"]
    with_space = learned(source, [space, "\n\n\n", *tokens])
    assert with_space == learned(source, tokens)
    assert (with_space.answer_stop.token, with_space.opener) == ("<|end|>", "<think>\n")


def test_the_header_of_the_next_message_is_no_stop() -> None:
    """The template always opens the next message."""
    opens = "{{ '<|open|><|bot|>' }}{% if add_generation_prompt %}{{ '<|sep|>' }}{% endif %}"
    source = (
        "{% for m in messages %}{{ '<|open|>' ~ ('<|bot|><|sep|>' if m.role == 'assistant' else "
        "'<|user|>') ~ m.content ~ ('<|close|>' if m.role == 'assistant' else '') ~ '<|end|>' }}"
        "{% endfor %}" + opens
    )
    found = learned(source)
    assert found.answer_stop == Stop("<|end|>", after="<|open|><|bot|>", source=ENDS_ALL)
    assert found.answer[1] == "<|close|>"


def test_two_tokens_that_nothing_tells_apart_are_refused_and_can_be_stated() -> None:
    source = chat("'<|close|><|sep|>'")
    with pytest.raises(
        TemplateError, match=r"'<\|close\|>' and '<\|sep\|>' follow an answer"
    ) as told:
        learned(source)
    assert '{"answer_stop": {"token": "<|close|>"}} or another of' in told.value.fix
    found = learned(source, stated={"answer_stop": {"token": "<|close|>"}}).answer_stop
    assert found == Stop("<|close|>", after="<|sep|>", source=STATED)


def test_an_eos_that_is_no_token_is_refused() -> None:
    with pytest.raises(
        TemplateError, match=r"'<\|lost\|>' follows an answer, which the model's files"
    ):
        learned(chat("'<|lost|>\n'"), eos=["<|lost|>"])
    assert learned(chat("'<|end|>\n'"), eos=["<|lost|>"]).answer_stop.token == "<|end|>"


def test_a_stated_stop_has_to_be_a_token() -> None:
    with pytest.raises(TemplateError, match=r"'nonsense' is no added token.* has it: <\|"):
        learned(chat("'<|end|>'"), stated={"answer_stop": {"token": "nonsense"}})


def test_no_token_that_can_stop_is_refused_and_can_be_stated() -> None:
    source = (
        chat("'<|close|>'", user="'\n'").replace("<|user|>", "User: ").replace("<|bot|>", "A: ")
    )
    with pytest.raises(TemplateError, match="expected a special token") as told:
        learned(source, special={"<|eos|>"})
    shown = json.loads(re.findall(r"holds (.*?}})", told.value.fix)[0])
    assert learned(source, special={"<|eos|>"}, stated=shown)
    stated = {"answer_stop": {"token": "<|close|>"}}
    assert learned(source, special={"<|eos|>"}, stated=stated).answer_stop.token == "<|close|>"


def test_a_header_written_by_the_turn_of_the_user_is_no_generation_prompt() -> None:
    """Its end and that of an answer have characters in common, and no token."""
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' ~ m.content ~ '<|bot|>' }}"
        "{% elif m.role == 'assistant' %}{{ m.content ~ '<|eos|>' }}{% endif %}{% endfor %}"
    )
    for text in (source, source.replace("<|bot|>", "[bot]"), source.replace("<|bot|>", "<bot>\n")):
        assert learned(text).answer_stop == Stop("<|eos|>")


def test_what_the_user_states_of_the_prompt_is_not_missed() -> None:
    prompt = PROMPT.replace("<|bot|>", "<|bot|> Sure: ")
    source = chat("'<|end|>'", prompt=prompt)
    source = source.replace("m.content or ''", "(m.content or '').replace('<think>', '')")
    with pytest.raises(TemplateError, match="the generation prompt ends in"):
        learned(source)
    assert learned(source, stated={"header": "<|bot|>"}).header == "<|bot|>"


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "stop", "after"),
    [
        ("qwen3", "<|im_end|>", "\n"),
        ("gemma3", "<end_of_turn>", "\n"),
        ("llama3_1", "<|eot_id|>", ""),
        ("deepseek_v3", "<｜end▁of▁sentence｜>", ""),
    ],
)
def test_the_stops_of_real_tokenizers(name: str, stop: str, after: str) -> None:
    """Gemma 3 has 62 added tokens that are white space."""
    tokenizer = load_tokenizer(assets.tokenizer_dir(name))
    template = ChatTemplate.compile(
        tokenizer.config["chat_template"], name=name, special_tokens=tokenizer.special_tokens
    )
    found = learn(template, tokenizer.added_tokens, special=tokenizer.special, eos=tokenizer.eos)
    assert found.answer_stop == Stop(stop, after=after, source=FOLLOWS)


@pytest.mark.network
@pytest.mark.parametrize("name", ["trl/gptoss", "llama.cpp/openai-gpt-oss-120b"])
def test_the_stops_of_gpt_oss(name: str) -> None:
    tokenizer = load_tokenizer(assets.tokenizer_dir("gptoss"))
    template = ChatTemplate.compile(assets.template(name), name=name, date=DATE)
    found = learn(template, tokenizer.added_tokens, special=tokenizer.special, eos=tokenizer.eos)
    assert (found.answer_stop.token, found.call_stop.token) == ("<|return|>", "<|call|>")
