"""What the readers of session files share: a line, the way to it, and the history of an answer.

A session file is one group. Its lines are no calls by themselves: a call is an answer, with what
the session held before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft


class Line(NamedTuple):
    """A line of a session, decoded; `where` is `file:line`."""

    where: str
    fields: Mapping[str, Any]


class Said(NamedTuple):
    """A message, or an item, in a shape that records may have; and where it was read from."""

    message: dict[str, Any]
    place: str


def way_to(lines: Sequence[Line], at: Mapping[str, int], last: int, parent: str) -> list[int]:
    """Return the lines from the root to one, which is the last of them.

    `at` has the index of a line by its id, which others have in the field `parent`.

    Raises:
        RecordError: a parent that does not stand before its child.
    """
    way = [last]
    while (above := lines[way[-1]].fields.get(parent)) is not None:
        before = at.get(above) if isinstance(above, str) else None
        if before is None or before >= way[-1]:
            what = f"the parent of {lines[way[-1]].where} does not stand before it, expected it"
            fix = "Give the whole file, or leave these calls out (--on-error skip)."
            raise RecordError("missing", parent, what, fix=fix)
        way.append(before)
    return way[::-1]


def draft_of(
    history: Sequence[Said],
    answer: Sequence[Said],
    *,
    where: str,
    own_id: str = "",
    context: Mapping[str, Any] | None = None,
    notes: Iterable[str] = (),
    copied: bool = False,
) -> CallDraft:
    """Make the draft of an answer in a session.

    `where` is the line that the answer is in; `own_id` is empty where it has none. `context` has
    fields that a chat template gets beside the messages, `notes` what the session does not hold,
    and what was noticed.
    """
    places = {f"prompt[{i}]": said.place for i, said in enumerate(history)}
    places |= {f"completion[{i}]": said.place for i, said in enumerate(answer)}
    return CallDraft(
        id=own_id,
        where=where,
        prompt=[said.message for said in history],
        answer=[said.message for said in answer],
        context=dict(context or {}),
        copied=copied,
        places={**places, "completion": answer[0].place},
        notes=[*notes],
    )
