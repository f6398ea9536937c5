"""The filter `tojson`: what does not change is written once, and as Jinja with its options does."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from reasonpack.templates.template import ChatTemplate

# --- JSON of what does not change -----------------------------------------------------------


def test_json_is_written_once_and_only_while_nothing_changes() -> None:
    template = ChatTemplate.compile("{{ messages[0].a | tojson }}", name="test")
    value = {"ü": [1]}
    assert template.render([{"a": value}]) == '{"ü": [1]}'
    render = partial(template.render, json_texts=template.json_texts([value]))
    assert render([{"a": value}]) == '{"ü": [1]}'
    value["ü"].append(2)  # which is not allowed, and shows that it was kept
    assert render([{"a": value}]) == '{"ü": [1]}'
    assert render([{"a": {"ü": [1, 2]}}]) == '{"ü": [1, 2]}'
    assert template.render([{"a": value}]) == '{"ü": [1, 2]}'


@pytest.mark.parametrize("option", ["indent=2", "sort_keys=true", "ensure_ascii=true"])
def test_json_with_options_is_not_that_without(option: str) -> None:
    source = "{{ messages[0] | tojson }}{{ messages[0] | tojson(" + option + ") }}"
    template = ChatTemplate.compile(source, name="test")
    messages = [{"ü": 1, "a": {"b": 2}}]
    expected = template.render(messages)
    render = partial(template.render, json_texts=template.json_texts(messages))
    assert render(messages) == render(messages) == expected


def test_json_of_what_a_template_may_change_is_written_each_time() -> None:
    source = "{% set x = messages[0].a %}{{ x|tojson }}{% set _ = x.append(1) %}{{ x|tojson }}"
    template = ChatTemplate.compile(source, name="test")
    messages: list[dict[str, Any]] = [{"a": []}]
    render = partial(template.render, json_texts=template.json_texts(messages))
    assert render(messages) == render(messages) == "[][1]"
