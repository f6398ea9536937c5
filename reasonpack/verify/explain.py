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
NO_ID = -1
"""In place of the id of a token: the view ends here."""


class SampleAt(Struct, frozen=True):
    """The `number`-th sample of a row."""

    place: CheckedRow
    number: int

    @property
    def row(self) -> Row:
        """The row that holds the sample."""
        return self.place.row

    def tokens(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield for each token its place in the row, the path of its prefix, and its own path."""
        assert self.place.paths is not None
        start, stop = self.row.sample_start[self.number], self.row.sample_stop[self.number]
        above = {-1: b""}  # the last path of each depth: in pre-order, that of the parent
        for token in range(int(start), int(stop)):
            depth, path = int(self.row.position_ids[token]), self.place.paths.seen[token].tobytes()
            above[depth] = path
            yield token, above[depth - 1], path

    def finding(self, code: str, token: int, what: str) -> Finding:
        """Return a finding at a token, with the call that the token belongs to."""
        id_, message = self.row.sample_id[self.number], self.row.message_of(token)
        call = int(self.row.call_of_tokens[token])
        if call >= 0 and self.row.call_id is not None:
            what = f"of call {quoted(self.row.call_id[call], limit=200)}: {what}"
        message_ = message if message >= 0 else None  # logged ids belong to no message
        return Finding(code, self.place.shard, what, self.place.number, id_, message_, token)


Places = dict[bytes, tuple[SampleAt, int]]
"""The first token of samples that has a path; for the empty path, the first token of all."""


def explain(
    samples: Sequence[SampleAt], views: Sequence[TokenView], tokenizer: Tokenizer
) -> Finding:
    """Describe the first difference between the samples of a conversation and its views.

    Looked for in this order: a prefix that other tokens follow, a token that is trained another
    number of times, tokens that the samples repeat.
    """
    last = samples[-1]
    start = int(last.row.sample_start[last.number])
    places: Places = {}
    for sample in samples:
        places.setdefault(b"", (sample, int(sample.row.sample_start[sample.number])))
        for token, _, path in sample.tokens():
            places.setdefault(path, (sample, token))
    return (
        _other_token(samples, views, places, tokenizer)
        or _other_times(samples, views, places, tokenizer)
        or last.finding("RP309", start, "has tokens of its views more than once, expected once")
    )


def _other_token(
    samples: Sequence[SampleAt], views: Sequence[TokenView], places: Places, tokenizer: Tokenizer
) -> Finding | None:
    """Find a prefix that other tokens follow in samples than in views; None without one."""
    have: dict[bytes, dict[int, tuple[SampleAt, int]]] = {}
    for sample in samples:
        for token, prefix, _ in sample.tokens():
            id_ = int(sample.row.input_ids[token])
            have.setdefault(prefix, {}).setdefault(id_, (sample, token))
    want: dict[bytes, dict[int, tuple[TokenView, int]]] = {}
    for view in views:
        prefixes = zip((b"", *map(bytes, view.paths)), [*view.ids.tolist(), NO_ID], strict=True)
        for depth, (prefix, id_) in enumerate(prefixes):
            want.setdefault(prefix, {}).setdefault(id_, (view, depth))
    for prefix in (*have, *want):
        found, expected = have.get(prefix, {}), want[prefix]
        odd = [id_ for id_ in found if id_ not in expected]
        lacking = [id_ for id_ in expected if id_ not in found and id_ != NO_ID]
        if odd or lacking:
            sample, token = found[odd[0]] if odd else places[prefix]
            view, depth = next(iter(expected.values()))
            named = [
                f"{_token(tokenizer, id_)} as in the view of {expected[id_][0].named}"
                for id_ in lacking or expected
                if id_ != NO_ID
            ]
            shown = [_token(tokenizer, id_) for id_ in odd[:1] or found]
            before = view.ids[max(0, depth - BEFORE) : depth].tolist()
            what = f"after {_text(tokenizer, before)!r} " * bool(before)
            what += f"at position {depth}: {' and '.join(shown) or 'nothing'}"
            what += f", expected {' or '.join(named) or 'nothing'}"
            return sample.finding("RP309", token, what)
    return None


def _other_times(
    samples: Sequence[SampleAt], views: Sequence[TokenView], places: Places, tokenizer: Tokenizer
) -> Finding | None:
    """Find a token that samples train more or less often than views; None without one."""
    targets = Counter(path.tobytes() for view in views for path in view.targets)
    want = targets if kept_apart(views) else Counter({*targets})
    trained: dict[bytes, list[tuple[SampleAt, int]]] = {path: [] for path in places}
    for sample in samples:
        for token, _, path in sample.tokens():
            trained[path] += [(sample, token)] * bool(sample.row.target[token])
    for path, found in trained.items():
        if len(found) != want[path]:
            sample, token = (found or [places[path]])[-1]
            shown = _token(tokenizer, int(sample.row.input_ids[token]))
            what = f"{shown} is {_often(len(found))}, expected it {_often(want[path])}"
            return sample.finding("RP310", token, what)
    return None


def _often(times: int) -> str:
    return {0: "not trained", 1: "trained once"}.get(times, f"trained {times} times")


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
        for token, _, path in sample.tokens():
            if not row.target[token]:
                continue
            weight, word = float(weights[token]), values[token].tolist()
            near = [(float(np.float32(each)), other) for each, other in want.get(path, ())]
            if near and (weight, word) not in near:
                have = _values(weight, word, names)
                others = [_values(*one, names) for one in near]
                expected = max(others, key=lambda one: len(one.items() & have.items()))
                name = next(name for name in have if have[name] != expected[name])
                what = f"{name} {have[name]}, expected {expected[name]}"
                return sample.finding("RP316" if name == "weight" else "RP317", token, what)
        if lost := packed.keys() - logged.keys():
            what = f"call {names[min(lost)]}, expected none but those that were logged"
            return sample.finding("RP317", int(row.sample_start[sample.number]), what)
    return None


def _values(weight: float, words: Sequence[int], names: Mapping[int, str]) -> dict[str, object]:
    """Name call, weight, logprob and advantage of a token, for a message."""
    numbers = np.array(words[:2], np.uint32).view(np.float32).tolist()
    logprob, advantage = ("none" if np.isnan(each) else each for each in numbers)
    return {"call": names[words[2]], "weight": weight, "logprob": logprob, "advantage": advantage}


def _token(tokenizer: Tokenizer, id_: int) -> str:
    return f"{_text(tokenizer, [id_])!r} ({id_})"


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tokenizer.decode(ids)
    except TokenizerError:
        return "".join(f"<{id_}>" for id_ in ids)
