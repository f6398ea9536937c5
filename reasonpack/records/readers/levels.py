"""The objects that say something of one call → what they say, once.

A record, its request, the response in it and a choice of that may each have a reward, ids, tools.
Where several have the same, they have to agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import TOKEN_NAMES, VALUE_NAMES
from reasonpack.records.call_unread import unread_in_call
from reasonpack.records.draft import is_absent
from reasonpack.records.reading import Reading
from reasonpack.records.renaming import renamed
from reasonpack.records.strict_json import step
from reasonpack.records.unknown import Field

TOKEN_FIELDS = frozenset(
    name for names in (*TOKEN_NAMES.values(), *VALUE_NAMES.values()) for name in names
)
"""Fields with what a call says of its tokens, or a number of the whole call."""


@dataclass(frozen=True, slots=True)
class Level:
    """One of these objects.

    Attributes:
        fields: of the object.
        path: where it stands in the record.
        name: as an option names it; empty for the record.
        read: names of its fields that are read.
        notes: of fields that an option renames or leaves out.
    """

    fields: Mapping[str, Any]
    path: str
    name: str
    read: frozenset[str]
    notes: tuple[str, ...] = ()


def level(
    fields: Mapping[str, Any], path: str, name: str, read: Collection[str], reading: Reading
) -> Level:
    """Make a level, with fields renamed and left out as the options say.

    Raises:
        RecordError: a field is renamed to one that is there and differs.
    """
    read = frozenset(read)
    below = f"{name}." if name else ""
    notes: tuple[str, ...] = ()
    if reading.renamed:
        own = {k.removeprefix(below): v for k, v in reading.renamed.items() if k.startswith(below)}
        fields, notes = renamed(fields, own, path, known=read)
        notes = tuple(note.replace(" ", f" {below}", 1) for note in notes)
    place = below or "record."
    left = {key for key in fields if {below + key, place + key} & reading.ignored and key in read}
    if left:
        fields = {key: value for key, value in fields.items() if key not in left}
        notes += tuple(f"left-out {below}{key}" for key in sorted(left))
    return Level(fields, path, name, read, notes)


def found_in(levels: Iterable[Level], names: Sequence[str]) -> tuple[str, Any] | None:
    """Return the path and value of the field that has one of these names; None if none does.

    An empty list counts: it is one of no tokens.

    Raises:
        RecordError: reason `conflict`, where several do and differ.

    >>> record = Level({"prompt_ids": [1], "x": 2}, "calls[0]", "calls", frozenset(["prompt_ids"]))
    >>> found_in([record], ["prompt_token_ids", "prompt_ids"])
    ('calls[0].prompt_ids', [1])
    """
    found: tuple[str, Any] | None = None
    for each in levels:
        for name in names:
            value = each.fields.get(name) if name in each.read else None
            if is_absent(value) and value != []:
                continue
            path = step(each.path, name)
            if found and not _same(found[1], value):
                what = f"differs from {found[0]}, which means the same, expected the same value"
                raise RecordError("conflict", path, what, fix="Keep one of the two.")
            found = found or (path, value)
    return found


def _same(one: object, other: object) -> bool:
    """Tell whether two values are equal, and true is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return one == other and list(map(type, one)) == list(map(type, other))
    return one == other and (type(one) is bool) is (type(other) is bool)


def unread_of(levels: Iterable[Level], texts: Callable[[], Iterator[str]]) -> Iterator[Field]:
    """Yield the fields of all levels that nobody reads."""
    for each in levels:
        if not each.fields.keys() <= each.read:
            yield from unread_in_call(
                each.fields, each.read, each.path, texts=texts, name=each.name
            )
