"""A dataset directory becomes rows, in an order that every rank and worker can resume.

    manifest.json ──> groups   a[1000] b[1000] c[417]           row groups of all shards
                         │ seed, epoch
                      order    c b a, and the rows of each shuffled
                         │ cut into one equal stretch per rank; these into one per worker
                      share    rank 1 of 2, worker 0 of 2: rows [1209, 1813) of the order

Groups are shuffled, and rows within each group, so that a share reads about as many bytes as
it yields. Parquet is decoded by group; uncompressed Arrow shards are memory-mapped, so that
any row costs the same: pack with `--format arrow` for a trainer that shuffles by itself.
"""

from __future__ import annotations

import hashlib
import inspect
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.options import TRAIN
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import FormatError, UsageError
from reasonpack.wording import count

Row = dict[str, Any]
"""A row: columns by name, lists of numbers as NumPy arrays, `sample_id` as a list of strings."""

PARQUET_GROUPS_KEPT = 4
DIVIDING = ("DataLoaderDispatcher", "IterableDatasetShard")
"""Classes of Accelerate that give each process a part of a stream."""


@dataclass(frozen=True, slots=True)
class Group:
    """A row group of a Parquet shard, or a record batch of an Arrow shard.

    Attributes:
        path: path of the shard.
        number: index of the group in the shard.
        rows: how many rows the group has.
    """

    path: Path
    number: int
    rows: int


