"""Which loops of a template are understood, and what is written of them."""

from __future__ import annotations

import inspect

import pytest
from test_loops import E, M

from reasonpack.templates.loop_facts import EACH
from reasonpack.templates.template import ChatTemplate

pytestmark = pytest.mark.long


@pytest.mark.parametrize("asked", ["m is sameas true", "messages|select('sameas', m)"])
def test_a_template_that_asks_for_identity_is_left_alone(asked: str) -> None:
    source = f"{M}{{% if {asked} %}}{{% endif %}}{E}"
    assert ChatTemplate.compile(source, name="identity").sites == ()


def test_a_template_that_changes_lists_is_left_alone() -> None:
    source = (
        "{% set seen = [] %}{% for m in messages %}{% set _ = seen.append(m.role) %}"
        "{{ seen | length }}{% endfor %}"
    )
    assert ChatTemplate.compile(source, name="appends").sites == ()


def test_no_name_of_a_template_gets_into_code() -> None:
    source = '{% for m in messages %}{{ ns["x); y("] }}{{ loop.index0 + 1 }}{% endfor %}'
    (site,) = ChatTemplate.compile(source, name="names").sites
    made = [site.keys.__code__, *filter(inspect.iscode, site.keys.__code__.co_consts)]
    assert {name for code in made for name in code.co_names} <= {"enumerate"}
    assert EACH not in source
