"""The schema of a shard: the columns of a training row, and the version of the format.

`schemas/FORMAT.md` says what every column means and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from reasonpack.errors import FormatError
from reasonpack.rows.optional_columns import APPLIED, OF_CALLS

FORMAT_VERSION = "1.0"
"""Major and minor version of the format; a reader refuses a major one it does not know."""
METADATA_PREFIX = "reasonpack."


def _list(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_, nullable=False))


_I32 = _list(pa.int32())
_ENCODED: tuple[tuple[str, pa.DataType, str], ...] = (
    ("input_ids", _I32, "BYTE_STREAM_SPLIT"),
    ("position_ids", _I32, "DELTA_BINARY_PACKED"),
    ("labels", _I32, "BYTE_STREAM_SPLIT"),
    ("length", pa.int32(), "DELTA_BINARY_PACKED"),
    ("segment_start", _I32, "DELTA_BINARY_PACKED"),
    ("segment_visible_until", _I32, "DELTA_BINARY_PACKED"),
    ("segment_kind", _list(pa.uint8()), "PLAIN"),
    ("segment_message", _I32, "DELTA_BINARY_PACKED"),
    ("sample_start", _I32, "DELTA_BINARY_PACKED"),
    ("sample_id", _list(pa.string()), "DELTA_BYTE_ARRAY"),
    ("loss_weights", _list(pa.float32()), "BYTE_STREAM_SPLIT"),
    ("logprobs", _list(pa.float32()), "BYTE_STREAM_SPLIT"),
    ("advantages", _list(pa.float32()), "BYTE_STREAM_SPLIT"),
    ("preference_labels", _I32, "BYTE_STREAM_SPLIT"),
    ("segment_call", _I32, "DELTA_BINARY_PACKED"),
    ("call_id", _list(pa.string()), "DELTA_BYTE_ARRAY"),
    ("call_sample", _I32, "DELTA_BINARY_PACKED"),
    ("call_role", _list(pa.uint8()), "PLAIN"),
    ("call_reward", _list(pa.float32()), "BYTE_STREAM_SPLIT"),
)
_TYPES = tuple((name, type_) for name, type_, _ in _ENCODED)
COLUMNS, OPTIONAL = _TYPES[:10], _TYPES[10:]
"""Columns of every dataset; and optional ones, which a dataset has in this order if planned."""
ENCODINGS = {
    f"{name}.list.element" if pa.types.is_list(type_) else name: encoding
    for name, type_, encoding in _ENCODED
}
"""Parquet encodings, pinned so that the bytes do not depend on a heuristic.

Measured on 5.6 M tokens of mixed chats with Qwen3's tokenizer, on one core, with zstd at level 1,
as bytes a token and as millions of tokens written a second:

                 plain        split        delta         plain at level 3
    input_ids    1.17   73    1.23   96    2.20   75     1.08   58
    labels       0.98   77    1.03  104                  0.92   61
    position_ids 0.20  188    0.016 192    0.009 129     0.16  180

The other columns are too small to matter.
"""


def planned(names: Iterable[str]) -> tuple[str, ...]:
    """Return the named optional columns and those that they need, in the order of a shard.

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
    """Return the schema of a shard, in which nothing may be null.

    The keys of `metadata` (layout, hashes) are without the prefix `reasonpack.`; `columns` are
    optional columns, as from `planned`.
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
    """Refuse a shard that this version cannot read, or that requires a column unknown to it.

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
        if found is None or _parts(found) != _parts(type_):
            what, fix = f"{name} is {found or 'missing'}", "pack again with --overwrite"
            raise FormatError(where, what, type_, fix)


def _parts(type_: pa.DataType) -> tuple[bool, pa.DataType]:
    """Return whether it is a list, and its elements' type; how their field is called is dropped."""
    is_list = pa.types.is_list(type_)
    return is_list, type_.value_type if is_list else type_


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
