"""A trained message of a row → its view: what the model saw and wrote when it answered.

    row      h1 t1 r_out1 r_in1 h2 t2 r_out2         one token sequence of a shard
    view     h1           r_in1 h2 t2 r_out2         what its last trained token sees

Answers to one prompt may share their first tokens. The row has these once, as part of the first
answer, so the beginning of another is searched there. A later answer may begin with a copy:

    h1 A ─┬─ a1        segments   h1 A   a1   h1'   b1
          └─ b1        parents     –     h1    –    h1'     h1' is a copy of the end of h1 A
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
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
"""The first and the last position of some tokens."""


class MessageView(Struct, frozen=True):
    """What the model saw and wrote for one message: L tokens of a row, in position order.

    Attributes:
        message: index in the conversation.
        tokens: i64[L], offsets of the view's tokens in the row.
        prompt_length: how many of the tokens are the prompt; the others are trained, as this
            answer or as the beginning of another that shares them.
    """

    row: RowData
    sample: RowSample
    message: int
    tokens: NDArray[np.int64]
    prompt_length: int


def find_view(parts: Sequence[Part], message: int | str, *, option: str = "--view") -> MessageView:
    """Find the view of a message, given by its index, or of a call, given by its id.

    The last trained token q of a message sees exactly the message's view: all tokens k of the
    sample with `k <= q < visible_until[k]`.

    `parts` are the samples to search. Errors name the command-line `option`.

    Raises:
        UsageError: none of the samples trains this message, or several do.
    """
    what = "message" if isinstance(message, int) else "call"
    found = [
        (*part, answer)
        for part in parts
        for answer in answers_of(*part)
        if message == (answer.message if what == "message" else _call_id(part[0], answer))
    ]
    if not found:
        there = (
            f"{listed(sorted({_which(part[0], each, what) for each in answers_of(*part)}))} of "
            f"{_named(*part)}"
            for part in parts
        )
        is_there = any(message == each.id for row, _ in parts for each in row.calls)
        fix = "others train all that it wrote" if is_there else "no call there has this id"
        fix = "they are counted from 0" if what == "message" else fix
        raise UsageError(
            option,
            f"{what} {message} is not trained there",
            listed(there),
            f"name one of these {what}s; {fix}",
        )
    if len(found) > 1:
        there = (_named(row, number) for row, number, _ in found)
        raise UsageError(
            option,
            f"{what} {message} is trained in {len(found)} samples",
            "one",
            f"choose with --id and --row: {listed(there)}",
        )
    ((row, number, answer),) = found
    id_ = row.samples[number].id
    same = [part for part in parts if part[0].samples[part[1]].id == id_]
    spans = spans_of((part[0], each) for part in same for each in answers_of(*part))
    return _view(row, number, answer, spans)


def _call_id(row: RowData, answer: Answer) -> str:
    return row.calls[answer.call].id if answer.call >= 0 else ""


def _which(row: RowData, answer: Answer, what: str) -> int | str:
    return answer.message if what == "message" else quoted_id(_call_id(row, answer))


def _view(
    row: RowData, sample: int, answer: Answer, spans: Mapping[tuple[int, int], Span]
) -> MessageView:
    tree = SegmentTree(row, sample)
    path = tree.path(answer.last)
    tokens = np.concatenate([row.tokens(tree.segments[at]) for at in path])
    begin, seen = begin_of(tree.resolved(path), answer, spans), tokens[tokens <= answer.last]
    return MessageView(row, row.samples[sample], answer.message, seen, begin)


def prompts_of(row: RowData, sample: int, *, within: int) -> Iterator[tuple[Answer, int]]:
    """Yield the answers that a sample trains, each with the length of its prompt in tokens.

    Answers whose last token is not among the first `within` tokens of the row are left out.
    """
    answers, tree = answers_of(row, sample), SegmentTree(row, sample)
    spans = spans_of((row, answer) for answer in answers)
    for answer in answers:
        if answer.last < within:
            yield answer, begin_of(tree.resolved(tree.path(answer.last)), answer, spans)


class Answer(NamedTuple):
    """The trained tokens of an answer, by their offsets in the row."""

    message: int
    call: int
    tokens: NDArray[np.int64]

    @property
    def last(self) -> int:
        """The offset of the last token."""
        return int(self.tokens[-1])


def answers_of(row: RowData, sample: int) -> list[Answer]:
    """Return the answers that a sample trains, sorted by message and call."""
    found: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    trained, segments = np.flatnonzero(row.targets != IGNORE), row.segments_of(sample)
    starts = np.array([each.start for each in segments], np.int64)
    ends = starts + [each.length for each in segments]
    borders = zip(*np.searchsorted(trained, [starts, ends]).tolist(), strict=True)
    for segment, (first, last) in zip(segments, borders, strict=True):
        if first < last:
            found.setdefault((segment.message, segment.call), []).append(trained[first:last])
    return [Answer(*which, np.concatenate(found[which])) for which in sorted(found)]


def spans_of(answers: Iterable[tuple[RowData, Answer]]) -> dict[tuple[int, int], Span]:
    """Return the first and the last position at which each (message, call) is trained."""
    spans: dict[tuple[int, int], Span] = {}
    for row, (message, call, tokens) in answers:
        positions = row.position_ids[tokens]
        first, last = int(positions.min()), int(positions.max())
        before = spans.get((message, call), (first, last))
        spans[message, call] = min(first, before[0]), max(last, before[1])
    return spans


def begin_of(path: Sequence[Segment], answer: Answer, spans: Mapping[tuple[int, int], Span]) -> int:
    """Return the position where an answer begins.

    This is its first trained position, unless the tokens before were written as part of another
    answer that continues there: then both begin where the other does.

    `path` are the segments of the view in the order of positions, with originals instead of
    copies; `spans` cover all known samples of the conversation.
    """
    own = answer.message, answer.call
    begin = spans[own][0]
    for segment in reversed(path):
        reaches = segment.position_first < begin <= segment.position_last + 1
        if not (reaches and segment.kind in WRITTEN):
            continue
        others = [
            first
            for (message, call), (first, last) in spans.items()
            if message == segment.message
            and segment.call in {call, -1}  # −1: repeated from another part
            and (message, call) != own
            and first < begin <= last
        ]
        begin = min(others, default=begin)
    return begin


def _named(row: RowData, sample: int) -> str:
    return f"{quoted_id(row.samples[sample].id)} in row {row.number}"


def view_text(view: MessageView, decode: Decode) -> tuple[str, str]:
    """Return the texts of prompt and completion; together they are the text of the view.

    A decoder may drop a space at the start of a text, so the completion is cut from the decoded
    view, unless that does not begin with the decoded prompt.
    """
    ids = view.row.input_ids[view.tokens]
    prompt, whole = decode(ids[: view.prompt_length]), decode(ids)
    if whole.startswith(prompt):
        return prompt, whole[len(prompt) :]
    return prompt, decode(ids[view.prompt_length :])


def view_json(view: MessageView, decode: Decode | None) -> dict[str, Any]:
    """Return a view as a JSON object; with texts only if `decode` is given."""
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


class SegmentTree:
    """The tree of a sample's segments, which are numbered in order.

    Attributes:
        segments: the segments of the sample.
        originals: number of a copy → number of the segment whose first token it copies.
    """

    def __init__(self, row: RowData, sample: int) -> None:
        self.segments = row.segments_of(sample)
        self.originals: dict[int, int] = {}
        self._parents: list[int] = []
        firsts: dict[tuple[int, int], int] = {}
        above: list[int] = []
        for at, each in enumerate(self.segments):
            while above and self.segments[above[-1]].visible_until <= each.start:
                above.pop()
            parent = above[-1] if above else -1
            self._parents.append(parent)
            above.append(at)
            original = firsts.setdefault((parent, int(row.input_ids[each.start])), at)
            if original != at and each.length == 1 and not each.trained:
                self.originals[at] = original

    def path(self, token: int) -> list[int]:
        """Return the segments that the token at an offset sees, root first, its own last."""
        at = bisect_right(self.segments, token, key=lambda each: each.start) - 1
        path = [at]
        while (at := self._parents[at]) >= 0:
            path.append(at)
        return path[::-1]

    def resolved(self, path: Sequence[int]) -> list[Segment]:
        """Return the segments of a path, with originals instead of copies."""
        return [self.segments[self.originals.get(at, at)] for at in path]
