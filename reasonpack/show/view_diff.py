"""Two views of a sample → where they differ: their common start, and how each continues."""

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
"""How many tokens are shown before the first difference, and of each view after it."""


def common_tokens(one: MessageView, other: MessageView) -> int:
    """Return how many leading tokens the two views share."""
    return common_prefix(*(view.row.input_ids[view.tokens] for view in (one, other)))


def diff_lines(
    one: MessageView, other: MessageView, names: tuple[str, str], decode: Decode, *, colour: bool
) -> Iterator[str]:
    """Yield lines that show where two views differ."""
    common = common_tokens(one, other)
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
    """Yield the text of the tokens from `start` to `stop`, with trained text marked."""
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
    """Return where two views differ as a JSON object; with texts only if `decode` is given."""
    common = common_tokens(one, other)
    described: dict[str, Any] = {"sample": one.sample.id, "common": common, "views": []}
    for view, name in zip((one, other), names, strict=True):
        ids = np.asarray(view.row.input_ids[view.tokens])[common:]
        rest = {"view": name, "prompt_length": view.prompt_length, "ids": ids.tolist()}
        described["views"].append({**rest, **({"text": decode(ids)} if decode else {})})
    return described
