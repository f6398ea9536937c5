"""Pieces give the tokens of the texts, and each token the span that it ends in.

The toy tokenizer cuts at `|`, matches its vocabulary greedily, and drops `_`. Its tokens know where
in the text they stand, which is what the slow way goes by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reasonpack.rows.kind import Kind
from reasonpack.tokens.view_tokens import Cutter, CutView, Pieces
from reasonpack.views.spans import Span
from reasonpack.views.view import View

VOCABULARY = ["a", "b", "c", "|", "ab", "bc", "aa", "abc", "bca", "aab", "cccc"]
NUMBERS = {token: number for number, token in enumerate(VOCABULARY)}


def cut(text: str) -> list[str]:
    """Make each `|` a piece of its own.

    >>> cut("a||bc")
    ['a', '|', '|', 'bc']
    """
    return [piece for piece in text.replace("|", "\0|\0").split("\0") if piece]


def tokens(text: str) -> list[tuple[int, int]]:
    """Give the number of each token, and where in the text it ends."""
    found, at = [], 0
    while at < len(text):
        if text[at] == "_":
            at += 1
            continue
        token = max((t for t in VOCABULARY if text.startswith(t, at)), key=len)
        at += len(token)
        found.append((NUMBERS[token], at))
    return found


def encode_batch(texts: Sequence[str]) -> list[np.ndarray]:
    return [np.array([number for number, _ in tokens(text)], np.int32) for text in texts]


class Found(NamedTuple):
    """A view in tokens, which shares nothing with another: number, kind and message of each."""

    tokens: list[int]
    kinds: list[int]
    messages: list[int]
    prompt_length: int


def found_views(pieces: Pieces, waiting: Sequence[CutView]) -> list[Found]:
    views = pieces.look_up([[view] for view in waiting])
    sizes = np.diff(views.run_start, append=len(views.tokens))
    kinds, messages = np.repeat(views.run_kind, sizes), np.repeat(views.run_message, sizes)
    assert (sizes > 0).all(), "an empty run"
    found = []
    for origin, end in zip(views.origin, views.end, strict=True):
        own = slice(origin, origin + end)
        first = end - int(views.trained[own].sum())
        assert views.trained[own].tolist() == [False] * first + [True] * (end - first)
        columns = (column[own].tolist() for column in (views.tokens, kinds, messages))
        found.append(Found(*columns, first))
    return found


def encode(views: Sequence[View]) -> list[Found]:
    pieces = Pieces(cut)
    waiting = [Cutter(pieces).add(view) for view in views]
    pieces.encode(encode_batch)
    return found_views(pieces, waiting)


def slowly(view: View) -> list[tuple[int, int, int]]:
    """Number, kind and message of each token: a token counts to the span that its end lies in."""
    stops = [span.stop for span in view.spans]
    found, at = [], 0
    for piece in cut(view.prompt) + cut(view.completion):
        for number, end in tokens(piece):
            span = view.spans[bisect_left(stops, at + end)]
            found.append((number, int(span.kind), span.message))
        at += len(piece)
    return found


texts = st.text(alphabet="abc|_", max_size=12)


@st.composite
def views(draw: st.DrawFn) -> View:
    prompt, completion = draw(texts), draw(texts)
    total = len(prompt) + len(completion)
    stops = [*sorted(draw(st.lists(st.integers(0, total), max_size=6))), total]
    spans = tuple(
        Span(stop, draw(st.sampled_from(Kind)), draw(st.integers(-1, 3))) for stop in stops
    )
    return View(0, prompt, completion, spans)


@settings(max_examples=500)
@given(st.lists(views(), min_size=1, max_size=4))
@example([View(0, "", "", (Span(0, Kind.CONTEXT, 0),))])
def test_equals_the_slow_way(made: list[View]) -> None:
    for view, found in zip(made, encode(made), strict=True):
        assert [*zip(*found[:3], strict=True)] == slowly(view)
        prompt = [number for piece in cut(view.prompt) for number, _ in tokens(piece)]
        assert found.prompt_length == len(prompt)


def encode_by_parity(batch: Sequence[str]) -> list[np.ndarray]:
    """Pairs of characters in a text of even length, single ones in another.

    As in real tokenizers, the tokens of a text need not begin with those of its beginning.
    """
    steps = [2 - len(text) % 2 for text in batch]
    return [
        np.arange(0, len(text), step, dtype=np.int32) * 10 + step
        for text, step in zip(batch, steps, strict=True)
    ]


@given(views())
def test_kinds_tile_the_tokens_whatever_the_tokenizer_does(view: View) -> None:
    pieces = Pieces(cut)
    waiting = Cutter(pieces).add(view)
    pieces.encode(encode_by_parity)
    (found,) = found_views(pieces, [waiting])
    known = [(int(span.kind), span.message) for span in view.spans]
    order = [known.index(pair) for pair in zip(found.kinds, found.messages, strict=True)]
    assert len(set(known)) < len(known) or order == sorted(order)


def test_borders_never_go_back() -> None:
    # The tokens of the text before each border agree on 0, 2, 0, 3 of those of the whole.
    spans = tuple(Span(stop, Kind.CONTEXT, stop) for stop in (1, 4, 5, 6))
    pieces = Pieces(cut)
    waiting = Cutter(pieces).add(View(0, "aaaaaa", "", spans))
    pieces.encode(encode_by_parity)
    (found,) = found_views(pieces, [waiting])
    assert found.messages == [4, 4, 6]


def one(prompt: str, completion: str, *spans: tuple[int, Kind, int]) -> Found:
    (found,) = encode([View(0, prompt, completion, tuple(Span(*span) for span in spans))])
    return found


def test_a_token_before_a_border_counts_to_it_however_the_text_up_to_there_is_encoded() -> None:
    """Alone it ends in `}}`, of which the whole has both apart, the second with the line break."""
    tokens = ["x", " }", "}}", " ", "}", "}\n", "y"]
    texts = {"x }}": [0, 3, 2], "x }}\ny": [0, 1, 5, 6]}
    for decode, expected in ((None, [1, 3]), (lambda ids: "".join(tokens[n] for n in ids), [2, 2])):
        pieces = Pieces(lambda text: [text] if text else [], decode=decode)
        spans = (Span(4, Kind.CONTEXT, 0), Span(6, Kind.R_IN, 1))
        cut_view = Cutter(pieces).add(View(0, "x }}\ny", "", spans))
        pieces.encode(lambda batch: [np.array(texts[text], np.int32) for text in batch])
        (found,) = found_views(pieces, [cut_view])
        counts = [found.kinds.count(0), found.kinds.count(2)]
        assert counts == expected, (decode, found)


def test_a_token_over_a_border_counts_to_what_follows() -> None:
    # a·abc over the border after "aa": "aab" is one token.
    found = one("aabc", "", (2, Kind.CONTEXT, 0), (4, Kind.REASONING, 1))
    assert found.tokens == [NUMBERS["aab"], NUMBERS["c"]]
    assert found.kinds == [Kind.REASONING, Kind.REASONING]


def test_a_border_between_tokens_inside_a_piece() -> None:
    found = one("ca", "", (1, Kind.CONTEXT, 0), (2, Kind.R_IN, 1))
    assert found.kinds == [Kind.CONTEXT, Kind.R_IN]


def test_a_token_over_two_borders_counts_to_the_last() -> None:
    found = one("abc", "", (1, Kind.CONTEXT, 0), (2, Kind.R_IN, 1), (3, Kind.REASONING, 2))
    assert (found.tokens, found.messages) == ([NUMBERS["abc"]], [2])


def test_prompt_and_completion_never_merge() -> None:
    found = one("a", "b", (1, Kind.CONTEXT, 0), (2, Kind.R_OUT, 1))
    assert found.tokens == [NUMBERS["a"], NUMBERS["b"]]
    assert (found.prompt_length, found.messages) == (1, [0, 1])


def test_an_empty_span_has_no_token() -> None:
    found = one("a|b", "", (1, Kind.CONTEXT, 0), (1, Kind.R_IN, 7), (3, Kind.CONTEXT, 1))
    assert found.messages == [0, 1, 1]


class Counting:
    """Encode, and note what was asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, batch: Sequence[str]) -> list[np.ndarray]:
        self.seen.extend(batch)
        return encode_batch(batch)


