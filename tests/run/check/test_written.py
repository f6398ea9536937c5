"""A fault that is planted in the tokens is found, with the chats and by the tokens alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run.check.checked import (
    CHATS,
    START,
    Rows,
    check,
    places,
    saved,
    stop_untrained,
)


def all_trained(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return [*ids, 198], [*ids, 198]


def without_stop(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids[:-1], labels[:-1]


def cut(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids[:-5], labels[:-5]


def shifted(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids, [*labels[1:], -100]


def headless(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    at = ids.index(START, 1)
    return ids[at:], labels[at:]


PLANTED: list[tuple[Callable[..., Any], dict[str, int], dict[str, int]]] = [
    (all_trained, {"template-text": 1, "after-stop": 1}, {"template-text": 1, "after-stop": 1}),
    (stop_untrained, {"stop-untrained": 1}, {"stop-untrained": 1}),
    (without_stop, {"stop-missing": 1}, {"cut": 1}),
    (cut, {"cut": 1}, {"cut": 1}),
    (shifted, {"labels": 1}, {"labels": 1}),
    (headless, {"context": 1}, {}),
]


@pytest.mark.parametrize(
    ("plant", "faults", "suspects"), PLANTED, ids=[each[0].__name__ for each in PLANTED]
)
def test_a_planted_fault_is_found(
    plant: Callable[..., Any],
    faults: dict[str, int],
    suspects: dict[str, int],
    right: Rows,
    tmp_path: Path,
) -> None:
    """In the first row, of one turn; with the source it is a fault, without it a suspect."""
    rows = saved(tmp_path, [plant(*right[0]), *right[1:]])
    status, found = check(rows, CHATS)
    assert (status, places(found, "faults")) == (1, faults)
    status, found = check(rows)
    assert (status, places(found, "suspects")) == (0, suspects)
