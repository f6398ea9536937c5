"""What the user knows of a template wins over what was learned."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from small_templates import chatml, learned, of_fixture

from reasonpack.errors import TemplateError
from reasonpack.templates.behaviour import override
from reasonpack.templates.stop import Stop
from tests.changed import replace


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
    assert found.forms == replace(learned_.forms, reasoning_fields=("thought",))
    assert (found.thinking, found.kept_after_user) == ({"mode": "on"}, True)
    assert override(found, {}) == found


def test_what_the_command_prints_can_be_given_back() -> None:
    found = of_fixture("headers")
    assert override(found, msgspec.to_builtins(found)) == found


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
