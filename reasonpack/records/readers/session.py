"""What the readers of session files share: a line, and the path of lines that leads to it.

A session file is one group. A line by itself is no call: a call is an answer, and the messages
before it in the session.
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
    """Return the indices of the lines on the path from the root to the line `last`.

    `at` has the index of a line by its id. A line has the id of its parent in the field `parent`;
    for the ids in `moved` it is the one given there, which may come later in the file.

    Raises:
        RecordError: a parent is missing, or does not come before its child.
    """
    way, to = [last], {at[own]: above for own, above in moved.items() if own in at}
    while (above := to.get(way[-1], lines[way[-1]].fields.get(parent))) is not None:
        before = at.get(above) if isinstance(above, str) else None
        ahead = before is not None and before >= way[-1] and way[-1] not in to
        if before is None or ahead or len(way) == len(lines):
            what = f"the parent of {lines[way[-1]].where} does not come before it"
            fix = "give the whole file, or leave these calls out (--on-error skip)"
            raise RecordError("missing", parent, what, "each after its parent", fix)
        way.append(before)
    return way[::-1]
