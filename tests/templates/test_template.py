"""Chat templates render as `transformers` renders them."""

from __future__ import annotations

import json

import pytest
from rendered import HELLO, compiled, rendered

from reasonpack.errors import RecordError

# --- the environment ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<Ü>"}]'),
        ("{{ {'b': 1, 'a': 2} | tojson }}", '{"b": 1, "a": 2}'),
        ("{{ {'b': 1} | tojson(indent=1) }}", '{\n "b": 1\n}'),
        ("{{ 'ü' | tojson(ensure_ascii=True) }}", '"\\u00fc"'),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}", '{"a": 2, "b": 1}'),
        ("{% for i in 'abc' %}{% if i == 'b' %}{% continue %}{% endif %}{{ i }}{% endfor %}", "ac"),
        ("{% for i in 'abc' %}{{ i }}{% if i == 'b' %}{% break %}{% endif %}{% endfor %}", "ab"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ nothing }}{{ documents }}{{ tools }}{{ add_generation_prompt }}", "NoneNoneFalse"),
        ("{{ documents is defined }}{{ nothing is defined }}", "TrueFalse"),
        ("{% set x = [] %}{% set _ = x.append(1) %}{{ x }}", "[1]"),
    ],
)  # fmt: skip
def test_environment(source: str, text: str) -> None:
    assert rendered(source, [{"role": "user", "content": "<Ü>"}]) == text


def test_generation_blocks_render_in_a_scope_of_their_own() -> None:
    block = "{% generation %}{{ a }}{% set a = 2 %}{{ a }}{% endgeneration %}"
    assert rendered("{% set a = 1 %}" + block + "{{ a }}") == "121"
    block = "{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}"
    assert rendered("{% for m in messages %}" + block + "{% endfor %}") == "Hi1"


def test_special_tokens_give_way_to_the_callers_variables() -> None:
    template = compiled("{{ bos_token }}{{ eos_token }}", special_tokens={"bos_token": "<s>"})
    assert template.render(HELLO) == "<s>"
    assert template.render(HELLO, kwargs={"bos_token": "!", "eos_token": "?"}) == "!?"


def test_the_arguments_outrank_variables_of_the_same_name() -> None:
    text = rendered(
        "{{ messages | length }}{{ tools }}{{ add_generation_prompt }}",
        kwargs={"messages": [], "tools": [1], "add_generation_prompt": True},
    )
    assert text == "1NoneFalse"


def test_a_template_that_needs_tools_as_objects_says_which_option_makes_them_such() -> None:
    source = "{% for each in tools %}{{ each.function.name }}{% endfor %}"
    with pytest.raises(RecordError) as caught:
        rendered(source, tools=[{"name": "f"}])
    assert "--field tools=functions" in caught.value.fix
    assert rendered(source, tools=[{"type": "function", "function": {"name": "f"}}]) == "f"


def test_template_may_refuse() -> None:
    with pytest.raises(RecordError) as caught:
        rendered("{{ raise_exception('Only\nusers, please.') }}")
    assert caught.value.reason == "template"
    assert "refuses them: Only users, please, expected" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ messages[3].role }}", "has no element 3"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ nothing.more }}", "'nothing' is undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ messages | tojson(indent='x' ) ~ ('%d' | format('x')) }}", "TypeError"),
    ],
)
def test_template_that_fails_on_a_record_is_a_reject(source: str, fault: str) -> None:
    with pytest.raises(RecordError, match=fault) as caught:
        rendered(source)
    assert caught.value.reason == "template"


def test_inputs_are_not_changed() -> None:
    source = "{% set _ = messages[0].update({'content': 'x'}) %}{% set _ = messages.pop() %}done"
    messages, tools = [{"role": "user", "content": "Hi"}], [{"a": 1}]
    before = json.dumps([messages, tools])
    assert rendered(source, messages, tools=tools) == "done"
    assert json.dumps([messages, tools]) == before


def test_what_a_template_mentions() -> None:
    template = compiled(
        "{% if mode == 'on' or mode in ['off', 'low'] %}{{ messages[0]['thinking'] }}{% endif %}"
        "{% if budget == 0 or budget == -1 or flag is true %}{% endif %}"
        "{% if not known is defined %}{% set known = 1 %}{% endif %}{% set own = 2 %}{{ own }}"
    )
    assert {"mode", "budget", "flag", "known", "messages"} <= template.variables
    assert "own" not in template.variables
    assert "thinking" in template.words
    assert template.choices["mode"] == ("on", "off", "low")
    assert template.choices["budget"] == (0, -1)
    assert "flag" not in template.choices


def test_hash_is_of_the_source() -> None:
    assert compiled("a").sha256 == compiled("a").sha256 != compiled("b").sha256
