"""A message in the samples of a row → what the model saw and wrote when it answered.

    row      h1 t1 r_out1 r_in1 h2 t2 r_out2         one token sequence of a shard
    view     h1           r_in1 h2 t2 r_out2         what its last trained token sees

Answers to one prompt may begin alike. What they share stands once, trained as the first of them,
so the beginning of another one has to be looked for there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
Span = tuple[int, int]
"""The first and the last of some positions."""


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
    id_ = row.samples[number].id
    spans = _spans(part for part in parts if part[0].samples[part[1]].id == id_)
    return _view(row, number, message, _trained(row, number)[message], spans)


def views_of(row: RowData, sample: int) -> Iterator[MessageView]:
    """Yield the views of all messages that a sample of a row trains."""
    spans = _spans([(row, sample)])
    for message, tokens in _trained(row, sample).items():
        yield _view(row, sample, message, tokens, spans)


def _view(
    row: RowData, sample: int, message: int, trained: NDArray[np.int64], spans: Mapping[int, Span]
) -> MessageView:
    last = trained[-1]
    path = [s for s in row.segments_of(sample) if s.start <= last < s.visible_until]
    tokens = np.concatenate([row.tokens(segment) for segment in path])
    begin = _begin(path, message, spans)
    return MessageView(row, row.samples[sample], message, tokens[tokens <= last], begin)


def _trained(row: RowData, sample: int) -> dict[int, NDArray[np.int64]]:
    """Give the messages that a sample trains, each with the tokens that are."""
    found: dict[int, list[NDArray[np.int64]]] = {}
    for segment in row.segments_of(sample):
        if segment.trained:
            tokens = row.tokens(segment)
            found.setdefault(segment.message, []).append(tokens[row.labels[tokens] != IGNORE])
    return {message: np.concatenate(found[message]) for message in sorted(found)}


def _spans(parts: Iterable[Part]) -> dict[int, Span]:
    """Give the first and the last position at which each message is trained."""
    spans: dict[int, Span] = {}
    for row, number in parts:
        for message, tokens in _trained(row, number).items():
            positions = row.position_ids[tokens]
            first, last = int(positions.min()), int(positions.max())
            before = spans.get(message, (first, last))
            spans[message] = min(first, before[0]), max(last, before[1])
    return spans


def _begin(path: Sequence[Segment], message: int, spans: Mapping[int, Span]) -> int:
    """Find the position where an answer begins.

    That is the first trained as its own, unless what stands before was written as part of another
    answer that goes on there: then both begin where that one does.

    Args:
        path: the segments of the view, in the order of positions.
        message: that is answered.
        spans: of all samples of the conversation that are known.
    """
    begin = spans[message][0]
    for segment in reversed(path):
        first, last = spans.get(segment.message, (begin, begin))
        if segment.position_first < begin <= segment.position_last + 1:
            written = segment.message != message and segment.kind in WRITTEN
            if written and first < begin <= last:
                begin = first
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
