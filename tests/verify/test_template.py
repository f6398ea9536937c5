"""Templates as `verify` renders them, and the forms that they read."""

from __future__ import annotations

import datetime

import pytest
from text_views import ASK, END, USER, said, template

from reasonpack.verify.chat import NotChecked, Reading
from reasonpack.verify.reader import read_chat
from reasonpack.verify.template import Forms, Template, learn_forms


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_the_name_of_the_reasoning_is_tried_out(name: str) -> None:
    source = f"{USER}{{{{ m.{name} }}}}{{{{ m.content }}}}{END}{{% endif %}}"
    assert learn_forms(template(source), {}, "<think>").field == name


def test_arguments_as_text() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments + '' }}{% endfor %}{% endfor %}"
    )
    forms = learn_forms(template(source), {}, "")
    assert forms.arguments_as_text
    message = said("", tool_calls=[{"name": "f", "arguments": {"a": "ä"}}])
    given = forms.given(read_chat({"messages": [message]}, Reading()).messages[0], "", "")
    assert given["tool_calls"][0]["function"]["arguments"] == '{"a": "ä"}'


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ("{{ m.content or '' }}", ("", True)),
        ("{% if m.content is not none %}<empty>{% endif %}", ("", True)),
        ("{{ m.content + '' }}", ("", False)),
        ("{{ m.content }}", ("", False)),
        ("{{ 'no' if m.content is none else raise_exception('no') }}", (None, True)),
    ],
)
def test_the_content_of_a_call_alone(shown: str, given: tuple[str | None, bool]) -> None:
    """Null if the template takes that, lest it writes an empty message."""
    calls = "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}"
    content = f"{{% if m.tool_calls %}}{shown}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    forms = learn_forms(template(f"{USER}{content}{calls}{END}{{% endif %}}"), {}, "")
    assert (forms.empty, forms.null) == given
    call = {"function": {"name": "f", "arguments": {}}}
    message = read_chat({"messages": [said("", tool_calls=[call])]}, Reading()).messages[0]
    assert forms.given(message, "", "")["content"] == given[0]


@pytest.mark.parametrize(
    ("source", "inline"),
    [
        (f"{USER}{{{{ m.content }}}}{END}{{% endif %}}", False),
        (f"{USER}{{{{ m.content }}}}{END}{{% endif %}}{{# </think> #}}", True),
    ],
)
def test_stated_delimiters_go_where_the_template_looks_for_tags(source: str, inline: bool) -> None:
    """The user states them for reasoning that the template does not show."""
    assert learn_forms(template(source), {}, "<think>", stated=True).inline == inline


@pytest.mark.parametrize(("note", "as_written"), [("", False), ("{# </think> #}", True)])
def test_tags_in_the_content_are_the_templates_own_if_it_names_them(
    note: str, as_written: bool
) -> None:
    shown = "{% if loop.last %}{{ m.reasoning or '' }}{{ m.content }}{% endif %}"
    forms = learn_forms(template(f"{note}{USER}{shown}{END}{{% endif %}}"), {}, "<think>")
    assert (forms.field, forms.as_written) == ("reasoning", as_written)


def test_a_template_renders_as_transformers_documents_it() -> None:
    source = (
        "{% generation %}\n{{ {'a': '<ä>'} | tojson }}{% endgeneration %}{{ strftime_now('%Y') }}"
    )
    made = Template("t", source, {}, datetime.date(2026, 1, 2))
    assert made.render([], [], {}) == '{"a": "<ä>"}2026'
    with pytest.raises(NotChecked, match="no date"):
        template(source).render([], [], {})
    with pytest.raises(NotChecked, match="only users"):
        template("{{ raise_exception('only users') }}").render([], [], {})
    grows = "{% set all = [] %}{% set _ = all.append('x') %}{{ all | length }}"
    assert template(grows).render([ASK], [], {}) == "1"


def test_forms_have_a_default() -> None:
    assert Forms().given(read_chat({"messages": [ASK]}, Reading()).messages[0], "", "") == ASK
