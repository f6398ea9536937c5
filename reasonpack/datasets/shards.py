"""Open a shard: read its schema, and its rows a group at a time.

    with open_shard(place) as shard:
        shard.schema                         what its columns are
        for batch in shard.groups(): …       all rows
        shard.read(3)                        one group
        shard.rows(3, [0, 7])                two rows of it; little else is decoded

A group is a row group of a Parquet file or a record batch of an Arrow stream. At most one is in
memory.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from msgspec import Struct

from reasonpack.errors import FormatError
from reasonpack.rows.consistency import check_sound
from reasonpack.rows.schema import check_readable
from reasonpack.storage.place import Place, check_regular, public_name
from reasonpack.storage.read import has_end, lacks_memory, open_arrow, validated

DECODED_AT_ONCE = 1 << 16
"""About how many values of the longest column are decoded together where single rows are read."""


class OpenShard(Struct, frozen=True):
    """An open shard; every group is validated, because a damaged offset may point outside memory.

    The lists of its rows fit together (`check_sound`), unless it is unchecked.

    Attributes:
        name: name of the file, for messages.
        schema: schema of the rows.
    """

    name: str
    schema: pa.Schema
    _file: Any
    """A `pq.ParquetFile`, or the Arrow file that a stream is read from."""
    _unchecked: bool

    def sizes(self) -> list[int]:
        """Return how many rows each group has.

        Raises:
            FormatError: the shard is damaged.
        """
        if isinstance(self._file, pq.ParquetFile):
            footer = self._file.metadata
            return [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        with _refusing_damage(self.name), self._stream(["length"]) as stream:
            return [group.num_rows for group in stream]

    def groups(
        self, columns: Sequence[str] | None = None, *, first: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield the groups from number `first` on, with all columns or only those named.

        Raises:
            FormatError: the shard is damaged.
        """
        with _refusing_damage(self.name):
            if isinstance(self._file, pq.ParquetFile):
                for number in range(first, self._file.num_row_groups):
                    table = self._file.read_row_group(number, columns, use_threads=False)
                    yield from self._checked(table.combine_chunks().to_batches())
                return
            with self._stream(columns) as stream:
                yield from self._checked(itertools.islice(stream, first, None))

    def read(self, number: int) -> pa.RecordBatch:
        """Read one group; in a stream, the groups before it are read too.

        Raises:
            FormatError: the shard is damaged, or has no such group.
        """
        with _refusing_damage(self.name):
            (group,) = itertools.islice(self.groups(first=number), 1)
            return group

    def rows(self, number: int, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield rows of one group, each as a batch, given their increasing indices in the group.

        Raises:
            FormatError: the shard is damaged, or has no such group.
        """
        if not isinstance(self._file, pq.ParquetFile):
            group = self.read(number)
            yield from (group.slice(at, 1) for at in places)
            return
        first, waiting = 0, list(places)
        with _refusing_damage(self.name):
            group = self._file.metadata.row_group(number)
            values = max(group.column(at).num_values for at in range(group.num_columns))
            size = max(1, group.num_rows * DECODED_AT_ONCE // max(1, values))
            batches = self._file.iter_batches(size, row_groups=[number], use_threads=False)
            for few in self._checked(batches):
                while waiting and waiting[0] < first + few.num_rows:
                    yield few.slice(waiting.pop(0) - first, 1)
                if not waiting:
                    return
                first += few.num_rows

    def _checked(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in validated(batches):
            if not self._unchecked:
                check_sound(batch)
            yield batch

    def _stream(self, columns: Sequence[str] | None) -> pa.RecordBatchStreamReader:
        included = [self.schema.names.index(name) for name in columns or self.schema.names]
        self._file.seek(0)
        options = pa.ipc.IpcReadOptions(included_fields=included)
        return pa.ipc.open_stream(self._file, options=options)


@contextlib.contextmanager
def open_shard(place: Place, *, unchecked: bool = False) -> Iterator[OpenShard]:
    """Open a shard for reading.

    With `unchecked`, its version, its columns, what it requires of a reader, and whether the lists
    of its rows fit together are not checked.

    Raises:
        FormatError: it is damaged, or `check_readable` refuses it.
    """
    name = public_name(place)
    with contextlib.ExitStack() as opened:
        with _refusing_damage(name):
            source = opened.enter_context(_opened(place))
            if name.endswith(".arrow"):
                shard = OpenShard(name, _schema_of_stream(source), source, unchecked)
            else:
                file = opened.enter_context(pq.ParquetFile(source))
                shard = OpenShard(name, file.schema_arrow, file, unchecked)
            _ = shard.schema.names  # read here, so that damage raises FormatError
        if not unchecked:
            check_readable(shard.schema, name)
        yield shard


def read_shard(place: Place) -> Iterator[pa.RecordBatch]:
    """Yield the groups of a shard.

    Raises:
        FormatError: as `open_shard`.
    """
    with open_shard(place) as shard:
        yield from shard.groups()


def _opened(place: Place) -> Any:
    if not isinstance(place, Path):
        return open_arrow(place)
    check_regular(place)
    return pa.memory_map(str(place)) if place.suffix == ".arrow" else pa.OSFile(str(place))


def _schema_of_stream(source: pa.NativeFile) -> pa.Schema:
    if not has_end(source):
        raise pa.ArrowInvalid("the stream has no end mark")
    source.seek(0)
    return pa.ipc.read_schema(source)


@contextlib.contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    """Raise FormatError for the errors that reading a damaged shard raises."""
    try:
        yield
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        if lacks_memory(error):
            raise
        raise FormatError(name, error, "a whole shard", "pack again with --overwrite") from error
