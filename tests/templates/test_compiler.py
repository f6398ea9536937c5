"""The short ways in a template's Python code end where Jinja's sandbox does."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.runtime
import jinja2.sandbox
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reasonpack.templates import compiler, sandbox
from reasonpack.templates.template import ChatTemplate

TEMPLATES = sorted((Path(__file__).parents[2] / "fixtures").rglob("*.jinja"))


DATE = datetime.date(2026, 1, 1)


HARMLESS_LOOP = sorted(compiler.LOOP_ATTRIBUTES)


HARMLESS_TEXT = sorted(compiler.STR_METHODS)


TESTS = ["defined", "undefined", "none", "string", "true", "false"]


class Plain(sandbox.Environment):
    """The sandbox without what is short in it."""

    code_generator_class = jinja2.compiler.CodeGenerator
    template_class = jinja2.Template
    getattr = jinja2.sandbox.SandboxedEnvironment.getattr
    call = jinja2.sandbox.SandboxedEnvironment.call


def outcome(source: str, variables: dict[str, Any], *, short: bool) -> tuple[str, str]:
    env = sandbox.environment("test", DATE)
    if not short:
        env.__class__ = Plain
    try:
        text = env.from_string(source).render(**variables)
        return "text", re.sub(" at 0x[0-9a-f]+", "", text)
    except Exception as error:  # noqa: BLE001 (whatever it is)
        return type(error).__name__, str(error)


def check(source: str, variables: dict[str, Any]) -> tuple[str, str]:
    """Compare both ways; return what came out."""
    found = outcome(source, variables, short=True)
    assert found == outcome(source, variables, short=False), source
    return found


NAMES = ["role", "content", "items", "keys", "x", "strip", "__class__", "_private", "format"]


ARGUMENTS = ["", "' '", "'a', 1", "none", "chars=' '", "*[' ']", "x", "'a' ~ 'b'"]


ITEMS = ["'role'", "'items'", "'no'", "0", "-1", "1", "-3", "true", "x", "none"]


LEAVES = [
    "x",
    "y.role",
    "y['content']",
    "' a '",
    "z",
    "missing",
    "loop",
    "1",
    "[x, 1]",
    "{'role': x}",
]


VALUES = st.sampled_from(
    [
        "  a b ",
        "",
        7,
        None,
        True,
        [],
        ["strip"],
        {"role": "user", "content": " c\n", "items": "own", "strip": "no method"},
        {"role": None},
        {"format": "{}", "__class__": "k", "_private": 1},
        (1, "a"),
    ]
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(LEAVES))
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(["attribute", "item", "call"]))
        if way == "attribute":
            text += "." + draw(st.sampled_from(NAMES))
        elif way == "item":
            text += f"[{draw(st.sampled_from(ITEMS))}]"
        else:
            method = draw(st.sampled_from([*HARMLESS_TEXT, "upper", "format"]))
            text += f".{method}({draw(st.sampled_from(ARGUMENTS))})"
    test = draw(st.sampled_from([None, *TESTS, "mapping", "divisibleby(2)"]))
    return f"({text}) is {test}" if test else text


@given(expressions(), VALUES, VALUES, VALUES)
@example("x.content.strip()", {"content": " a "}, 1, 1)
@example("x.role", {"role": jinja2.Undefined()}, 1, 1)
def test_expressions_are_as_without(expression: str, x: Any, y: Any, z: Any) -> None:
    check(
        f"{{{{ {expression} }}}}{{% for each in [1, 2] %}}{{{{ {expression} }}}}{{% endfor %}}",
        {"x": x, "y": y, "z": z},
    )


@pytest.mark.parametrize(
    "name",
    [
        *HARMLESS_LOOP,
        *("revindex", "depth", "cycle", "length0", "cycle(1, 2)", "changed(a)", "last ~ loop"),
        *("nextitem ~ loop.nextitem ~ loop.last ~ loop.previtem", "nextitem is defined"),
    ],
)
def test_a_loop_is_as_without(name: str) -> None:
    check(f"{{% for a in x %}}[{{{{ loop.{name} }}}}]{{% endfor %}}", {"x": ["a", "b"]})
    check(f"{{% set loop = x %}}{{{{ loop.{name} }}}}", {"x": {name: "own"}})
    check(f"{{{{ loop.{name} }}}}", {})
    some = "{% for a in x if a != 'b' %}"
    check(f"{some}[{{{{ loop.{name} }}}}]{{% endfor %}}", {"x": ["a", "b", "b", "a", "c", "c"]})
    check(f"{some}[{{{{ loop.{name} }}}}]{{% endfor %}}", {"x": []})
    nested = (
        f"{{% for a in x %}}{{% for b in a %}}{{{{ loop.{name} }}}}{{% endfor %}}{{% endfor %}}"
    )
    check(nested, {"x": ["ab", "c"]})


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.__class__ }}",
        "{{ x.__class__.a }}",
        "{{ x.strip.__self__ }}",
        "{{ ''.format(x) }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ x.items() }}",
        "{{ (x.a.b).c }}",
        "{{ missing.role }}",
        "{{ missing.strip() }}",
        "{{ x.split('a', 1)[0].strip('b').startswith('c') }}",
        "{% macro m(x) %}{{ x.a.strip() }}{{ caller() }}{% endmacro %}{% call m(x) %}{% endcall %}",
        "{% set ns = namespace(a=1) %}{{ ns.a }}{{ ns.b }}{% set ns.b = x.a %}{{ ns.b.strip() }}",
        "{{ x.a.strip() if x.a is string else x.a }}{{ x.b is defined }}",
        "{{ x[1] is defined }}{{ x[-2] }}{{ x['a'] }}{{ x['b'] }}{{ x[9] }}",
        "{% for a in [x] %}{{ namespace(b=a) }}{% endfor %}",
        *("{{ x is " + test + " }}{{ x.b is " + test + " }}" for test in TESTS),
    ],
)
@pytest.mark.parametrize(
    "x", [{"a": {"b": " c "}}, {"a": " d "}, " e ", "", 3, None, [], ["e"], True, False]
)
def test_what_is_refused_is_refused(source: str, x: Any) -> None:
    check(source, {"x": x})


def test_a_list_that_a_template_changes_is_gone_over_as_it_changes() -> None:
    source = "{% for a in messages %}{{ loop.index }}{% if a < 3 %}"
    source += "{% set _ = messages.append(a + 1) %}{% endif %}{% endfor %}"
    template = ChatTemplate.compile(source, name="test")
    assert template.render([1]) == "123"  # type: ignore[list-item]


def test_refusals_are_there_to_compare() -> None:
    assert check("{{ x.__class__.a }}", {"x": 3})[0] == "SecurityError"
    assert check("{{ missing.role }}", {})[0] == "UndefinedError"
    assert check("{{ x.a.strip(1) }}", {"x": {"a": "b"}})[0] == "TypeError"
    assert check("{{ x.a.strip('b') }}", {"x": {"a": "bab"}}) == ("text", "a")


def test_code_grows_with_the_template_and_not_faster() -> None:
    source = "{{ x" + ".a.strip('b')" * 40 + " }}{{ x.strip(" + "x.strip(" * 30 + ")" * 31 + " }}"
    env = sandbox.environment("test", None)
    assert len(env.compile(source, raw=True)) < 100 * len(source)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_are_as_without(path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, None], "b": "ü"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": " s "},
        {"role": "user", "content": "\nq\n"},
        {"role": "assistant", "content": "", "reasoning_content": "r\n", "tool_calls": [call]},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "<think>x</think> y ", "tool_calls": None},
    ]
    source = path.read_text("utf-8")
    texts = 0
    for stop in range(1, len(messages) + 1):
        for tools in (None, [{"type": "function", "function": {"name": "f"}}]):
            variables = {"messages": messages[:stop], "tools": tools, "enable_thinking": stop < 3}
            kind, _ = check(source, {**variables, "add_generation_prompt": stop % 2 == 0})
            texts += kind == "text"
    assert texts
