"""Shared by the readers of session files: the path from the root to a line."""

from __future__ import annotations

from collections.abc import Sequence

from reasonpack.verify.chat import Json, Refused

Found = tuple[int, Json | Refused]
"""The index of the first line of a call's answer, and the call's record or why there is none."""


def way_to(
    last: int, lines: Sequence[Json], at: dict[str, int], above: str, moved: Json | None = None
) -> list[int]:
    """Return the indices of the lines from the root to the parent of `last`.

    `above` is the key of a line's parent, `moved` has other parents by uuid, which may come later.

    Raises:
        Refused: a parent is missing or comes after its line.
    """
    way, moved = [last], moved or {}
    while True:
        line, uuid = lines[way[-1]], lines[way[-1]].get("uuid")
        parent = moved[uuid] if uuid in moved else line.get(above)
        if parent is None:
            break
        before = at.get(parent) if isinstance(parent, str) else None
        if before is None or (uuid not in moved and before >= way[-1]) or len(way) > len(lines):
            raise Refused("a parent that does not precede its line")
        way.append(before)
    return way[:0:-1]
