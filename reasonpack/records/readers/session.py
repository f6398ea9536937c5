"""What the readers of session files share: a line, and the way to it.

A session file is one group. Its lines are no calls by themselves: a call is an answer, with what
the session held before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from reasonpack.errors import RecordError


class Line(NamedTuple):
    """A line of a session, decoded; `where` is `file:line`."""

    where: str
    fields: Mapping[str, Any]


def way_to(
    lines: Sequence[Line],
    at: Mapping[str, int],
    last: int,
    parent: str,
    moved: Mapping[str, str | None] = MappingProxyType({}),
) -> list[int]:
    """Return the lines from the root to one, which is the last of them.

    `at` has the index of a line by its id, which others have in the field `parent`; lines that
    were `moved` have another parent, wherever that stands.

    Raises:
        RecordError: a parent that does not stand before its child.
    """
    way, to = [last], {at[own]: above for own, above in moved.items() if own in at}
    while (above := to.get(way[-1], lines[way[-1]].fields.get(parent))) is not None:
        before = at.get(above) if isinstance(above, str) else None
        ahead = before is not None and before >= way[-1] and way[-1] not in to
        if before is None or ahead or len(way) == len(lines):
            what = f"the parent of {lines[way[-1]].where} does not stand before it, expected it"
            fix = "Give the whole file, or leave these calls out (--on-error skip)."
            raise RecordError("missing", parent, what, fix=fix)
        way.append(before)
    return way[::-1]
