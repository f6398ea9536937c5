"""Ids of a call under all their names."""

from __future__ import annotations

import pytest
from logged import one

from reasonpack.records.call_draft import TOKEN_NAMES


@pytest.mark.parametrize("name", TOKEN_NAMES["prompt_ids"])
@pytest.mark.parametrize("other", TOKEN_NAMES["completion_ids"])
def test_ids_under_any_name(name: str, other: str) -> None:
    assert one({name: [5], other: [7]}) == {
        "id": "x:1",
        "prompt_ids": [5],
        "completion_ids": [7],
    }
