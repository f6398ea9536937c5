"""Files of tokens that trainers prepared → documents: ids, and which of them are trained.

    labels                                  −100 where a token is not trained
    loss_mask, assistant_masks, …           0 where it is not; all that are there have to agree
    none of these                           all are trained
    seq_lengths, position_ids,              where a row holds several documents
    attention_mask that counts them

That is what TRL, axolotl and LLaMA-Factory save (a folder of `save_to_disk`, Arrow streams) and
what SkyRL reads (Parquet too).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reasonpack.datasets.manifest import MANIFEST
from reasonpack.datasets.shares import STDIN, read_part
from reasonpack.errors import FormatError, StorageError, UsageError
from reasonpack.records.unit import arrow_batches, content_kind, damaged
from reasonpack.rows.sample import IGNORE
from reasonpack.run.plan_file import PLAN
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, is_url, join, public_name, stamp
from reasonpack.storage.read import open_arrow
from reasonpack.wording import listed

IDS = "input_ids"
MASKS = ("loss_mask", "assistant_masks", "assistant_mask", "completion_mask")
BORDERS = ("seq_lengths", "position_ids", "attention_mask")
OURS = (MANIFEST, PLAN)
OUR_COLUMN = "segment_visible_until"


@dataclass(frozen=True, slots=True)
class Document:
    """What stands alone in a row: T tokens.

    Attributes:
        where: file, row, and which of several documents.
        ids: i32[T].
        trained: bool[T].
        labels: i32[T], what a trained token is trained as.
    """

    where: str
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    labels: NDArray[np.int32]


def sorted_inputs(inputs: Sequence[str]) -> tuple[list[Place], list[str]]:
    """Tell files of tokens, each by its place, from inputs of chats.

    Raises:
        UsageError: an input is a dataset of ours, or there is no such input, or it is a share of
            tokens.
    """
    prepared: list[Place] = []
    chats: list[str] = []
    for given in inputs:
        part = read_part(given)
        folder = is_url(part.path) or Path(part.path).is_dir()
        for name in OURS if folder else ():
            if stamp(join(part.path, name)):
                raise _ours(part.path)
        files = [] if part.path == STDIN else expand_inputs([part.path])
        columns = {file: _columns(file) for file in files}
        if any(OUR_COLUMN in names for names in columns.values()):
            raise _ours(part.path)
        tokens = [file for file in files if IDS in columns[file]]
        if tokens and not part.is_whole:
            raise UsageError(given, "a share of tokens", "all of them", "name the file alone")
        prepared += tokens
        if not tokens:
            chats.append(given)
    return prepared, chats


def _ours(given: str) -> UsageError:
    return UsageError(
        given,
        "rows that pack wrote",
        "chats, or tokens that a trainer prepared",
        "call `reasonpack verify DIR` on their dataset",
    )


def _columns(file: Place) -> list[str]:
    """Name the columns of a Parquet or Arrow file; none of any other."""
    try:
        kind = content_kind(file, public_name(file))
        if kind not in {"parquet", "arrow"}:
            return []
        with open_arrow(file) as source:
            if kind == "parquet":
                return list(pq.read_schema(source).names)
            return next((batch.schema.names for batch in arrow_batches(source, 0, 1)), [])
    except (StorageError, pa.ArrowException, ValueError):
        return []  # whoever reads it says what is wrong


def documents(file: Place) -> Iterator[Document]:
    """Read the documents of a file, in order.

    Raises:
        FormatError: a row does not say which of its tokens are trained.
        StorageError: the file cannot be read.
    """
    name, number = public_name(file), 0
    kind = content_kind(file, name)
    try:
        with open_arrow(file) as source:
            for batch in _batches(source, kind):
                for row in range(batch.num_rows):
                    yield from _of_row(batch, row, f"{name}, row {number}")
                    number += 1
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise damaged(file, kind, error) from error


def _batches(source: pa.NativeFile, kind: str) -> Iterator[pa.RecordBatch]:
    wanted = {IDS, "labels", *MASKS, *BORDERS}
    if kind == "arrow":
        yield from arrow_batches(source)
        return
    with pq.ParquetFile(source) as file:
        names = [name for name in file.schema_arrow.names if name in wanted]
        yield from file.iter_batches(256, columns=names)


def _of_row(batch: pa.RecordBatch, row: int, where: str) -> Iterator[Document]:
    """Yield the documents of a row, without its padding."""

    def numbers(name: str) -> NDArray[np.int64] | None:
        if name not in batch.schema.names or not batch.column(name)[row].is_valid:
            return None
        return np.asarray(batch.column(name)[row].values.cast(pa.int64()), np.int64)

    ids, labels = numbers(IDS), numbers("labels")
    if ids is None:
        return
    masks = {name: mask for name in MASKS if (mask := numbers(name)) is not None}
    lengths, positions, attention = map(numbers, BORDERS)
    columns = {"labels": labels, "position_ids": positions, "attention_mask": attention, **masks}
    wrong = [name for name, each in columns.items() if each is not None and len(each) != len(ids)]
    if wrong:
        raise FormatError(
            where,
            f"{listed(wrong)}: not as long as {IDS}, which has {len(ids):,} tokens",
            "a value for each token",
            "write it for the prompt too",
        )
    if labels is None:
        kept = np.logical_and.reduce(
            [np.ones(len(ids), bool), *(mask > 0 for mask in masks.values())]
        )
        labels = np.where(kept, ids, IGNORE)
    real = np.ones(len(ids), bool) if attention is None else attention > 0
    borders = _borders(len(ids), lengths, positions, attention)
    for number, (start, stop) in enumerate(zip(borders, [*borders[1:], len(ids)], strict=True)):
        own = np.arange(start, stop)[real[start:stop]]
        if len(own):
            part = f", document {number}" if len(borders) > 1 else ""
            ids_, labels_ = ids[own].astype(np.int32), labels[own].astype(np.int32)
            yield Document(where + part, ids_, labels_ != IGNORE, labels_)


def _borders(
    length: int,
    lengths: NDArray[np.int64] | None,
    positions: NDArray[np.int64] | None,
    attention: NDArray[np.int64] | None,
) -> list[int]:
    """Return where the documents of a row begin."""
    if lengths is not None and lengths.sum() == length:
        return [0, *np.cumsum(lengths)[:-1].tolist()]
    if attention is not None and attention.max(initial=0) > 1:
        return [0, *(np.flatnonzero(np.diff(attention)) + 1).tolist()]
    if positions is not None and (attention is None or attention.all()):
        return [0, *(np.flatnonzero(positions[1:] == 0) + 1).tolist()]
    return [0]
