"""The columns of a training row, and the version of the format: what a shard's schema is.

`schemas/FORMAT.md` says what every column means and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from reasonpack.errors import FormatError
from reasonpack.rows.optional import APPLIED, OF_CALLS

FORMAT_VERSION = "1.0"
"""Major and minor version of the format; a reader refuses a major one it does not know."""
METADATA_PREFIX = "reasonpack."


def _list(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_, nullable=False))


COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("input_ids", _list(pa.int32())),
    ("position_ids", _list(pa.int32())),
    ("labels", _list(pa.int32())),
    ("length", pa.int32()),
    ("segment_start", _list(pa.int32())),
    ("segment_visible_until", _list(pa.int32())),
    ("segment_kind", _list(pa.uint8())),
    ("segment_message", _list(pa.int32())),
    ("sample_start", _list(pa.int32())),
    ("sample_id", _list(pa.string())),
)


OPTIONAL: tuple[tuple[str, pa.DataType], ...] = (
    ("loss_weights", _list(pa.float32())),
    ("logprobs", _list(pa.float32())),
    ("advantages", _list(pa.float32())),
    ("preference_labels", _list(pa.int32())),
    ("segment_call", _list(pa.int32())),
    ("call_id", _list(pa.string())),
    ("call_sample", _list(pa.int32())),
    ("call_role", _list(pa.uint8())),
    ("call_reward", _list(pa.float32())),
)
"""Columns of which a dataset has those of its plan, in this order."""


def planned(names: Iterable[str]) -> tuple[str, ...]:
    """Put the names of optional columns in the order of a shard, with those that they need.

    >>> planned(["call_role", "loss_weights"])
    ('loss_weights', 'segment_call', 'call_id', 'call_sample', 'call_role')
    """
    wanted = set(names)
    if "preference_labels" in wanted:
        wanted.add("call_role")
    if wanted & {"call_role", "call_reward", *OF_CALLS}:
        wanted.update(OF_CALLS)
    assert wanted <= {name for name, _ in OPTIONAL}, f"unknown columns {sorted(wanted)}"
    return tuple(name for name, _ in OPTIONAL if name in wanted)


def schema(metadata: Mapping[str, str] | None = None, columns: Iterable[str] = ()) -> pa.Schema:
    """Return the schema of a shard; nothing in it may be null.

    `metadata` is without prefix (layout, hashes); `columns` are optional ones, as from `planned`.
    """
    chosen = set(columns)
    full = {"format_version": FORMAT_VERSION, **(metadata or {})}
    if requires := ",".join(name for name in APPLIED if name in chosen):
        full["requires"] = requires
    wanted = [*COLUMNS, *(each for each in OPTIONAL if each[0] in chosen)]
    return pa.schema(
        [pa.field(name, type_, nullable=False) for name, type_ in wanted],
        metadata={METADATA_PREFIX + key: value for key, value in full.items()},
    )


def check_readable(schema_: pa.Schema, where: str) -> None:
    """Refuse a shard that this version cannot read, or of which it could not apply a column.

    Raises:
        FormatError: no version, or another major one; a column is missing or of another type; the
            shard requires a column that is not known here.
    """
    metadata = schema_.metadata or {}
    version = metadata.get((METADATA_PREFIX + "format_version").encode(), b"").decode()
    check_format_version(version, where)
    requires = metadata.get((METADATA_PREFIX + "requires").encode(), b"").decode().split(",")
    for name in filter(None, requires):
        if name not in APPLIED:
            what = f"requires {name!r} to be applied"
            fix = "use a newer version of reasonpack"
            raise FormatError(where, what, f"some of {', '.join(APPLIED)}", fix)
    wanted = (each for each in OPTIONAL if each[0] in {*schema_.names, *requires})
    for name, type_ in (*COLUMNS, *wanted):
        index = schema_.get_field_index(name)
        found = schema_.field(index).type if index >= 0 else None
        if found != type_ and not (pa.types.is_list(type_) and _is_list_of(found, type_)):
            raise FormatError(
                where, f"{name} is {found or 'missing'}", type_, "pack again with --overwrite"
            )


def _is_list_of(found: pa.DataType | None, type_: pa.DataType) -> bool:
    """Tell whether a type is that of a list, whatever its elements are called."""
    return found is not None and pa.types.is_list(found) and found.value_type == type_.value_type


def check_format_version(version: object, where: str) -> None:
    """Refuse an unknown major format version.

    >>> check_format_version("1.7", "shard")
    >>> check_format_version("2.0", "shard")
    Traceback (most recent call last):
    reasonpack.errors.FormatError: shard: format version '2.0', expected 1.x. Fix: use another \
version of reasonpack.
    """
    major = FORMAT_VERSION.partition(".")[0]
    if not isinstance(version, str) or version.partition(".")[0] != major:
        raise FormatError(
            where, f"format version {version!r}", f"{major}.x", "use another version of reasonpack"
        )
