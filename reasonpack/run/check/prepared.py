"""Files of tokens that trainers prepared → documents: ids, and which of them are trained.

    labels                                  −100 where a token is not trained
    loss_mask, assistant_masks, …           without labels: 0, in any of them, where it is not
    none of these                           all tokens are trained
    seq_lengths, position_ids,              where documents begin in a row with several; an
    attention_mask                          attention_mask may number them

TRL, axolotl and LLaMA-Factory save such files (a folder of `save_to_disk`, Arrow streams), SkyRL
reads them (also Parquet). JSON Lines and one JSON list are read too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.datasets.manifest import MANIFEST
from reasonpack.datasets.shares import STDIN, read_share
from reasonpack.errors import FormatError, ReasonpackError, RecordError, UsageError
from reasonpack.records.row_files import arrow_batches, damaged
from reasonpack.records.strict_json import decode_line
from reasonpack.records.unit import Unit, content_kind, read_records
from reasonpack.rows.sample import IGNORE
from reasonpack.run.plan_file import PLAN
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, is_url, join, public_name, stamp
from reasonpack.storage.read import Container, open_arrow
from reasonpack.wording import count, listed

IDS = "input_ids"
MASKS = ("loss_mask", "assistant_masks", "assistant_mask", "completion_mask")
BORDERS = ("seq_lengths", "position_ids", "attention_mask")
OURS = (MANIFEST, PLAN)
OUR_COLUMN = "segment_visible_until"
Numbers = NDArray[np.int64]


class Document(Struct, frozen=True):
    """One document of a row: T tokens.

    Attributes:
        where: file, row, and number of the document if the row has several.
        ids: i32[T].
        trained: bool[T].
        labels: i32[T], the target of each trained token.
    """

    where: str
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    labels: NDArray[np.int32]

    def part(self, start: int, stop: int) -> Document:
        """Return the tokens from `start` to `stop` as a document."""
        own = slice(start, stop)
        where = f"{self.where}, from token {start}" if start else self.where
        return Document(where, self.ids[own], self.trained[own], self.labels[own])


def sorted_inputs(inputs: Sequence[str]) -> tuple[list[Place], list[str]]:
    """Return the files of tokens, as places, and the inputs of chats, as they were given.

    Raises:
        UsageError: an input does not exist, is a dataset that pack wrote, or is a share of tokens.
    """
    prepared: list[Place] = []
    chats: list[str] = []
    for given in inputs:
        share = read_share(given)
        folder = is_url(share.path) or Path(share.path).is_dir()
        for name in OURS if folder else ():
            if stamp(join(share.path, name)):
                raise _ours(share.path)
        files = [] if share.path == STDIN else expand_inputs([share.path])
        columns = {file: _columns(file) for file in files}
        if any(OUR_COLUMN in names for names in columns.values()):
            raise _ours(share.path)
        tokens = [file for file in files if IDS in columns[file]]
        if tokens and not share.is_whole:
            raise UsageError(given, "a share of tokens", "all of them", "name the file alone")
        prepared += tokens
        if not tokens:
            chats.append(given)
    return prepared, chats


def _ours(given: str) -> UsageError:
    expected = "chats, or tokens that a trainer prepared"
    fix = "call `reasonpack verify DIR` on their dataset"
    return UsageError(given, "rows that pack wrote", expected, fix)


def _columns(file: Place) -> list[str]:
    """Return the columns of a Parquet or Arrow file, or the fields of the first JSON record."""
    try:
        kind = content_kind(file, public_name(file))
        if kind not in {"parquet", "arrow"}:
            return next((list(fields) for _, fields in _objects(file, kind)), [])
        with open_arrow(file) as source:
            if kind == "parquet":
                return list(pq.read_schema(source).names)
            return next((batch.schema.names for batch in arrow_batches(source, 0, 1)), [])
    except (ReasonpackError, pa.ArrowException, ValueError):
        return []  # reported when the file is read


def documents(file: Place) -> Iterator[Document]:
    """Yield the documents of a file, in order.

    Raises:
        FormatError: a column of a row does not have a whole number for each token.
        RecordError: a line is no JSON.
        StorageError: the file cannot be read.
    """
    name, number = public_name(file), 0
    kind = content_kind(file, name)
    if kind not in {"parquet", "arrow"}:
        for where, fields in _objects(file, kind):
            yield from _of_row(partial(_of_field, fields, where), where)
        return
    try:
        with open_arrow(file) as source:
            for batch in _batches(source, kind):
                for row in range(batch.num_rows):
                    yield from _of_row(partial(_of_column, batch, row), f"{name}, row {number}")
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


def _objects(file: Place, kind: Container) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the fields of each JSON record; no fields if it is no object."""
    unit = Unit(0, 0, public_name(file), kind, 0, -1, int(kind == "plain"), 0)
    for record in read_records(unit, file):
        try:
            fields = decode_line(record.line)
        except RecordError as error:
            error.where = record.where
            raise
        yield record.where, fields if isinstance(fields, dict) else {}


