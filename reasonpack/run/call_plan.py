"""Input files → whether they hold calls; calls → their groups, units and optional columns.

--input-format auto     the first record of each input decides: all are calls, or all are chats
groups.index            written next to plan.json: where the records of each group are
--call-columns auto     the columns whose keys are in a record
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from reasonpack.datasets.options import Options
from reasonpack.errors import StorageError, UsageError
from reasonpack.records.call_formats import CHAT, READERS, SESSIONS, format_of
from reasonpack.records.group_index import Each, Grouped, Grouping, plan_groups
from reasonpack.records.groups import FILE, NONE
from reasonpack.records.key_columns import KeyColumns
from reasonpack.records.options import renamed_fields
from reasonpack.records.unit import Record, Unit, content_kind, read_records
from reasonpack.rows.optional_columns import OF_CALLS
from reasonpack.rows.schema import planned
from reasonpack.storage.place import Place
from reasonpack.wording import count, listed

INDEX = "groups.index"
LOOKED_AT = 100
"""How many records of an input are read to find one that can be decoded."""

ALWAYS = ("loss_weights", *OF_CALLS)
"""Columns that every dataset of calls has."""
COLUMNS = ("logprobs", "advantages", "call_reward", "call_role", "preference_labels")
"""Columns that a dataset of calls may have in addition."""
Kind = Literal["chats", "calls", "sessions"]
"""What all inputs hold; a file of `sessions` is one group of calls."""


PlannedCalls = tuple[Grouped, tuple[str, ...]]
"""The groups of the calls to pack, and the optional columns of the rows."""


class First(NamedTuple):
    """What an input's first record tells.

    Attributes:
        format: its format, as `format_of` names it.
        container: how the file holds its records.
        has_text: whether it may have text: messages, or no token ids.
    """

    format: str
    container: str
    has_text: bool


def first_records(files: Sequence[tuple[Place, str]], options: Options) -> dict[str, First]:
    """Find the first record of each input that can be decoded, by the name of the file.

    Empty if --input-format makes all inputs chats.
    """
    if options.input_format == "chat":
        return {}
    names = renamed_fields(options.field)
    keys = KeyColumns(names)
    found = ((name, _first(place, name, names, keys)) for place, name in files)
    return {name: first for name, first in found if first is not None}


def kind_of_inputs(firsts: Mapping[str, First], options: Options) -> Kind:
    """Return what inputs with these first records are read as.

    Raises:
        UsageError: the inputs are of different kinds.
    """
    kinds: dict[str, Kind] = {
        name: "sessions" if found in SESSIONS else "chats" if found == CHAT else "calls"
        for name, (found, *_) in firsts.items()
    }
    if options.input_format == "calls":
        kinds = {name: "calls" if kind == "chats" else kind for name, kind in kinds.items()}
    found = dict.fromkeys(kinds.values())
    if len(found) > 1:
        named = (f"{each} in {listed([n for n in kinds if kinds[n] == each])}" for each in found)
        where = f"--input-format {options.input_format}"
        fix = "pack each kind by itself; or pass --input-format calls or chat, to read all as such"
        raise UsageError(where, " and ".join(named), "one of these", fix)
    return next(iter(found), "calls" if options.input_format == "calls" else "chats")


def _first(place: Place, name: str, names: Mapping[str, str], keys: KeyColumns) -> First | None:
    """Return what a file's first record that can be decoded says; None without one."""
    try:
        container = content_kind(place, name)
        stop = 1 if container in {"parquet", "arrow"} else -1
        unit = Unit(0, 0, name, container, 0, stop, int(container != "array"), 0)
        for record in islice(read_records(unit, place), LOOKED_AT):
            fields = _fields(record)
            if fields is not None:
                found = format_of({names.get(key, key): one for key, one in fields.items()})
                return First(found, container, keys.has_text(record.line))
    except StorageError:
        pass  # reported when the plan reads the file
    return None


def _fields(record: Record) -> dict[str, Any] | None:
    """Decode a record; None if it is no JSON object, which is reported when its unit is packed."""
    try:
        fields = msgspec.json.decode(record.line) if record.row is None else record.row
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def plan_calls(
    files: Sequence[tuple[Place, str]],
    options: Options,
    firsts: Mapping[str, First],
    *,
    unit_bytes: int,
    folder: Path,
    each: Each = map,
) -> PlannedCalls:
    """Group the calls of the inputs, and find which optional columns they need.

    Records of files without random access, such as compressed ones, are copied to `folder`.
    `each` is as for `plan_groups`.

    Raises:
        UsageError: no single field groups the calls, a group is too large, or an option cannot
            be used with calls.
    """
    if options.loss_weights == "none":
        what = "calls, whose weights are added up if they train the same token"
        raise UsageError("--loss-weights none", what, "another", "leave the option out")
    grouped = plan_groups(
        files,
        field=_field(options, kind_of_inputs(firsts, options)),
        own_fields={
            name: READERS[found].group for name, (found, *_) in firsts.items() if found in READERS
        },
        unit_bytes=unit_bytes,
        max_group_bytes=options.max_group_bytes,
        keys=partial(KeyColumns, renamed_fields(options.field), options.ignore_fields),
        folder=folder,
        each=each,
    )
    asked = {*options.call_columns} - {"none"}
    return grouped, planned([*ALWAYS, *(grouped.columns if asked == {"auto"} else asked)])


def check_grouping(options: Options, kind: Kind) -> None:
    """Check that --group-by is given for inputs that it can group.

    Raises:
        UsageError: it names a field for inputs of another kind.
    """
    if kind == "sessions" and options.group_by != "auto":
        what = "session files, of which each is a group"
        raise UsageError(f"--group-by {options.group_by}", what, "auto", "leave the option out")
    if kind == "chats" and options.group_by not in ("auto", "none"):
        fix = "pass --input-format calls if they are calls, or leave --group-by out"
        raise UsageError(f"--group-by {options.group_by}", "chats", "calls", fix)


def check_columns(options: Options) -> None:
    """Check the names in --call-columns, for inputs of any kind.

    Raises:
        UsageError: a name is unknown.
    """
    asked = {*options.call_columns} - {"none"}
    if asked != {"auto"} and (unknown := sorted(asked - {*COLUMNS})):
        raise UsageError(
            "--call-columns", listed(unknown), f"some of {', '.join(COLUMNS)}", "name only these"
        )


def _field(options: Options, kind: Kind) -> str:
    """Return the field that groups the records, or `auto`, `NONE` or `FILE`."""
    if kind == "sessions":
        return FILE
    return NONE if options.group_by == "none" else options.group_by


def grouping_note(grouping: Grouping) -> str:
    """Return a note for the user on how the calls are grouped."""
    records, groups = count(grouping.records, "record"), count(grouping.groups, "group")
    if grouping.field == NONE:
        return (
            f"each of {records} is a group of its own: --group-by names the field that groups them"
        )
    if grouping.field == FILE:
        return f"{records} in {count(grouping.groups, 'session')}, each a file"
    if grouping.alone == grouping.records:
        return f"no record has {grouping.field}: {records}, each a group; check --group-by"
    alone = f"; {grouping.alone:,} without it, each a group of its own" if grouping.alone else ""
    return f"{records} in {groups} by {grouping.field}{alone}"
