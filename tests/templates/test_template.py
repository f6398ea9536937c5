"""Chat templates: where they are found, what they may do, and within which bounds."""

from __future__ import annotations

import datetime
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reasonpack.errors import RecordError, TemplateError, UsageError
from reasonpack.templates import limits
from reasonpack.templates.find import load_template, read_templates
from reasonpack.templates.template import ChatTemplate

HELLO = [{"role": "user", "content": "Hi"}]


def compiled(source: str, **more: Any) -> ChatTemplate:
    return ChatTemplate.compile(source, name="probe", **more)


def rendered(source: str, messages: Any = HELLO, **more: Any) -> str:
    return compiled(source).render(messages, **more)


# --- where it is found --------------------------------------------------------------------------


def sources(directory: Path | None, config: dict[str, Any], choice: str | None = None) -> list[str]:
    found = load_template(choice, directory=directory, config=config)
    return [template.source for template in found]


def test_file_outranks_legacy_file_outranks_config(tmp_path: Path) -> None:
    config = {"chat_template": "config"}
    assert sources(None, config) == ["config", "config"]
    (tmp_path / "chat_template.json").write_text('{"chat_template": "legacy"}', "utf-8")
    assert sources(tmp_path, config) == ["legacy", "legacy"]
    (tmp_path / "chat_template.jinja").write_text("file", "utf-8")
    assert sources(tmp_path, config) == ["file", "file"]


def test_tools_have_a_template_of_their_own(tmp_path: Path) -> None:
    entries = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert sources(None, {"chat_template": entries}) == ["a", "b"]
    assert sources(None, {"chat_template": entries}, "default") == ["a", "a"]
    assert sources(None, {"chat_template": entries}, "tool_use") == ["b", "b"]
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("c", "utf-8")
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("d", "utf-8")
    assert sources(tmp_path, {"chat_template": "a"}) == ["a", "c"]
    assert sources(tmp_path, {"chat_template": "a"}, "rag") == ["d", "d"]


def test_without_a_template_of_its_own_both_are_one_object() -> None:
    first, second = load_template(None, directory=None, config={"chat_template": "x"})
    assert first is second


def test_choice_may_be_a_file_or_a_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("from a file", "utf-8")
    assert sources(None, {}, str(path)) == ["from a file"] * 2
    assert sources(None, {}, "{{ messages }}") == ["{{ messages }}"] * 2


@pytest.mark.parametrize(
    ("choice", "config", "message"),
    [
        (None, {}, "tokenizer: no chat template, expected one"),
        (
            None,
            {"chat_template": [{"name": "rag", "template": ""}]},
            "no chat template; it has rag, expected one",
        ),
        ("nowhere.jinja", {}, "--chat-template 'nowhere.jinja': no such file"),
        (
            "rga",
            {"chat_template": [{"name": "rag", "template": ""}]},
            "one of the tokenizer's: rag",
        ),
    ],
)
def test_missing_template_is_a_usage_error(choice: Any, config: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_template(choice, directory=None, config=config)
    assert message in str(caught.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text("[]", "utf-8")
    with pytest.raises(TemplateError, match=r"chat_template\.json: no text under chat_template"):
        read_templates(tmp_path, {})
    (tmp_path / "chat_template.json").unlink()
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(TemplateError, match=r"chat_template\.jinja: .* expected a readable UTF-8"):
        read_templates(tmp_path, {})
    with pytest.raises(TemplateError, match="an entry without name and template"):
        read_templates(None, {"chat_template": [{"name": "default"}]})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{% if %}", "probe: line 2: Expected an expression"),
        ("{" * 50 + "%", "unexpected"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "while compiling"),
        ("x" * (4 << 20) + "x", "the template has 4,194,305 characters"),
    ],
)
def test_what_is_no_template_is_refused(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        compiled(source)


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


def test_template_may_refuse() -> None:
    with pytest.raises(RecordError) as caught:
        rendered("{{ raise_exception('Only\nusers, please.') }}")
    assert caught.value.reason == "template"
    assert "refuses them: Only users, please." in str(caught.value)


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


# --- clock, chance, bounds ----------------------------------------------------------------------


def test_clock_needs_a_date() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    with pytest.raises(TemplateError, match=r"reads the clock .* Fix: pass --date"):
        rendered(source)
    assert compiled(source, date=datetime.date(2026, 1, 2)).render(HELLO) == "02 Jan 2026"


@pytest.mark.parametrize("source", ["{{ [1, 2, 3] | random }}", "{{ lipsum() }}"])
def test_chance_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="draws at random"):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[-1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{{ raise_exception.__globals__['Path'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ('{0.__class__.__base__}').format(messages) }}",
        "{{ (messages | map(attribute='__class__') | list)[0].mro() }}",
    ],
)
def test_template_stays_in_the_sandbox(source: str) -> None:
    with pytest.raises((TemplateError, RecordError)) as caught:
        rendered(source)
    assert "unsafe" in str(caught.value) or "undefined" in str(caught.value)


@pytest.mark.parametrize(
    "source", ["{{ 'x' * 99999999 }}", "{{ 9 ** 9999 }}", "{{ [0] * 99999999 }}"]
)
def test_much_out_of_little_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="that is too large"):
        rendered(source)


ENDLESS = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)


def test_endless_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    template = compiled(ENDLESS)
    monkeypatch.setattr(limits, "SECONDS", 0.1)
    with pytest.raises(TemplateError, match=r"probe: took more than 0\.1 s"):
        template.render(HELLO)
    assert rendered("{{ messages[0].content }}") == "Hi"  # the timer is off again


def test_the_timer_of_a_block_before_bounds_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rings once for nothing, outside of any block or inside one that has time left."""
    template = compiled("{{ messages[0].content }}")
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    with limits.ready_for_bounds():
        assert template.render(HELLO) == "Hi"
        time.sleep(0.6)  # it rings here
        with limits.bounds("first"):
            time.sleep(0.3)
        with limits.bounds("second"):
            time.sleep(0.3)  # and here, too early for this one
        time.sleep(0.6)
        with limits.bounds("first"):
            time.sleep(0.3)
        with (
            pytest.raises(TemplateError, match=r"endless: took more than 0\.5 s"),
            limits.bounds("endless"),
        ):
            time.sleep(9)  # too early once, and then in time
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
def test_greedy_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = (
        "{% set ns = namespace(text='0123456789' * 100000) %}"
        "{% for _ in range(40) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}"
    )
    monkeypatch.setattr(limits, "HEADROOM", 256 << 20)
    with pytest.raises(TemplateError, match=r"took 0\.25 GiB more, expected a rendering"):
        rendered(doubling)
    monkeypatch.undo()
    assert len(bytearray(300 << 20)) == 300 << 20  # the limit is off again


@pytest.mark.parametrize("method", ["messages[k](1)", "(messages | attr(k))(1)"])
def test_a_method_that_is_named_in_pieces_changes_nothing(method: str) -> None:
    source = (
        "{% set k = ['app', 'end'] | join %}{% set _ = " + method + " %}{{ messages | length }}"
    )
    template = ChatTemplate.compile(source, name="pieces")
    with pytest.raises(TemplateError, match="only reads its messages"):
        template.render(HELLO)
    assert len(HELLO) == 1