def test_each_text_is_encoded_once() -> None:
    pieces, counting = Pieces(cut), Counting()
    spans = (Span(2, Kind.CONTEXT, 0), Span(5, Kind.R_OUT, 1))
    first = Cutter(pieces).add(View(1, "ab|", "ab", spans))
    Cutter(pieces).add(View(1, "ab|", "ab", spans))
    pieces.encode(counting)
    assert sorted(counting.seen) == ["ab", "|"]
    later = Cutter(pieces).add(
        View(1, "c|", "ab|", (Span(1, Kind.CONTEXT, 0), Span(5, Kind.R_OUT, 1)))
    )
    pieces.encode(counting)
    assert sorted(counting.seen) == ["ab", "c", "|"]
    ab, c, bar = NUMBERS["ab"], NUMBERS["c"], NUMBERS["|"]
    assert found_views(pieces, [first])[0].tokens == [ab, bar, ab]
    assert found_views(pieces, [later])[0].tokens == [c, bar, ab, bar]


def test_the_text_before_a_border_is_encoded_too() -> None:
    pieces, counting = Pieces(cut), Counting()
    Cutter(pieces).add(View(1, "abc", "", (Span(2, Kind.CONTEXT, 0), Span(3, Kind.CONTEXT, 1))))
    pieces.encode(counting)
    assert sorted(counting.seen) == ["ab", "abc"]


def test_looking_up_what_is_not_encoded_fails() -> None:
    pieces = Pieces(cut)
    waiting = Cutter(pieces).add(View(1, "a", "b", (Span(2, Kind.CONTEXT, 0),)))
    with pytest.raises(AssertionError, match="encode"):
        pieces.look_up([[waiting]])


def test_a_batch_of_another_size_is_no_result() -> None:
    pieces = Pieces(cut)
    Cutter(pieces).add(View(1, "a", "b", (Span(2, Kind.CONTEXT, 0),)))
    with pytest.raises(ValueError, match="ids of 1 pieces, expected those of 2"):
        pieces.encode(lambda batch: encode_batch(batch)[1:])


def test_the_slow_way_tells_borders_apart() -> None:
    """One off by a character is seen, or the comparison above would say nothing."""
    view = View(0, "cc|a", "b", (Span(2, Kind.CONTEXT, 0), Span(5, Kind.R_OUT, 1)))
    off = View(0, "cc|a", "b", (Span(1, Kind.CONTEXT, 0), Span(5, Kind.R_OUT, 1)))
    assert slowly(view) != slowly(off)
