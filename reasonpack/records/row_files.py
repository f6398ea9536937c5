r"""A Parquet or Arrow file → batches of rows → plain Python objects.

    id  messages
    a1  [{"role": "user", …}]  ─→  {"id": "a1", "messages": [{"role": "user", …}]}
    a2  [{"role": "us\xff", …}] ─→  the same as a line of JSON, with the bytes that are not UTF-8

Memory is one batch of rows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reasonpack.choices import NullArguments
from reasonpack.errors import RecordError, StorageError
from reasonpack.records.strict_json import CHARACTER, NO_NAN, count_keys, step
from reasonpack.storage.place import Place, public_name, unreadable
from reasonpack.storage.read import Container, has_end, lacks_memory, open_arrow


@contextlib.contextmanager
def opened_rows(place: Place, kind: Container) -> Iterator[pa.NativeFile]:
    """Open a Parquet or an Arrow file.

    Raises:
        StorageError: it cannot be read, or is found to be damaged inside the `with` block.
    """
    try:
        with open_arrow(place) as source:
            yield source
    except (pa.ArrowException, StorageError, ValueError, OverflowError) as error:
        if lacks_memory(error):
            raise
        raise damaged(place, kind, error) from error


def parquet_batches(source: pa.NativeFile, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Read the row groups `start` to `stop` of a Parquet file."""
    # Buffering ahead starts a thread, and a process with threads cannot be forked.
    with pq.ParquetFile(source, pre_buffer=False) as file:
        yield from file.iter_batches(256, range(start, stop), use_threads=False)


def arrow_batches(
    source: pa.NativeFile, start: int = 0, stop: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Read the batches of rows `start` to `stop`, or to the end, of an Arrow IPC file or stream.

    Raises:
        ValueError: a stream that is read to its end has no end mark, or is followed by more bytes.
    """
    if source.read(6) == b"ARROW1":
        with pa.ipc.open_file(source) as file:
            numbers = range(file.num_record_batches)[start:stop]
            yield from _validated(map(file.get_batch, numbers))
        return
    source.seek(0)
    with pa.ipc.open_stream(source) as stream:
        yield from _validated(itertools.islice(stream, start, stop))
    if stop is None and not (source.tell() == source.size() and has_end(source)):
        raise ValueError("the stream does not end where the file does")


def _validated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches, whose texts need not be UTF-8.

    Raises:
        pa.ArrowInvalid: offsets of a batch point outside its memory.
    """
    for batch in batches:
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid:
            _cast(batch, _bytes).validate(full=True)
        yield batch


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Yield each row as a plain object after empty bytes.

    A row with text that is not UTF-8 is a line of JSON with the bytes of the text, and None.
    """
    batch = _cast(batch, _number)  # Python cannot hold all years, time zones and nanoseconds
    try:
        yield from [(b"", row) for row in batch.to_pylist()]
    except UnicodeDecodeError:
        names = batch.schema.names
        for at in range(batch.num_rows):
            yield _row_or_line({name: _value(batch.column(name)[at]) for name in names})


def _row_or_line(row: dict[str, Any]) -> tuple[bytes, dict[str, Any] | None]:
    text = json.dumps(row, ensure_ascii=False, default=str)
    line = text.encode(errors="surrogateescape")
    try:
        line.decode()
    except UnicodeDecodeError:
        return line, None
    return b"", row


def _value(scalar: pa.Scalar) -> Any:
    """Return a scalar as a plain value; bytes that are not UTF-8 become lone surrogates."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        pass
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(each) for name, each in scalar.items()}
    if isinstance(scalar, pa.ListScalar):
        return [*map(_value, scalar.values)]
    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
        return _value(scalar.value)
    return scalar.as_buffer().to_pybytes().decode(errors="surrogateescape")


