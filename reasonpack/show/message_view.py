"""A message in the samples of a row → what the model saw and wrote when it answered.

    row      h1 t1 r_out1 r_in1 h2 t2 r_out2         one token sequence of a shard
    view     h1           r_in1 h2 t2 r_out2         what its last trained token sees

Answers to one prompt may begin alike. What they share stands once, trained as the first of them,
so the beginning of another one has to be looked for there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.show.row import Decode, RowData, RowSample, Segment, quoted_id
from reasonpack.wording import listed

WRITTEN = {Kind.REASONING.label, Kind.R_OUT.label}
Part = tuple[RowData, int]
"""A row, and the number of a sample in it."""


@dataclass(frozen=True, slots=True)
class MessageView:
    """What the model saw and wrote for one message: L tokens of a row, in position order.

    Attributes:
        row: that holds it.
        sample: that holds it.
        message: index in the conversation.
        tokens: i64[L], offsets of the view's tokens in the row.
        prompt_length: how many of them are the prompt; all others are trained, here or as the
            beginning of another answer.
    """

    row: RowData
    sample: RowSample
    message: int
    tokens: NDArray[np.int64]
    prompt_length: int


def find_view(parts: Sequence[Part], message: int) -> MessageView:
    """Find what the model sees when it writes a message, and what it is trained on.

    The last trained token q of the message sees exactly the message's view: of its
    sample all k with `k <= q < visible_until[k]`.

    Args:
        parts: the samples to look at, each as a row and its number in the row.
        message: index in the conversation.

    Raises:
        UsageError: none of them trains this message, or several do.
    """
    found = [(row, number) for row, number in parts if message in _trained(row, number)]
    if not found:
        there = (f"{listed(_trained(*part))} of {_named(*part)}" for part in parts)
        raise UsageError(
            "--view",
            f"message {message} is not trained there",
            listed(there),
            "name one of these messages; they are counted from 0",
        )
    if len(found) > 1:
        there = (_named(*part) for part in found)
        raise UsageError(
            "--view",
            f"message {message} is trained in {len(found)} samples",
            "one",
            f"choose with --id and --row: {listed(there)}",
        )
    ((row, number),) = found
    last = _trained(row, number)[message][-1]
    path = [s for s in row.segments_of(number) if s.start <= last < s.visible_until]
    tokens = np.concatenate([row.tokens(segment) for segment in path])
    sample = row.samples[number]
    begin = _begin(
        path, message, [part for part in parts if part[0].samples[part[1]].id == sample.id]
    )
    return MessageView(row, sample, message, tokens[tokens <= last], begin)


def _trained(row: RowData, sample: int) -> dict[int, NDArray[np.int64]]:
    """Give the messages that a sample trains, each with the tokens that are."""
    found: dict[int, list[NDArray[np.int64]]] = {}
    for segment in row.segments_of(sample):
        if segment.trained:
            tokens = row.tokens(segment)
            found.setdefault(segment.message, []).append(tokens[row.labels[tokens] != IGNORE])
    return {message: np.concatenate(found[message]) for message in sorted(found)}


def _begin(path: Sequence[Segment], message: int, parts: Sequence[Part]) -> int:
    """Find the position where an answer begins.

    That is the first trained as its own, unless what stands before was written as part of another
    answer that goes on there: then both begin where that one does.

    Args:
        path: the segments of the view, in the order of positions.
        message: that is answered.
        parts: all samples of the conversation that are known.
    """
    spans: dict[int, list[int]] = {}
    for row, number in parts:
        for other, tokens in _trained(row, number).items():
            spans.setdefault(other, []).extend(row.position_ids[tokens].tolist())
    begin = min(spans[message])
    for segment in reversed(path):
        span = spans.get(segment.message, [])
        if segment.position_first < begin <= segment.position_last + 1:
            goes_on = span and min(span) < begin <= max(span)
            if segment.message != message and segment.kind in WRITTEN and goes_on:
                begin = min(span)
    return begin


def _named(row: RowData, sample: int) -> str:
    return f"{quoted_id(row.samples[sample].id)} in row {row.number}"


def view_text(view: MessageView, decode: Decode) -> tuple[str, str]:
    """Give prompt and completion; together they are the text of the view.

    A decoder may drop a space at the start of what it is given, so the completion is
    cut from the whole, unless that has another character where the two meet.
    """
    ids = view.row.input_ids[view.tokens]
    prompt, whole = decode(ids[: view.prompt_length]), decode(ids)
    if whole.startswith(prompt):
        return prompt, whole[len(prompt) :]
    return prompt, decode(ids[view.prompt_length :])


def view_json(view: MessageView, decode: Decode | None) -> dict[str, Any]:
    """Describe a view for a program; its text only if there is a `decode`."""
    row, ids = view.row, view.row.input_ids[view.tokens].tolist()
    described: dict[str, Any] = {
        "shard": row.shard,
        "row": row.number,
        "sample": view.sample.id,
        "message": view.message,
        "length": len(ids),
        "prompt_ids": ids[: view.prompt_length],
        "completion_ids": ids[view.prompt_length :],
        "position_ids": row.position_ids[view.tokens].tolist(),
    }
    if decode:
        described["prompt"], described["completion"] = view_text(view, decode)
    return described
