"""What the readers of session files share: the way to a line, and the record of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reasonpack.verify.chat import Json, Refused

Found = tuple[int, Json | Refused]
"""The line that a call is told by, and its record, or why it cannot be had."""


def way_to(last: int, lines: Sequence[Json], at: dict[str, int], above: str) -> list[int]:
    """Return the lines from the root to the one before the `last`.

    Raises:
        Refused: a parent does not stand before its line.
    """
    way = [last]
    while (parent := lines[way[-1]].get(above)) is not None:
        before = at.get(parent) if isinstance(parent, str) else None
        if before is None or before >= way[-1]:
            raise Refused("a parent that does not stand before its line")
        way.append(before)
    return way[:0:-1]


def call_of(history: Sequence[Json], answer: Json, **more: Any) -> Json:
    """Make the record of a call."""
    return {"messages": [*history], "response": answer, **more}