def _cast(batch: pa.RecordBatch, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.RecordBatch:
    """Change the types of columns, by `leaf` as for `_retyped`."""
    for index, field in enumerate(batch.schema):
        type_ = _retyped(field.type, leaf)
        if type_ != field.type:
            batch = batch.set_column(index, field.name, batch.column(index).cast(type_))
    return batch


def _retyped(type_: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type in which each type that holds no other is replaced by what `leaf` returns.

    >>> _retyped(pa.list_(pa.struct([("at", pa.timestamp("ns")), ("day", pa.date32())])), _number)
    ListType(list<item: struct<at: int64, day: int32>>)
    """

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_retyped(field.type, leaf))

    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        make = pa.list_ if pa.types.is_list(type_) else pa.large_list
        return make(inner(type_.value_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(inner(type_.value_field), type_.list_size)
    if pa.types.is_map(type_):
        return pa.map_(inner(type_.key_field), inner(type_.item_field), type_.keys_sorted)
    if pa.types.is_struct(type_):
        return pa.struct([inner(type_.field(index)) for index in range(type_.num_fields)])
    if pa.types.is_dictionary(type_):
        values = _retyped(type_.value_type, leaf)
        return pa.dictionary(type_.index_type, values, type_.ordered)
    return leaf(type_)


def _number(type_: pa.DataType) -> pa.DataType:
    """Return the type of the whole numbers as which a time is stored; other types as they are."""
    if pa.types.is_temporal(type_) and type_.bit_width <= 64:  # an interval has more
        return pa.int32() if type_.bit_width == 32 else pa.int64()
    return type_


def is_text(type_: pa.DataType) -> bool:
    """Return whether a column of this type holds texts, JSON among them."""
    return bool(_bytes(type_) != type_)


def _bytes(type_: pa.DataType) -> pa.DataType:
    """Return the type of the bytes as which a text is stored; other types as they are."""
    return _BYTES.get(getattr(type_, "storage_type", type_), type_)


_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def plain(fields: Any, null_arguments: NullArguments, arguments: re.Pattern[str]) -> Any:
    """Copy the fields of a decoded row; refuse texts and numbers that JSON cannot write.

    Keys whose value is null are left out, but inside an object whose path `arguments` matches
    only if `null_arguments` is `drop`.

    Raises:
        RecordError: reason `encoding` (a lone surrogate) or `json` (NaN, an infinity, or values
            nested too deeply).

    >>> plain({"a": None, "b": [{"c": None}], "d": {"e": None}}, "keep", re.compile("d"))
    {'b': [{}], 'd': {'e': None}}
    """
    count_keys(fields)  # refuses values nested too deeply to be copied
    return _plain(fields, "", None if null_arguments == "drop" else arguments, null_keys=True)


def _plain(value: Any, path: str, keep: re.Pattern[str] | None, *, null_keys: bool) -> Any:
    """Copy a value; with `null_keys` without null keys, but not inside what `keep` matches."""
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RecordError("json", path, f"got {value}", "a finite number", NO_NAN)
    elif isinstance(value, list):
        if _WHOLE.issuperset(map(type, value)):
            return [*value]  # a shortcut for ids, of which there may be many
        return [_plain(v, f"{path}[{i}]", keep, null_keys=null_keys) for i, v in enumerate(value)]
    elif isinstance(value, dict):
        null_keys = null_keys and not (keep and keep.fullmatch(path))
        return {
            k: _plain(v, step(path, str(k)), keep, null_keys=null_keys)
            for k, v in value.items()
            if v is not None or not null_keys
        }
    return value


_WHOLE = frozenset((int, bool, type(None)))
"""Types whose values `plain` never refuses."""


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"lone surrogate \\u{code:04x} at character {error.start + 1}"
        raise RecordError("encoding", path, what, "a pair", CHARACTER) from None


def damaged(place: Place, kind: Container, error: Exception) -> StorageError:
    """Make the error for a Parquet or an Arrow file that cannot be read."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    if isinstance(cause, OSError) and cause.errno:
        return unreadable(place, cause)
    what, fix = f"a whole {kind.capitalize()} file", "copy or write it again"
    if isinstance(cause, pa.ArrowNotImplementedError | pa.ArrowTypeError):
        what = "columns that pyarrow can read"
        fix = "install a newer pyarrow, or write texts in columns of type string"
    return StorageError(public_name(place), cause, what, fix)
