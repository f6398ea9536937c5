r"""Samples and the views that they should hold → a finding at the first token that differs.

view     … <|im_start|> assistant \n  Four
sample   … <|im_start|> assistant \n  Five         found 'Five' (87), expected 'Four' (86)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct

from reasonpack.errors import TokenizerError
from reasonpack.records.strict_json import quoted
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.call_values import identities_in, identity_of, of_call, of_row
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.findings import Finding
from reasonpack.verify.rebuilt import kept_apart
from reasonpack.verify.row import Row
from reasonpack.verify.shards import CheckedRow

BEFORE = 8
"""How many tokens before the differing one are shown."""


class SampleAt(Struct, frozen=True):
    """The `number`-th sample of a row."""

    place: CheckedRow
    number: int

    @property
    def row(self) -> Row:
        """The row that holds the sample."""
        return self.place.row

    def tokens(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset in the row and path of each of its tokens."""
        assert self.place.paths is not None
        start, stop = self.row.sample_start[self.number], self.row.sample_stop[self.number]
        for token in range(int(start), int(stop)):
            yield token, self.place.paths.seen[token].tobytes()

    def finding(self, code: str, token: int, what: str) -> Finding:
        """Return a finding at a token, with the call that the token belongs to."""
        id_, message = self.row.sample_id[self.number], self.row.message_of(token)
        call = int(self.row.call_of_tokens[token])
        if call >= 0 and self.row.call_id is not None:
            what = f"of call {quoted(self.row.call_id[call], limit=200)}: {what}"
        message_ = message if message >= 0 else None  # logged ids belong to no message
        return Finding(code, self.place.shard, what, self.place.number, id_, message_, token)


def explain(
    samples: Sequence[SampleAt], views: Sequence[TokenView], tokenizer: Tokenizer
) -> Finding:
    """Describe the first difference between the samples of a conversation and its views.

    Looked for in this order: a token that no view has after the same prefix, a token of a view that
    is missing, a token trained in only one of both, tokens that the samples repeat.
    """
    have: dict[bytes, tuple[SampleAt, int]] = {}
    for sample in samples:
        for token, path in sample.tokens():
            have.setdefault(path, (sample, token))
    want = {path.tobytes() for view in views for path in view.paths}
    unknown = next((place for path, place in have.items() if path not in want), None)
    if unknown is not None:
        sample, token = unknown
        return sample.finding("RP309", token, _unknown(sample, token, views, have, tokenizer))
    for view in views:
        for depth, path in enumerate(view.paths):
            if path.tobytes() not in have:
                return _missing(samples, view, depth, have, tokenizer)
    trained = Counter(path.tobytes() for view in views for path in view.targets)
    wanted = trained if kept_apart(views) else Counter({*trained})
    if found := _untrained(samples, wanted, tokenizer):
        return found
    last = samples[-1]
    what = "has the tokens of its views more than once, expected once"
    return last.finding("RP309", int(last.row.sample_start[last.number]), what)


def _unknown(
    sample: SampleAt,
    token: int,
    views: Sequence[TokenView],
    have: dict[bytes, tuple[SampleAt, int]],
    tokenizer: Tokenizer,
) -> str:
    """Name the token at `token`, and those that the views have after the same prefix."""
    row, paths = sample.row, sample.place.paths
    assert paths is not None
    depth = int(row.position_ids[token])
    # In pre-order a token's parent is the last token before it with a depth one less.
    above = np.flatnonzero(row.position_ids[:token] == depth - 1)
    prefix = paths.seen[above[-1]].tobytes() if depth else b""
    after = [
        view
        for view in views
        if not depth or (len(view.ids) >= depth and view.paths[depth - 1].tobytes() == prefix)
    ]
    going_on = [view for view in after if len(view.ids) > depth]
    absent = [view for view in going_on if view.paths[depth].tobytes() not in have]
    expected = [_view_token(tokenizer, view, depth) for view in absent or going_on]
    found = _token(tokenizer, int(row.input_ids[token]))
    return _sentence(tokenizer, after[0], depth, found, expected)


def _missing(
    samples: Sequence[SampleAt],
    view: TokenView,
    depth: int,
    have: dict[bytes, tuple[SampleAt, int]],
    tokenizer: Tokenizer,
) -> Finding:
    """Return a finding for the first missing token of a view, placed at the token before it."""
    sample, token = samples[0], int(samples[0].row.sample_start[samples[0].number])
    found = "nothing"
    if depth:
        sample, token = have[view.paths[depth - 1].tobytes()]
    if token + 1 < len(sample.row.input_ids) and sample.row.position_ids[token + 1] == depth:
        found = _token(tokenizer, int(sample.row.input_ids[token + 1]))
    expected = [_view_token(tokenizer, view, depth)]
    what = _sentence(tokenizer, view, depth, found, expected)
    return sample.finding("RP309", token, what)


