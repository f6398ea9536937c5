"""Inputs with calls → their groups, units and optional columns; and whether inputs hold calls.

--input-format auto     the first record of each input: all calls, or all chats
groups.index            beside plan.json: where the records of each group are
--call-columns auto     keys are looked for as bytes, wherever they stand in a record, since a plan
                        reads all records and decodes none; a quote within a text is escaped, so
                        that the text of a message looks like no key
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError, StorageError, UsageError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import TOKEN_NAMES, VALUE_NAMES
from reasonpack.records.call_formats import CHAT, READERS, SESSIONS, format_of
from reasonpack.records.group_index import Grouped, Grouping, plan_groups
from reasonpack.records.groups import FILE, NONE
from reasonpack.records.options import renamed_fields
from reasonpack.records.unit import Record, Unit, content_kind, read_records
from reasonpack.rows.optional import OF_CALLS
from reasonpack.rows.schema import planned
from reasonpack.storage.place import Place
from reasonpack.wording import count, listed

INDEX = "groups.index"
LOOKED_AT = 100
"""Records of an input of which the first that can be decoded says what they are."""

ALWAYS = ("loss_weights", *OF_CALLS)
"""Columns that every dataset of calls has."""
COLUMNS = ("logprobs", "advantages", "call_reward", "call_role", "preference_labels")
"""Columns that a dataset of calls may have."""
_IDS = rb"\s*:\s*\[\s*\d"
_LIST = rb"\s*:\s*[\[{]\s*[^\s\]}]"
_NUMBERS = rb"(?:\s*:\s*[-.\d]|%b)" % _LIST
_KNOWN: Mapping[str, tuple[str, ...]] = {**TOKEN_NAMES, **VALUE_NAMES}
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
    names = renamed_fields(options.field)
    found = ((name, _format(place, name, names)) for place, name in files)
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


def _format(place: Place, name: str, names: Mapping[str, str]) -> str | None:
    """Tell the format of the first record of a file; None where no record says it."""
    try:
        container = content_kind(place, name)
        stop = 1 if container in {"parquet", "arrow"} else -1
        unit = Unit(0, 0, name, container, 0, stop, int(container != "array"), 0)
        for record in islice(read_records(unit, place), LOOKED_AT):
            fields = _fields(record)
            if fields is not None:
                return format_of({names.get(key, key): one for key, one in fields.items()})
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
    if options.loss_weights == "none":
        what = "calls, whose weights add up where they train the same"
        raise UsageError("--loss-weights none", what, "another", "leave the option out")
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
    asked = {*options.call_columns} - {"none"}
    asked = keys.found if asked == {"auto"} else asked
    return grouped, planned([*ALWAYS, *asked])


def check_columns(options: Options) -> None:
    """Refuse columns of calls that nobody knows, whatever the inputs are.

    Raises:
        UsageError: there is such a one.
    """
    asked = {*options.call_columns} - {"none"}
    if asked != {"auto"} and (unknown := sorted(asked - {*COLUMNS})):
        raise UsageError(
            "--call-columns", listed(unknown), f"some of {', '.join(COLUMNS)}", "name only these"
        )


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


class KeyColumns:
    """Looks for the keys of optional columns in records.

    Args:
        renamed: names of fields, each with the known name that it is read under.
        ignored: names of fields that are not read.

    Attributes:
        found: columns of which a key was seen.

    >>> keys = KeyColumns()
    >>> line = b'{"prompt_ids": [1], "completion_ids": [2], "logprobs": [-0.5], "reward": null}'
    >>> keys.see(line, line)
    >>> sorted(keys.found)
    ['logprobs']
    """

    def __init__(
        self, renamed: Mapping[str, str] | None = None, ignored: Iterable[str] = ()
    ) -> None:
        left_out = {name.rpartition(".")[2] for name in ignored}
        own = [(name.rpartition(".")[2], known) for name, known in (renamed or {}).items()]

        def keys(kind: str, *more: str) -> list[str]:
            known = _KNOWN[kind]
            names = [*known, *more, *(name for name, as_known in own if as_known in known)]
            return [name for name in names if name not in left_out]

        self.found: set[str] = set()
        self._lacks_ids = False
        self._ids = _pattern(keys("completion_ids", "tokens"), _IDS)
        looked_for = {
            "logprobs": (keys("logprobs"), _LIST),
            "advantages": (keys("advantages"), _NUMBERS),
            "call_reward": (keys("reward", "rewards"), _NUMBERS),
            "preference_labels": (["chosen", "rejected"], rb"\s*:\s*[\"\[{]"),
        }
        self._patterns = {name: _pattern(*each) for name, each in looked_for.items()}
        self._columns = {
            f'"{key}"'.encode(): name for name, (names, _) in looked_for.items() for key in names
        }
        self._keys = _pattern([key for names, _ in looked_for.values() for key in names], b"")

    def see(self, line: bytes, new: bytes) -> None:
        """Look at the next record, and for keys in that part of it which no record before has."""
        for key in set(self._keys.findall(line if self._lacks_ids else new)):
            name = self._columns[key]
            if name in self.found or not self._patterns[name].search(line):
                continue
            if name != "logprobs" or self._ids.search(line):  # of which tokens they are
                self.found.add(name)
            else:
                self._lacks_ids = True


def _pattern(names: Sequence[str], behind: bytes) -> re.Pattern[bytes]:
    listed = b"|".join(re.escape(name).encode() for name in names) or rb"(?!)"
    return re.compile(rb'"(?:%b)"%b' % (listed, behind))
