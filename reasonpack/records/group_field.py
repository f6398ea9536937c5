"""The field that says which records belong together: found in a line, without decoding the rest.

{"trace_id": "a7", "messages": […]}    --group-by trace_id            "a7"
{"metadata": {"run": 3}, …}            --group-by metadata.run        "3"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from reasonpack.errors import UsageError

AUTO = "auto"
NONE = ""
"""Stands for no field: each record is a group of its own."""
KNOWN = (
    "trace_id",
    "session_id",
    "rollout_id",
    "group",
    "group_id",
    "conversation_id",
    "thread_id",
    "episode_id",
    "trajectory_id",
    "metadata.trace_id",
    "metadata.session_id",
)
"""Names that `auto` looks for."""


class GroupFields:
    """Reads some fields of records.

    Args:
        names: of the fields; a nested one is dotted.

    >>> fields = GroupFields(["trace_id", "metadata.run"])
    >>> fields.of_line(b'{"trace_id": "a7", "metadata": {"run": 3}, "messages": []}')
    {'trace_id': 'a7', 'metadata.run': '3'}
    """

    def __init__(self, names: Sequence[str]) -> None:
        below: dict[str, list[str]] = defaultdict(list)
        for name in names:
            head, _, rest = name.partition(".")
            below[head].append(rest)
        self._below = {
            head: GroupFields(list(filter(None, rests))) if any(rests) else None
            for head, rests in below.items()
        }
        self._own = {head for head, rests in below.items() if "" in rests}
        places = {head: f"field{number}" for number, head in enumerate(below)}
        found = msgspec.defstruct(
            "Record",
            [(place, msgspec.Raw, msgspec.Raw(b"")) for place in places.values()],
            rename={place: head for head, place in places.items()},
        )
        self._places = places
        self._decode = msgspec.json.Decoder(found).decode

    def of_line(self, line: bytes | msgspec.Raw) -> dict[str, str]:
        """Return the text of each of the fields that a record has; none if it is no object.

        Raises:
            UsageError: a field holds what names no group.
        """
        try:
            record = self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}  # whoever reads the record says what is wrong with it
        return dict(self._found({h: getattr(record, p) for h, p in self._places.items()}))

    def _found(self, raw: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, str]]:
        for head, value in raw.items():
            nested = self._below[head]
            if head in self._own and bytes(value):
                text = _text(msgspec.json.decode(value), head)
                if text:
                    yield head, text
            elif nested is not None and bytes(value):
                yield from ((f"{head}.{k}", v) for k, v in nested.of_line(value).items())

    def of_row(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the text of each of the fields that a decoded row has.

        Raises:
            UsageError: a field holds what names no group.
        """
        found: dict[str, str] = {}
        for head, nested in self._below.items():
            value = row.get(head)
            if head in self._own and (text := _text(value, head)):
                found[head] = text
            elif nested is not None and isinstance(value, Mapping):
                found |= {f"{head}.{k}": v for k, v in nested.of_row(value).items()}
        return found


def _text(value: object, name: str) -> str:
    """Write the name of a group; empty for none."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UsageError(
        "--group-by",
        f"{name} is {type(value).__name__} in a record",
        "a text or a whole number",
        "name the field that says which records belong together",
    )


def one_field(counts: Mapping[str, int]) -> str:
    """Choose the field that groups the records, of those that `auto` has found in some.

    Args:
        counts: how many records have each of the fields.

    Raises:
        UsageError: there are several.
    """
    found = {name: count for name, count in counts.items() if count}
    if len(found) > 1:
        listed = " and ".join(f"{name} in {count:,}" for name, count in found.items())
        choice = " or ".join(f"--group-by {name}" for name in found)
        raise UsageError(
            "--group-by auto",
            f"records have several fields that may group them: {listed}",
            "one",
            f"pass {choice}",
        )
    return next(iter(found), NONE)
