"""What views of one conversation begin with is worked on once, and nothing comes of it.

    Cutter          views that share  = each view cut and encoded for itself

It is compared with its slow way, and a planted fault is seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jinja2.sandbox
import numpy as np
import pytest
from encoded import LaidOut, lay_out_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.rows.kind import Kind
from reasonpack.templates import sandbox
from reasonpack.tokens.view_tokens import Cutter, Pieces
from reasonpack.views.spans import Span, common_beginning
from reasonpack.views.view import View
from tests.changed import replace

# --- What the sandbox reads quickly ----------------------------------------------------------

OBJECTS = [{"items": 1, "role": "user", "_x": 2, "": 3}, "text", {}, [], 7, {"first": {}}]


@pytest.mark.parametrize("name", ["items", "role", "_x", "", "startswith", "format", "__class__"])
@pytest.mark.parametrize("value", OBJECTS)
def test_attributes_are_as_the_long_way_reads_them(name: str, value: Any) -> None:
    quick = sandbox.environment("test", None)
    slow = jinja2.sandbox.SandboxedEnvironment.getattr
    found, expected = quick.getattr(value, name), slow(quick, value, name)
    assert type(found) is type(expected)
    if not isinstance(found, jinja2.Undefined) and not callable(found):
        assert found == expected


# --- Cutting, encoding, laying out ------------------------------------------------------------

TOKENS = re.compile(r"(\|\|\||\|)")


def cut(text: str) -> list[str]:
    return [piece for piece in TOKENS.split(text) if piece]


def encode(pieces: Sequence[str]) -> list[np.ndarray]:
    return [np.array([ord(c) for c in piece], np.int32) + 1000 * len(piece) for piece in pieces]


def laid_out(views: Sequence[View], reach: int | None) -> LaidOut:
    pieces = Pieces(cut, reach=reach)
    cutter = Cutter(pieces)
    waiting = [cutter.add(view) for view in views]
    pieces.encode(encode)
    return lay_out_tokens("x", pieces.look_up([waiting]))


def alike(a: LaidOut, b: LaidOut) -> bool:
    (one,), (two,) = a.samples, b.samples
    columns: list[Callable[[Any], Any]] = [
        lambda s: s.input_ids,
        lambda s: s.position_ids,
        lambda s: s.labels,
        lambda s: s.segments.start,
        lambda s: s.segments.visible_until,
        lambda s: s.segments.kind,
        lambda s: s.segments.message,
    ]
    counts = [replace(x.counts, samples=[]) for x in (a, b)]
    same = all(np.array_equal(column(one), column(two)) for column in columns)
    return same and counts[0] == counts[1]


@st.composite
def growing(draw: st.DrawFn) -> list[View]:
    """Prompts that begin as the one before, up to anywhere; distinct stop characters."""
    text = st.text(alphabet="ab|", max_size=8)
    views: list[View] = []
    prompt = "a"
    for number in range(draw(st.integers(1, 6))):
        kept = draw(st.integers(1, len(prompt)))
        prompt = prompt[:kept] + draw(text) + chr(0x200 + number)
        completion = chr(0x100 + number) + draw(text)
        whole = len(prompt) + len(completion)
        # Kinds follow from the text, as they do in real views.
        stops = [m.end() for m in re.finditer(r"a\|", prompt)]
        spans = [Span(stop, Kind(stop % 2), stop) for stop in stops]
        spans += [Span(len(prompt), Kind.CONTEXT, 0), Span(whole, Kind.R_OUT, 1)]
        views.append(View(number, prompt, completion, tuple(spans)))
    return views


@settings(max_examples=300)
@given(growing())
def test_sharing_changes_nothing(views: list[View]) -> None:
    assert alike(laid_out(views, reach=3), laid_out(views, reach=None))


def test_a_reach_that_is_too_short_is_seen() -> None:
    """The planted fault: a token across the cut is missed, and the comparison sees it."""
    spans = (Span(9, Kind.R_OUT, 1),)
    views = [View(1, "a||x", "b", spans), View(3, "a|||x", "c", spans)]
    assert alike(laid_out(views, reach=3), laid_out(views, reach=None))
    assert not alike(laid_out(views, reach=0), laid_out(views, reach=None))


def test_characters_that_are_not_shared_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: two prompts are said to begin alike for longer than they do."""
    views = [
        View(1, "a|a|b|", "x", (Span(7, Kind.R_OUT, 1),)),
        View(3, "a|a|c|d|", "y", (Span(9, Kind.R_OUT, 1),)),
    ]
    assert alike(laid_out(views, reach=3), laid_out(views, reach=None))
    more = "reasonpack.tokens.view_tokens.common_beginning"
    monkeypatch.setattr(more, lambda *texts: common_beginning(*texts) + 4)
    assert not alike(laid_out(views, reach=3), laid_out(views, reach=None))
