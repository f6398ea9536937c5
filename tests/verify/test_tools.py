"""Tools are read alike by packing and by its check, which have no code for it in common."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records import tools as packed
from reasonpack.verify import tools as checked
from reasonpack.verify.chat import NotChecked, Refused

SCHEMA = {"type": "object"}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "f"}},
    {"name": "f", "input_schema": SCHEMA, "description": "d"},
    {"type": "custom", "name": "f", "input_schema": SCHEMA, "cache_control": {}},
    {"type": "function", "name": "f", "strict": None},
    {"name": "f"},
    {"x": 1},
    {"type": "web_search"},
    "f",
    {"input_schema": SCHEMA},
]


def outcome(read: Callable[[dict[str, Any]], Any], record: dict[str, Any]) -> str:
    try:
        return json.dumps(list(read(record) or []))
    except (RecordError, NotChecked, Refused):
        return "refused"


@pytest.mark.parametrize("names", [*itertools.product(packed.TOOL_FIELDS, repeat=2)], ids=",".join)
def test_both_read_the_same(names: tuple[str, str]) -> None:
    for one, other in itertools.product(TOOLS, repeat=2):
        first, second = names
        texts = [json.dumps(each) for each in (one, other)]
        for record in (
            {first: [one], second: [other]},
            {first: json.dumps([one, other])},
            {first: texts},
        ):
            made = outcome(packed.read_tools, record)
            assert made == outcome(checked.read_tools, record), record


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}, "[]", "null"])
@pytest.mark.parametrize("name", packed.TOOL_FIELDS)
def test_none(name: str, nothing: Any) -> None:
    assert not packed.read_tools({name: nothing})
    assert checked.read_tools({name: nothing}) == []