def _untrained(
    samples: Sequence[SampleAt], want: Counter[bytes], tokenizer: Tokenizer
) -> Finding | None:
    """Find a token that the samples train more or less often than the views; None without one."""
    times: Counter[bytes] = Counter()
    tokens = [(sample, token, path) for sample in samples for token, path in sample.tokens()]
    for sample, token, path in tokens:
        if sample.row.target[token]:
            times[path] += 1
            if times[path] > want[path]:
                shown = _token(tokenizer, int(sample.row.input_ids[token]))
                how = "not trained" if not want[path] else f"trained {_often(want[path])}"
                return sample.finding("RP310", token, f"{shown} is trained, expected it {how}")
    for sample, token, path in tokens:
        if times[path] < want[path]:
            shown = _token(tokenizer, int(sample.row.input_ids[token]))
            how = f"trained {_often(times[path])}" if times[path] else "not trained"
            expected = "trained" if want[path] == 1 else f"trained {_often(want[path])}"
            return sample.finding("RP310", token, f"{shown} is {how}, expected it {expected}")
    return None


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def other_value(samples: Sequence[SampleAt], views: Sequence[TokenView]) -> Finding | None:
    """Find a token whose weight, values or call differ from those of its views; None without one.

    The weights of `views` are per token, as `weighed` returns them.
    """
    is_apart = kept_apart(views)
    logged = {one.key: str(one) for one in (identity_of(view.call) for view in views if view.call)}
    names = {0: "", **logged}
    want: dict[bytes, list[tuple[float, list[int]]]] = {}
    for view in views:
        words = of_call(view.call, view.trained).tolist()
        for path, word in zip(map(bytes, view.targets), words, strict=True):
            there = want.setdefault(path, [])
            if is_apart or not there:
                there.append((view.weight, word))
            else:
                there[0] = there[0][0] + view.weight, there[0][1]
    for sample in samples:
        row, (weights, values) = sample.row, of_row(sample.row)
        packed = {one.key: str(one) for at, one in identities_in(row) if at == sample.number}
        names |= packed
        for token, path in sample.tokens():
            if not row.target[token]:
                continue
            weight, word = float(weights[token]), values[token].tolist()
            near = [(float(np.float32(each)), other) for each, other in want.get(path, ())]
            if near and (weight, word) not in near:
                have = _values(weight, word, names)
                others = [_values(*one, names) for one in near]
                expected = max(others, key=lambda one: len(one.items() & have.items()))
                return _differing(sample, token, have, expected)
        if lost := packed.keys() - logged.keys():
            what = f"call {names[min(lost)]}, expected none but those that were logged"
            return sample.finding("RP317", int(row.sample_start[sample.number]), what)
    return None


def _differing(
    sample: SampleAt, token: int, found: dict[str, object], expected: dict[str, object]
) -> Finding:
    name = next(name for name in found if found[name] != expected[name])
    what = f"{name} {found[name]}, expected {expected[name]}"
    return sample.finding("RP316" if name == "weight" else "RP317", token, what)


def _values(weight: float, words: Sequence[int], names: Mapping[int, str]) -> dict[str, object]:
    """Name call, weight, logprob and advantage of a token, for a message."""
    numbers = np.array(words[:2], np.uint32).view(np.float32).tolist()
    logprob, advantage = ("none" if np.isnan(each) else each for each in numbers)
    return {"call": names[words[2]], "weight": weight, "logprob": logprob, "advantage": advantage}


def _sentence(
    tokenizer: Tokenizer, view: TokenView, depth: int, found: str, expected: Sequence[str]
) -> str:
    before = view.ids[max(0, depth - BEFORE) : depth].tolist()
    context = f"after {_text(tokenizer, before)!r} " if before else ""
    wanted = " or ".join(dict.fromkeys(expected)) or "nothing"
    return f"{context}at position {depth}: {found}, expected {wanted}"


def _view_token(tokenizer: Tokenizer, view: TokenView, depth: int) -> str:
    return f"{_token(tokenizer, int(view.ids[depth]))} as in the view of {view.named}"


def _token(tokenizer: Tokenizer, id_: int) -> str:
    return f"{_text(tokenizer, [id_])!r} ({id_})"


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tokenizer.decode(ids)
    except TokenizerError:
        return "".join(f"<{id_}>" for id_ in ids)
