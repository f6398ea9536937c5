r"""Samples that are not their views → the first token at which they part.

view     … <|im_start|> assistant \n  Four
sample   … <|im_start|> assistant \n  Five         found 'Five' (87), expected 'Four' (86)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reasonpack.errors import TokenizerError
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.findings import Finding
from reasonpack.verify.rows import Row
from reasonpack.verify.shards import CheckedRow
from reasonpack.verify.source import TokenView

__all__ = ["Sample", "explain"]

BEFORE = 8
"""How many tokens of context are shown."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The `number`-th sample of a row."""

    place: CheckedRow
    number: int

    @property
    def row(self) -> Row:
        """The row that it is in."""
        return self.place.row

    def tokens(self) -> Iterator[tuple[int, bytes]]:
        """Yield its tokens, as offsets in the row, with their paths."""
        assert self.place.paths is not None
        start, stop = self.row.sample_start[self.number], self.row.sample_stop[self.number]
        for token in range(int(start), int(stop)):
            yield token, self.place.paths.seen[token].tobytes()

    def finding(self, code: str, token: int, what: str) -> Finding:
        """Say what is wrong at a token."""
        id_, message = self.row.sample_id[self.number], self.row.message_of(token)
        return Finding(code, self.place.shard, what, self.place.number, id_, message, token)


def explain(samples: Sequence[Sample], views: Sequence[TokenView], tokenizer: Tokenizer) -> Finding:
    """Describe the first difference between the samples of a conversation and its views.

    In this order: a token that no view has there, a token of a view that is not there,
    tokens that are there twice, one that is trained in one and not in the other.
    """
    have: dict[bytes, tuple[Sample, int]] = {}
    for sample in samples:
        for token, path in sample.tokens():
            have.setdefault(path, (sample, token))
    want = {path.tobytes() for view in views for path in view.paths.seen}
    unknown = next((place for path, place in have.items() if path not in want), None)
    if unknown is not None:
        sample, token = unknown
        return sample.finding("RP309", token, _unknown(sample, token, views, have, tokenizer))
    for view in views:
        for depth, path in enumerate(view.paths.seen):
            if path.tobytes() not in have:
                return _missing(samples, view, depth, have, tokenizer)
    return _untrained(samples, views, tokenizer) or samples[-1].finding(
        "RP309",
        int(samples[-1].row.sample_start[samples[-1].number]),
        "has the tokens of its views more than once, expected once",
    )


def _unknown(
    sample: Sample,
    token: int,
    views: Sequence[TokenView],
    have: dict[bytes, tuple[Sample, int]],
    tokenizer: Tokenizer,
) -> str:
    """Say what stands at `token`, and what the views have after the same prefix."""
    row, paths = sample.row, sample.place.paths
    assert paths is not None
    depth = int(row.position_ids[token])
    # In pre-order a token's parent is the last one before it that is one less deep.
    above = np.flatnonzero(row.position_ids[:token] == depth - 1)
    prefix = paths.seen[above[-1]].tobytes() if depth else b""
    after = [
        view
        for view in views
        if not depth or (len(view.ids) >= depth and view.paths.seen[depth - 1].tobytes() == prefix)
    ]
    going_on = [view for view in after if len(view.ids) > depth]
    absent = [view for view in going_on if view.paths.seen[depth].tobytes() not in have]
    expected = [_view_token(tokenizer, view, depth) for view in absent or going_on]
    found = _token(tokenizer, int(row.input_ids[token]))
    return _sentence(tokenizer, after[0], depth, found, expected)


def _missing(
    samples: Sequence[Sample],
    view: TokenView,
    depth: int,
    have: dict[bytes, tuple[Sample, int]],
    tokenizer: Tokenizer,
) -> Finding:
    """Say what should follow the last token of a view that is there."""
    sample, token = samples[0], int(samples[0].row.sample_start[samples[0].number])
    found = "nothing"
    if depth:
        sample, token = have[view.paths.seen[depth - 1].tobytes()]
    if token + 1 < len(sample.row.input_ids) and sample.row.position_ids[token + 1] == depth:
        found = _token(tokenizer, int(sample.row.input_ids[token + 1]))
    expected = [_view_token(tokenizer, view, depth)]
    what = _sentence(tokenizer, view, depth, found, expected)
    return sample.finding("RP309", token, what)


def _untrained(
    samples: Sequence[Sample], views: Sequence[TokenView], tokenizer: Tokenizer
) -> Finding | None:
    """Find a token that is trained in a sample or in a view only, or in two samples."""
    want = {path.tobytes() for view in views for path in view.paths.seen[view.prompt_length :]}
    times: Counter[bytes] = Counter()
    tokens = [(sample, token, path) for sample in samples for token, path in sample.tokens()]
    for sample, token, path in tokens:
        if sample.row.trained[token]:
            times[path] += 1
            if path not in want or times[path] > 1:
                shown = _token(tokenizer, int(sample.row.input_ids[token]))
                how = "not trained" if path not in want else "trained once"
                return sample.finding("RP310", token, f"{shown} is trained, expected it {how}")
    for sample, token, path in tokens:
        if path in want and not times[path]:
            shown = _token(tokenizer, int(sample.row.input_ids[token]))
            return sample.finding("RP310", token, f"{shown} is not trained, expected it trained")
    return None


def _sentence(
    tokenizer: Tokenizer, view: TokenView, depth: int, found: str, expected: Sequence[str]
) -> str:
    before = view.ids[max(0, depth - BEFORE) : depth].tolist()
    context = f"after {_text(tokenizer, before)!r} " if before else ""
    wanted = " or ".join(dict.fromkeys(expected)) or "nothing"
    return f"{context}at position {depth}: {found}, expected {wanted}"


def _view_token(tokenizer: Tokenizer, view: TokenView, depth: int) -> str:
    return f"{_token(tokenizer, int(view.ids[depth]))} as in the view of message {view.message}"


def _token(tokenizer: Tokenizer, id_: int) -> str:
    return f"{_text(tokenizer, [id_])!r} ({id_})"


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tokenizer.decode(ids)
    except TokenizerError:
        return "".join(f"<{id_}>" for id_ in ids)
