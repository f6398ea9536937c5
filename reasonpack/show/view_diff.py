"""Two views of a sample → where they part: what both begin with, and how each goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reasonpack.rows.encoded_views import common_prefix
from reasonpack.show.message_view import MessageView
from reasonpack.show.row import Decode
from reasonpack.show.text import marked
from reasonpack.wording import count

AROUND = 24
"""Tokens that are shown before the place where views part, and of each behind it."""


def parting(one: MessageView, other: MessageView) -> int:
    """Return how many tokens both views begin with."""
    return common_prefix(*(view.row.input_ids[view.tokens] for view in (one, other)))


def diff_lines(
    one: MessageView, other: MessageView, names: tuple[str, str], decode: Decode, *, colour: bool
) -> Iterator[str]:
    """Show where two views part."""
    common = parting(one, other)
    yield f"{names[0]} and {names[1]} have {count(common, 'token')} in common, the last of them:"
    yield from _lines(one, max(0, common - AROUND), common, decode, colour=colour)
    for view, name in zip((one, other), names, strict=True):
        rest = len(view.tokens) - common
        yield ""
        yield f"{name} goes on with {count(rest, 'token')}:" if rest else f"{name} ends there."
        if rest:
            yield from _lines(view, common, common + AROUND, decode, colour=colour)
            if rest > AROUND:
                yield "…"


def _lines(
    view: MessageView, start: int, stop: int, decode: Decode, *, colour: bool
) -> Iterator[str]:
    """Write some tokens of a view, what it trains marked."""
    border = min(max(view.prompt_length, start), stop)
    ids = view.row.input_ids[view.tokens]
    text = "".join(
        marked(decode(ids[first:last]), kind, trained=trained, colour=colour)
        for first, last, kind, trained in (
            (start, border, "h", False),
            (border, stop, "r_out", True),
        )
        if len(ids[first:last])
    )
    yield from (f"| {line}" if line else "|" for line in text.split("\n"))


def diff_json(
    one: MessageView, other: MessageView, names: tuple[str, str], decode: Decode | None
) -> dict[str, Any]:
    """Describe where two views part for a program; with texts only if there is a `decode`."""
    common = parting(one, other)
    described: dict[str, Any] = {"sample": one.sample.id, "common": common, "views": []}
    for view, name in zip((one, other), names, strict=True):
        ids = np.asarray(view.row.input_ids[view.tokens])[common:]
        rest = {"view": name, "prompt_length": view.prompt_length, "ids": ids.tolist()}
        described["views"].append({**rest, **({"text": decode(ids)} if decode else {})})
    return described
