"""Arrow tables of rows → a shard, as Parquet with pinned encodings or as an Arrow IPC stream.

`table` makes the tables, `schema` defines their columns, and `datasets.shards` opens shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from reasonpack.choices import ShardFormat
from reasonpack.rows.schema import ENCODINGS

ZSTD_LEVEL = 1


def write_shard(
    groups: Iterable[pa.Table],
    sink: Any,
    schema_: pa.Schema,
    *,
    format_: ShardFormat,
    compression: str | None,
) -> None:
    """Write a shard to an open binary file.

    Each of the groups, as from `row_groups`, becomes a row group of a Parquet file or a record
    batch of a stream. `compression` is `zstd`, `lz4`, … or None.
    """
    if format_ == "arrow":
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, schema_, options=options) as stream:
            for group in groups:
                stream.write_table(group)
        return
    with pq.ParquetWriter(
        sink,
        schema_,
        compression=compression or "none",
        compression_level=ZSTD_LEVEL if compression == "zstd" else None,
        use_dictionary=False,
        column_encoding=ENCODINGS,
        write_statistics=False,
        version="2.6",
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))
