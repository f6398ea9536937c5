"""The rows of a unit, to be shuffled → an Arrow file sorted by random keys, a batch per bucket.

    rows of unit 7      keys from seed, split, unit      unshuffled/data/train-00007-of-00100.arrow
    r0 r1 r2 r3 …  ──→  0.52 0.91 0.03 0.27 …       ──→  bucket 3: r2 │ … │ 27: r3 │ … │ 52: r0 │ …

There are as many buckets as units, each for an equal range of keys. Bucket N of all units together
has every row of the dataset whose key is in range N.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.datasets.receipt import place_of, shard_path
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.rows.sample import Sample
from reasonpack.rows.table import rows_to_table
from reasonpack.storage.place import Place, stamp
from reasonpack.storage.read import open_arrow

UNSHUFFLED = "unshuffled"
"""The directory in which a run keeps rows until they are shuffled."""
KEY = "key"


def row_keys(seed: int, split: str, unit: int, count: int) -> NDArray[np.uint64]:
    """Return u64[count], the random sort keys of the rows that a unit has in a split.

    >>> row_keys(0, "train", 7, 2).tolist()
    [7102389678314576832, 1628450495802994839]
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(split.encode()), unit])
    return np.asarray(np.random.PCG64(sequence).random_raw(count), np.uint64)


def write_buckets(
    sink: Any,
    samples: Sequence[Sample],
    rows: Sequence[Sequence[int]],
    keys: NDArray[np.uint64],
    schema_: pa.Schema,
    *,
    buckets: int,
) -> None:
    """Write rows to `sink` in the order of their keys, as an Arrow file with a batch per bucket.

    Each of `rows` lists the indices of its samples.
    """
    order = np.argsort(keys, kind="stable")
    edges = [(number << 64) // buckets for number in range(1, buckets)]
    bounds = [0, *np.searchsorted(keys[order], np.array(edges, np.uint64)).tolist(), len(rows)]
    keyed = schema_.append(pa.field(KEY, pa.uint64()))
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    whole = pa.BufferOutputStream()  # else each batch would be many small writes
    with pa.ipc.new_file(whole, keyed, options=options) as file:
        for start, stop in itertools.pairwise(bounds):
            own = order[start:stop]
            table = rows_to_table(samples, [rows[index] for index in own], schema_)
            columns = [column.combine_chunks() for column in table.columns]
            columns.append(pa.array(keys[own], pa.uint64()))
            file.write_batch(pa.RecordBatch.from_arrays(columns, schema=keyed))
    sink.write(whole.getvalue())


def read_bucket(
    unshuffled: Place, split: str, bucket: int, *, units: int
) -> tuple[list[Sample], list[list[int]]]:
    """Read one bucket from the files of all units.

    Returns:
        The samples, and each row as the indices of its samples. Rows are in the order of their
        keys; rows with equal keys in the order of their units.
    """
    samples: list[Sample] = []
    rows: list[list[int]] = []
    keys: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    for unit in range(units):
        path = shard_path(unit, units=units, suffix="arrow", split=split)
        place = place_of(unshuffled, path)
        if stamp(place) is None:
            continue
        alone = pa.ipc.IpcReadOptions(use_threads=False)
        with open_arrow(place) as opened, pa.ipc.open_file(opened, options=alone) as file:
            batch = file.get_batch(bucket)
        keys.append(batch.column(KEY).to_numpy())
        for row in cut_rows(batch):
            rows.append([*range(len(samples), len(samples) + len(row))])
            samples += row
    order = np.argsort(np.concatenate(keys), kind="stable")
    return samples, [rows[index] for index in order]
