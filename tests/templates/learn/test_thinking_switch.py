"""The variables that make a template's model reason are found, whatever their names."""

from __future__ import annotations

from typing import Any

import pytest
from small_templates import CONTENT, PROMPT, THOUGHT, chatml, learned, of_fixture


def test_variables_of_the_user_win_over_the_switch() -> None:
    found = of_fixture("stripped", {"enable_thinking": False})
    assert found.thinking == found.not_thinking == {}
    assert found.prompt_closed == "<think>\n\n</think>\n\n"


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
