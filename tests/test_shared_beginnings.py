"""What views of one conversation begin with is worked on once, and nothing comes of it.

    renderings()    the short way     = each view rendered from its start
    add_all()       views that share  = each view cut and encoded for itself

Each of the two is compared with its slow way, and a planted fault is seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2.sandbox
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack import history, sandbox
from reasonpack.encoding import Pieces
from reasonpack.history import render_whole, renderings
from reasonpack.layout import LaidOut, lay_out
from reasonpack.spans import Kind, Span
from reasonpack.views import View

Chat = list[dict[str, Any]]

# --- Rendering ------------------------------------------------------------------------------

STRIPS = """{% set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}<{{ m.role }}>
{%- if m.role == 'assistant' and loop.index0 > ns.last %}[{{ m.reasoning }}]{% endif %}
{{- m.content }}</>{% endfor %}{% if prompt %}<assistant>{% endif %}"""
KEEPS = """{% for m in messages %}<{{ m.role }}>{% if m.reasoning %}[{{ m.reasoning }}]{% endif %}
{{- m.content }}</>{% endfor %}{% if prompt %}<assistant>{% endif %}"""
SYSTEM_LAST = """{% for m in messages %}<{{ m.role }}>{% if loop.last and prompt %}!{% endif %}
{{- m.content }}</>{% endfor %}{% if prompt %}<assistant>{% endif %}"""
COUNTS = """{% for m in messages %}<{{ m.role }} {{ loop.index }}>{{ m.content }}</>{% endfor %}"""
TELLS_LENGTH = """{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}"""
NUMBERED_LATE = """{% for m in messages %}<{{ m.role }}>{{ m.content }}</>
{%- if loop.index0 == 20 %}!{% endif %}{% endfor %}{% if prompt %}<assistant>{% endif %}"""


def renderer(source: str) -> tuple[history.Render, list[int]]:
    """A template, and how many messages it was shown in each call."""
    template = sandbox.environment("test", None).from_string(source)
    shown: list[int] = []

    def render(messages: Sequence[Mapping[str, Any]], variables: Any, prompt: bool) -> str:
        shown.append(len(messages))
        return template.render(messages=messages, prompt=prompt, **variables)

    return render, shown


def chat(shape: str) -> Chat:
    """`s`ystem, `u`ser, `a`ssistant and `t`ool messages, no two the same."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [
        {"role": names[letter], "content": f"c{i}", "reasoning": f"r{i}" if letter == "a" else ""}
        for i, letter in enumerate(shape)
    ]


def both(source: str, messages: Chat, variables: Sequence[Any] = ({},)) -> tuple[list[Any], ...]:
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    asked = [(index, variables[n % len(variables)]) for n, index in enumerate(answers)]
    render, _ = renderer(source)
    short = list(renderings(render, messages, asked))
    whole = [render_whole(render, messages, index, values) for index, values in asked]
    return [(r.prompt, r.full) for r in short], [(r.prompt, r.full) for r in whole]


shapes = st.lists(
    st.sampled_from(["ua", "ua", "uata", "uatata", "uttatata", "uatatatatata", "u", "a"]),
    max_size=14,
).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["", "s", "ss"]), shapes, st.sampled_from([STRIPS, KEEPS, SYSTEM_LAST]))
def test_the_short_way_equals_the_whole(lead: str, shape: str, source: str) -> None:
    short, whole = both(source, chat(lead + shape))
    assert short == whole


@pytest.mark.parametrize("source", [COUNTS, TELLS_LENGTH, NUMBERED_LATE])
@pytest.mark.parametrize("shape", ["ua" * 20, "s" + "uatata" * 8, "u" + "at" * 30 + "a"])
def test_templates_that_count_are_found_out(source: str, shape: str) -> None:
    short, whole = both(source, chat(shape))
    assert short == whole


def test_without_the_check_the_count_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: were the check not made, the case above would fail."""
    monkeypatch.setattr(history, "_is_same", lambda guess, whole: True)
    short, whole = both(NUMBERED_LATE, chat("ua" * 20))
    assert short != whole


def test_variables_that_change_are_kept_apart() -> None:
    source = KEEPS + "{{ mood }}"
    short, whole = both(source, chat("ua" * 20), [{"mood": "x"}, {"mood": "y"}])
    assert short == whole


@pytest.mark.parametrize("shape", ["ua" * 200, "u" + "at" * 199 + "a"])
def test_few_messages_are_shown(shape: str) -> None:
    messages = chat(shape)
    asked = [(i, {}) for i, message in enumerate(messages) if message["role"] == "assistant"]
    render, shown = renderer(STRIPS)
    assert len(list(renderings(render, messages, asked))) == 200
    assert sum(shown) < 15 * len(messages)  # each from its start: 200 times


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
    waiting = pieces.add_all(views)
    pieces.encode(encode)
    return lay_out("x", pieces.look_up_all(waiting))


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
    counts = [(x.views, x.longest_view, x.npass_tokens, x.naive_tokens) for x in (a, b)]
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


@settings(max_examples=300, deadline=None)
@given(growing())
def test_sharing_changes_nothing(views: list[View]) -> None:
    assert alike(laid_out(views, reach=3), laid_out(views, reach=None))


def test_a_reach_that_is_too_short_is_seen() -> None:
    """The planted fault: a token across the cut is missed, and the comparison sees it."""
    spans = (Span(9, Kind.R_OUT, 1),)
    views = [View(1, "a||x", "b", spans), View(3, "a|||x", "c", spans)]
    assert alike(laid_out(views, reach=3), laid_out(views, reach=None))
    assert not alike(laid_out(views, reach=0), laid_out(views, reach=None))
