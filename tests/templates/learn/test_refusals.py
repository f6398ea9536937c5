"""Templates that no view can be built from are refused with what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from small_templates import CONTENT, PROMPT, THOUGHT, TOKENS, chatml, learned

from reasonpack.errors import TemplateError
from reasonpack.templates import limits
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate

Json = dict[str, Any]
PLANTS = {
    "reorders messages": (
        chatml(CONTENT).replace("in messages", "in messages | reverse"),
        "shows 3 messages in another order",
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
        "renders the first 1 message differently once there are 3",
    ),
    "rewrites history by its length": (
        chatml("{{ m.content ~ ('…' if messages | length > 4) }}"),
        "renders the first 3 messages differently once there are 5",
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
        "refuses a plain conversation of 1 message, expected a chat template (",
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


CALLS = (
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% if c.function.arguments is mapping %}"
)
CALLS += "{{ c.function.arguments | tojson }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("forms", "what"),
    [
        ({"reasoning_fields": ["thinking"]}, "shows no reasoning in them"),
        ({"arguments_as_text": True}, "shows no arguments of a call in them"),
    ],
)
def test_stated_forms_in_which_a_template_shows_less_are_refused(forms: Json, what: str) -> None:
    template = ChatTemplate.compile(chatml(THOUGHT + CONTENT + CALLS), name="probe")
    with pytest.raises(TemplateError, match=f"--template-behaviour: forms: .* {what}"):
        learn(template, TOKENS, stated={"forms": forms})
    both = {"forms": {"reasoning_fields": ["thinking", "reasoning"]}}
    assert learn(template, TOKENS, stated=both).shows_reasoning


def test_endless_template_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(limits, "SECONDS", 0.1)
    with pytest.raises(TemplateError, match=r"took more than 0\.1 s"):
        learned(chatml(CONTENT, before=loop))
