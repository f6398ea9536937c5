"""Inputs with calls → their groups, units and optional columns; and whether inputs hold calls.

--input-format auto     the first record of each input: all calls, or all chats
groups.index            beside plan.json: where the records of each group are
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError, StorageError, UsageError
from reasonpack.records import strict_json
from reasonpack.records.call_formats import CHAT, READERS, SESSIONS, format_of
from reasonpack.records.group_field import FILE, NONE
from reasonpack.records.group_index import Grouped, Grouping, plan_groups
from reasonpack.records.options import renamed_fields
from reasonpack.records.unit import Record, Unit, content_kind, read_records
from reasonpack.rows.schema import planned
from reasonpack.run.call_columns import ALWAYS, COLUMNS, KeyColumns
from reasonpack.storage.place import Place
from reasonpack.wording import count, listed

INDEX = "groups.index"
LOOKED_AT = 100
"""Records of an input of which the first that can be decoded says what they are."""


Kind = Literal["chats", "calls", "sessions"]
"""What inputs are; each file of sessions is a group."""


PlannedCalls = tuple[Grouped, tuple[str, ...]]
"""Calls that are to be packed: their groups, and the optional columns of the rows."""


def formats_of_inputs(files: Sequence[tuple[Place, str]], options: Options) -> dict[str, str]:
    """Find the format of inputs, by the first record of each; not of those where none says it.

    Returns:
        What `format_of` says, by the name of the file; nothing where all is read as chats.
    """
    if options.input_format == "chat":
        return {}
    found = ((name, _format(place, name)) for place, name in files)
    return {name: format_ for name, format_ in found if format_ is not None}


def kind_of_inputs(formats: Mapping[str, str], options: Options) -> Kind:
    """Tell what inputs of some formats are read as.

    Raises:
        UsageError: some are of one kind and some of another.
    """
    kinds: dict[str, Kind] = {
        name: "sessions" if found in SESSIONS else "chats" if found == CHAT else "calls"
        for name, found in formats.items()
    }
    if options.input_format == "calls":
        kinds = {name: "calls" if kind == "chats" else kind for name, kind in kinds.items()}
    found = dict.fromkeys(kinds.values())
    if len(found) > 1:
        named = (f"{each} in {listed([n for n in kinds if kinds[n] == each])}" for each in found)
        where = f"--input-format {options.input_format}"
        fix = "pack them apart; or pass --input-format calls or chat, if all records can be read so"
        raise UsageError(where, " and ".join(named), "one of these", fix)
    return next(iter(found), "calls" if options.input_format == "calls" else "chats")


def _format(place: Place, name: str) -> str | None:
    """Tell the format of the first record of a file; None where no record says it."""
    try:
        container = content_kind(place, name)
        stop = 1 if container in {"parquet", "arrow"} else -1
        unit = Unit(0, 0, name, container, 0, stop, int(container != "array"), 0)
        for record in islice(read_records(unit, place), LOOKED_AT):
            fields = _fields(record)
            if fields is not None:
                return format_of(fields)
    except StorageError:
        pass  # the plan says it, too
    return None


def _fields(record: Record) -> dict[str, Any] | None:
    """Decode a record; None where it is none, of which its unit says what is wrong."""
    try:
        fields = strict_json.decode_line(record.line) if record.row is None else record.row
    except RecordError:
        return None
    return fields if isinstance(fields, dict) else None


def plan_calls(
    files: Sequence[tuple[Place, str]],
    options: Options,
    formats: Mapping[str, str],
    *,
    unit_bytes: int,
    folder: Path,
) -> PlannedCalls:
    """Group the calls of some inputs, and find which optional columns they need.

    The records of files in which none can be looked up are written to `folder`.

    Raises:
        UsageError: there is no one field that groups them, a group is too large, or the options
            ask for what is not done with calls.
    """
    _check_options(options)
    keys = KeyColumns(renamed_fields(options.field), options.ignore_fields)
    grouped = plan_groups(
        files,
        field=_field(options, kind_of_inputs(formats, options)),
        own_fields={
            name: READERS[found].group for name, found in formats.items() if found in READERS
        },
        unit_bytes=unit_bytes,
        max_group_bytes=options.max_group_bytes,
        see=keys.see,
        folder=folder,
    )
    asked = set(options.call_columns) - {"none"}
    if asked == {"auto"}:
        asked = keys.found
    if unknown := sorted(asked - {*COLUMNS}):
        raise UsageError(
            "--call-columns", listed(unknown), f"some of {', '.join(COLUMNS)}", "name only these"
        )
    return grouped, planned([*ALWAYS, *asked])


def _check_options(options: Options) -> None:
    """Refuse what is not done with calls."""
    if options.loss_weights == "none":
        what = "calls, whose weights add up where they train the same"
        raise UsageError("--loss-weights none", what, "another", "leave the option out")


def _field(options: Options, kind: Kind) -> str:
    """Return the field that groups the records, or what stands for one."""
    if kind != "sessions":
        return NONE if options.group_by == "none" else options.group_by
    if options.group_by != "auto":
        what = "session files, of which each is a group"
        raise UsageError(f"--group-by {options.group_by}", what, "auto", "leave the option out")
    return FILE


def grouping_note(grouping: Grouping) -> str:
    """Say how calls are put together."""
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
