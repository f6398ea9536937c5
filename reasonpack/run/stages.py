"""The time that a process spends in each stage; a second counts to one stage only.

    with stage("render"): …      measured() ──→ {"render": 1.25, "encode": 0.5, …}

A block costs half a microsecond, so that it is always on; blocks are around the work on a
conversation or a unit, never on a token.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")

_seconds: dict[str, float] = {}


class stage:  # noqa: N801 (used as a function)
    """Add the time of the block to a stage, without the time of stages inside it."""

    __slots__ = ("_before", "_begin", "_name")
    _inside = 0.0

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before, stage._inside = stage._inside, 0.0
        self._begin = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        taken = time.perf_counter() - self._begin
        _seconds[self._name] = _seconds.get(self._name, 0.0) + taken - stage._inside
        stage._inside = self._before + taken


def measured() -> dict[str, float]:
    """Return the seconds of each stage in this process, in the order of their first use."""
    return dict(_seconds)


def profile_lines(seconds: dict[str, float], total: float) -> str:
    """Return a line per stage, and one for the rest of the `total` time.

    >>> print(profile_lines({"render": 1.5, "encode": 0.5}, 2.5))
    render           1.50 s   60 %
    encode           0.50 s   20 %
    other            0.50 s   20 %
    """
    rows = {**seconds, "other": max(0.0, total - sum(seconds.values()))}
    whole = sum(rows.values()) or 1.0
    return "\n".join(
        f"{name:<14} {taken:6.2f} s {taken / whole * 100:4.0f} %" for name, taken in rows.items()
    )


def staged(name: str, items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield the items, and count the time to get each of them to a stage."""
    iterator = iter(items)
    while True:
        with stage(name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
