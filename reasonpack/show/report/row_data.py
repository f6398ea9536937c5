"""Rows → their JSON in the page: runs and intervals, and each distinct token once.

    ids             for each token its index in `tokens`
    positions       where each run of consecutive positions starts: [tokens, positions]
    trained         tokens at which trained and untrained alternate; the first is trained
    labels          tokens whose label is not their own id: [tokens, ids]
    segments        start, until (visible_until), kind, message
    samples         id, start
    views           for each trained answer: sample, message, call, last token, length of the prompt
    calls           id, sample, role, reward, up to the last call that is shown; empty for
                    conversations
    columns         by name, where each run of equal values starts: [tokens, values]
    left_out        how many further tokens the row has

All offsets count tokens from the start of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import to_builtins
from numpy.typing import NDArray

from reasonpack.errors import TokenizerError
from reasonpack.rows.kind import BY_LABEL
from reasonpack.rows.sample import IGNORE
from reasonpack.show.message_view import prompts_of
from reasonpack.show.row import LONGEST_ID, RowData, plain

Piece = Callable[[int], bytes]
"""Returns the bytes of a token."""


def rows_data(
    rows: Sequence[RowData], piece: Piece | None, most: int | None = None
) -> dict[str, Any]:
    """Return the JSON of rows: `tokens`, the most frequent one first, and `rows`.

    `piece` returns the bytes of a token, and is None without a tokenizer. At most `most` tokens of
    a row are included, by default all.
    """
    shown = [row.input_ids[:most] for row in rows]
    ids, counts = np.unique(np.concatenate([np.zeros(0, np.int32), *shown]), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    known = [int(token) for token in ids[order]]
    texts = [_text(piece, each) for each in known] if piece else None
    return {
        "tokens": {"ids": known, "texts": texts},
        "rows": [
            {"ids": place[np.searchsorted(ids, tokens)].tolist(), **_row(row, len(tokens))}
            for row, tokens in zip(rows, shown, strict=True)
        ],
    }


def _text(piece: Piece, token: int) -> str | None:
    """Return the text of a token, with bytes that are no whole character as lone surrogates."""
    try:
        return piece(token).decode("utf-8", "surrogateescape")
    except TokenizerError:
        return None  # a damaged row; the page shows the id


def _row(row: RowData, length: int) -> dict[str, Any]:
    """Return the JSON of the first `length` tokens of a row."""
    segments = [each for each in row.segments if each.start < length]
    samples = [each for each in row.samples if each.start < length]
    labels, ids, positions = (
        values[:length] for values in (row.labels, row.input_ids, row.position_ids)
    )
    trained = labels != IGNORE
    other = np.flatnonzero(trained & (labels != ids))
    return {
        "row": row.number,
        "shard": row.shard,
        "length": len(row.input_ids),
        "left_out": len(row.input_ids) - length,
        "positions": _runs(positions, positions[1:] != positions[:-1] + 1),
        "trained": np.flatnonzero(np.diff(trained, prepend=False)).tolist(),
        "labels": [other.tolist(), labels[other].tolist()],
        "segments": {
            "start": [each.start for each in segments],
            "until": [min(each.visible_until, length) for each in segments],
            "kind": [BY_LABEL[each.kind].value for each in segments],
            "message": [each.message for each in segments],
            "call": [each.call for each in segments],
        },
        "samples": {
            "id": [each.id[:LONGEST_ID] for each in samples],
            "start": [each.start for each in samples],
        },
        "views": [
            {
                "sample": number,
                "message": answer.message,
                "call": answer.call,
                "last": answer.last,
                "prompt": prompt,
            }
            for number in range(len(samples))
            for answer, prompt in prompts_of(row, number, within=length)
        ],
        "calls": [
            {**to_builtins(each), "id": each.id[:LONGEST_ID]}
            for each in row.calls[: max((each.call for each in segments), default=-1) + 1]
        ],
        "columns": {
            name: _runs(values[:length], values[1:length] != values[: length - 1])
            for name, values in row.columns.items()
        },
    }


def _runs(values: NDArray[Any], breaks: NDArray[np.bool_]) -> list[list[Any]]:
    """Return the tokens at which runs start, and their values there; not a number is null."""
    starts = np.flatnonzero(np.append(len(values) > 0, breaks))
    return [starts.tolist(), plain(values[starts])]
