"""How values from data appear in messages."""

from __future__ import annotations

import pytest

from reasonpack.wording import nearest


@pytest.mark.parametrize(
    ("name", "expected"),
    [("reasonning", "reasoning"), ("thougth", "thought"), ("tols", "tools"), ("tool", "tools"),
     ("id", ""), ("topic", ""), ("turns", ""), ("Reasoning", "reasoning")],
)  # fmt: skip
def test_the_nearest_name(name: str, expected: str) -> None:
    assert nearest(name, ["reasoning", "thought", "tools", "train", "role"]) == expected