class RowDataset:
    """Map-style dataset over a finished output directory: `len(rows)`, `rows[i]`.

    A `DataLoader` and the Hugging Face `Trainer` take it; both shard by rank and shuffle by
    themselves. A row's arrays are read-only views of the shard. Only the last few row groups of
    Parquet stay decoded, so access in random order decodes a group for almost every row.

    Attributes:
        directory: the output directory.
        layout: `onepass` or `npass`.
        packed: whether a row may hold several samples.
        split: name of the split.
        groups: the row groups, in the order of the shards.
        starts: `i64[len(groups) + 1]`, first row of each group, and then the number of rows.
        fingerprint: hash of the SHA-256 of all shards, in order.
    """

    def __init__(self, directory: Path | str, split: str = TRAIN) -> None:
        """Open a split of a directory.

        Raises:
            FormatError: it is unfinished, of an unknown format version, or a shard is missing,
                damaged, not the one in the manifest, or requires a column unknown here.
            UsageError: it is not a local directory, or it has no such split, or no rows.
        """
        if not isinstance(directory, str | os.PathLike):
            fix = "pass the path of what pack wrote"
            raise UsageError("RowDataset", type(directory).__name__, "a directory", fix)
        if "://" in str(directory):
            raise UsageError(
                directory, "a remote dataset", "a local directory", "copy it here first"
            )
        self.directory = Path(directory)
        manifest = read_manifest(self.directory)
        self.layout = manifest.layout
        self.packed = manifest.options.packed
        self._mapped = manifest.options.format == "arrow" and manifest.options.codec is None
        self.split = split
        shards = [shard for shard in manifest.shards if shard.split == split]
        if manifest.shards and not shards:
            splits = ", ".join(sorted({shard.split for shard in manifest.shards}))
            raise UsageError(directory, f"no split {split!r}", splits, "name one of those")
        opened = [(self.directory / shard.path, shard.rows) for shard in shards]
        self.groups = [group for path, rows in opened for group in _groups(path, rows)]
        self.starts = np.cumsum([0] + [group.rows for group in self.groups], dtype=np.int64)
        if not self.groups:
            fix = "see rejects.jsonl in it, or pack other input"
            raise UsageError(directory, "no rows", "at least one to train on", fix)
        hashes = "".join(shard.sha256 for shard in shards)
        self.fingerprint = hashlib.sha256(hashes.encode()).hexdigest()
        self._loaded: dict[int, pa.RecordBatch] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Row:
        """Return a row; negative indices count from the end.

        Raises:
            IndexError: there is no such row.
            UsageError: `index` is no integer.
        """
        try:
            index = operator.index(index)
        except TypeError as error:
            fix = "take several rows as [rows[i] for i in ...]"
            raise UsageError("RowDataset", f"index {index!r}", "an integer", fix) from error
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        group = int(np.searchsorted(self.starts, place, side="right")) - 1
        batch = self._load(group)
        at = place - int(self.starts[group])
        return {name: _value(batch.column(name), at) for name in batch.schema.names}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out loaded groups: a spawned worker opens the files itself."""
        return {**self.__dict__, "_loaded": {}}

    def _load(self, number: int) -> pa.RecordBatch:
        if number not in self._loaded:
            group = self.groups[number]
            with open_shard(group.path) as shard:
                batch = shard.read(group.number)
            if not self._mapped:  # a mapped batch takes no memory
                while len(self._loaded) >= PARQUET_GROUPS_KEPT:
                    self._loaded.pop(next(iter(self._loaded)))
            self._loaded[number] = batch
        return self._loaded[number]


class RowStream(IterableDataset[Row]):  # type: ignore[misc,unused-ignore]
    """Iterable dataset over this rank's and this worker's share of one epoch.

    All ranks get equally many rows, as collective operations require. If the rows do not divide
    evenly, the last rank continues with the first rows of the order, so that fewer than
    `world_size` rows come twice. `drop_last=True` in a `DataLoader` drops the tail of every
    worker's share.

    `state_dict()` counts the rows yielded in this process. With `num_workers > 0` the workers yield
    the rows: use torchdata's `StatefulDataLoader`, which collects their states.

    Accelerate, and so the Hugging Face `Trainer`, gives each process its share of any stream:
    give them `RowDataset`, or the whole stream, `RowStream(rows, rank=0, world_size=1)`.

    Attributes:
        rows: the dataset to stream.
        seed: seed of the shuffle; None keeps the order of the dataset.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        rows: RowDataset,
        *,
        seed: int | None = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Stream a dataset; rank and world size are those of `torch.distributed` unless given.

        Raises:
            UsageError: `rank` is not below `world_size`, or `rows` is not a RowDataset.
        """
        if not isinstance(rows, RowDataset):
            fix = "pass RowStream(RowDataset(directory))"
            raise UsageError("RowStream", type(rows).__name__, "a RowDataset", fix)
        run, here, ranks = torch.distributed, 0, 1
        if run.is_available() and run.is_initialized():
            here, ranks = run.get_rank(), run.get_world_size()
        self.rows = rows
        self.seed = seed
        self.rank = here if rank is None else rank
        self.world_size = ranks if world_size is None else world_size
        numbers = isinstance(self.rank, int) and isinstance(self.world_size, int)
        if not numbers or not 0 <= self.rank < self.world_size:
            what = f"{self.rank!r} of {self.world_size!r}"
            fix = "pass rank and world_size together"
            raise UsageError("rank", what, "integers, of which the rank is the smaller one", fix)
        # In shared memory, so that persistent workers see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call,unused-ignore]
        self._done = 0
        self._resume: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """The epoch, on which the order depends."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, and so the order of the next iteration; call it before each epoch."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows of the share, after `load_state_dict` from the saved place on.

        Raises:
            UsageError: the loaded state is that of another share, or Accelerate divides a share
                again, so that rows would be left out.
        """
        if self.world_size > 1 and _is_divided_again():
            raise UsageError(
                "RowStream",
                f"the share of rank {self.rank}, of which Accelerate gives each process a part",
                "the whole stream: else rows are left out",
                "pass RowStream(rows, rank=0, world_size=1), or RowDataset",
            )
        state, self._resume = self._resume, None
        if state is not None:
            self._check_same("share", state["share"], self._share())
        self._done = state["done"] if state is not None else 0
        first, stop = self._bounds()
        return self._rows(self._order(first + self._done, stop))

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next row, as plain numbers and strings."""
        if self._resume is not None:
            return dict(self._resume)
        return {
            "dataset": self.rows.fingerprint,
            "seed": self.seed,
            "epoch": self.epoch,
            "share": self._share(),
            "done": self._done,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next iteration continue where `state_dict` was saved.

        Raises:
            UsageError: it is no state of a RowStream, or that of another dataset or another seed.
        """
        if missing := sorted(self.state_dict().keys() - {*state_dict}):
            fix = "pass what state_dict() of the RowStream returned"
            raise UsageError("state", f"no {', '.join(missing)}", "the state of a RowStream", fix)
        self._check_same("dataset", state_dict["dataset"], self.rows.fingerprint)
        self._check_same("seed", state_dict["seed"], self.seed)
        self.set_epoch(state_dict["epoch"])
        self._resume = dict(state_dict)

    def _rows(self, order: Iterator[int]) -> Iterator[Row]:
        for index in order:
            self._done += 1  # before the row is yielded: a state saved after it counts it
            yield self.rows[index]

    def _check_same(self, what: str, saved: object, here: object) -> None:
        if saved != here:
            fix = "resume with the same dataset, seed, world size and number of workers, or"
            raise UsageError("state", f"{what} {saved}", f"{here}", f"{fix} start the epoch anew")

    def _share(self) -> list[int]:
        """Return rank, world size, worker and number of workers, which define the share."""
        worker = get_worker_info()
        of_worker = [worker.id, worker.num_workers] if worker else [0, 1]
        return [self.rank, self.world_size, *of_worker]

    def _bounds(self) -> tuple[int, int]:
        """Return the first row of the share and one past its last, in the order of all ranks."""
        rank, ranks, worker, workers = self._share()
        per_rank = -(-len(self.rows) // ranks)
        begin = rank * per_rank
        return begin + per_rank * worker // workers, begin + per_rank * (worker + 1) // workers

    def _order(self, start: int, stop: int) -> Iterator[int]:
        """Yield rows `[start, stop)` of the epoch's order; past its end it begins again."""
        sizes = np.diff(self.rows.starts)
        groups = self._permutation(len(sizes), 0)
        ends = np.cumsum(sizes[groups])
        while start < stop:
            place = start % len(self.rows)
            turn = int(np.searchsorted(ends, place, side="right"))
            group = int(groups[turn])
            offset = place - int(ends[turn] - sizes[group])
            within = self._permutation(int(sizes[group]), group + 1)[offset:][: stop - start]
            yield from (within + self.rows.starts[group]).tolist()
            start += len(within)

    def _permutation(self, size: int, number: int) -> NDArray[np.int64]:
        """Permute `size` items; raw generator bits are the same in all versions of NumPy."""
        if self.seed is None:
            return np.arange(size)
        bits = np.random.PCG64([self.seed, self.epoch, number]).random_raw(size)
        return np.argsort(np.asarray(bits), kind="stable")


def _is_divided_again() -> bool:
    """Return whether the iteration was begun by a class of Accelerate that divides a stream."""
    worker, frame = get_worker_info(), inspect.currentframe()
    callers: list[object] = [worker.dataset] if worker else []
    while frame is not None:
        callers.append(frame.f_locals.get("self"))
        frame = frame.f_back
    return any(type(caller).__name__ in DIVIDING for caller in callers)


def _groups(path: Path, rows: int) -> list[Group]:
    """List the groups of a shard that have rows; refuse it unless they have `rows` in all."""
    with open_shard(path) as shard:
        sizes = shard.sizes()
    if sum(sizes) != rows:
        what, fix = count(sum(sizes), "row"), "pack again with --overwrite"
        raise FormatError(path, what, f"the {rows} of the manifest", fix)
    return [Group(path, number, size) for number, size in enumerate(sizes) if size]


def _value(column: pa.Array, at: int) -> Any:
    """Return one row of a column, without a copy if it is a list of numbers."""
    if pa.types.is_list(column.type) and not pa.types.is_string(column.type.value_type):
        return column[at].values.to_numpy(zero_copy_only=True)
    return column[at].as_py()