def _of_column(batch: pa.RecordBatch, row: int, name: str) -> Numbers | None:
    if name not in batch.schema.names or not batch.column(name)[row].is_valid:
        return None
    return np.asarray(batch.column(name)[row].values.cast(pa.int64()), np.int64)


def _of_field(fields: dict[str, Any], where: str, name: str) -> Numbers | None:
    values = fields.get(name)
    if values is None and name != IDS:
        return None
    if isinstance(values, list) and set(map(type, values)) <= {int, bool}:
        with contextlib.suppress(OverflowError):
            return np.asarray(values, np.int64)
    what, expected = "no list of whole numbers", "one with a number for each token"
    raise FormatError(f"{where}: {name}", what, expected, "write a list such as [5, 17, 2]")


def _of_row(numbers: Callable[[str], Numbers | None], where: str) -> Iterator[Document]:
    """Yield the documents of a row without padding; `numbers` returns a column by its name."""
    ids, labels = numbers(IDS), numbers("labels")
    if ids is None:
        return
    if (most := ids.max(initial=0)) >> 31:
        fix = "write the ids that the tokenizer gives"
        raise FormatError(f"{where}: {IDS}", f"{most:,}", "ids of tokens, below 2^31", fix)
    masks = {name: mask for name in MASKS if (mask := numbers(name)) is not None}
    lengths, positions, attention = map(numbers, BORDERS)
    columns = {"labels": labels, "position_ids": positions, "attention_mask": attention, **masks}
    wrong = [name for name, each in columns.items() if each is not None and len(each) != len(ids)]
    if wrong:
        what = f"{listed(wrong)}: not as long as {IDS}, which has {count(len(ids), 'token')}"
        raise FormatError(where, what, "a value for each token", "write it for the prompt too")
    if labels is None:
        kept = np.logical_and.reduce(
            [np.ones(len(ids), bool), *(mask > 0 for mask in masks.values())]
        )
        labels = np.where(kept, ids, IGNORE)
    real = np.ones(len(ids), bool) if attention is None else attention > 0
    borders = _borders(len(ids), lengths, positions, attention)
    for number, (start, stop) in enumerate(zip(borders, [*borders[1:], len(ids)], strict=True)):
        own = np.arange(start, stop)[real[start:stop]]
        # LLaMA-Factory attends to the padding of packed rows, whose tokens all have position 0.
        if len(own) > 1 or (labels[own] != IGNORE).any():
            part = f", document {number}" if len(borders) > 1 else ""
            ids_, labels_ = ids[own].astype(np.int32), labels[own].astype(np.int32)
            yield Document(where + part, ids_, labels_ != IGNORE, labels_)


def _borders(
    length: int, lengths: Numbers | None, positions: Numbers | None, attention: Numbers | None
) -> list[int]:
    """Return the first token of each document of a row."""
    if lengths is not None and lengths.sum() == length:
        return [0, *np.cumsum(lengths)[:-1].tolist()]
    if attention is not None and attention.max(initial=0) > 1:
        return [0, *(np.flatnonzero(np.diff(attention)) + 1).tolist()]
    if positions is not None and (attention is None or attention.all()):
        return [0, *(np.flatnonzero(positions[1:] == 0) + 1).tolist()]
    return [0]
