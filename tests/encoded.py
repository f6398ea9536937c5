"""Views in tokens, said token by token, and what becomes of the views of one conversation.

encoded_view([7, 8], [9], kinds=[0, 0, 3], messages=[0, 1, 1])  ── lay_out ──▶  samples, counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from reasonpack.choices import Layout
from reasonpack.rows import encoded_views as encoded
from reasonpack.rows import forest
from reasonpack.rows.encoded_views import EncodedViews, Run
from reasonpack.rows.sample import Sample, write
from reasonpack.rows.split import divide


class EncodedView(NamedTuple):
    """A view, with the kind and the message of each of its tokens."""

    prompt: list[int]
    completion: list[int]
    kinds: list[int]
    messages: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.completion


def encoded_view(
    prompt: Sequence[int],
    completion: Sequence[int],
    *,
    kinds: Sequence[Any] | None = None,
    messages: Sequence[int] | None = None,
) -> EncodedView:
    """Make a view; it is all of kind 0 and message 0 where nothing else is said."""
    length = len(prompt) + len(completion)
    each = [list(map(int, values or [0] * length)) for values in (kinds, messages)]
    assert {len(values) for values in each} == {length}
    return EncodedView(list(prompt), list(completion), *each)


def encoded_views(
    conversations: Sequence[Sequence[EncodedView]],
    shared: Sequence[int] | None = None,
    *,
    extra: Mapping[str, Sequence[float]] | None = None,
) -> EncodedViews:
    """Put views together that share so many tokens with the view before them, or none.

    Args:
        conversations: their views.
        shared: how many tokens each has in common with the one before.
        extra: values for the completions of the views, by optional column; one for each view.
    """
    views = [view for conversation in conversations for view in conversation]
    shared = shared or [0] * len(views)
    runs: list[Run] = []
    tokens: list[int] = []
    values: dict[str, list[float]] = {name: [] for name in extra or {}}
    for number, (view, left_out) in enumerate(zip(views, shared, strict=True)):
        flags = [False] * len(view.prompt) + [True] * len(view.completion)
        each = [*zip(view.kinds, view.messages, flags, strict=True)][left_out:]
        runs += [(stop, *what) for stop, what in enumerate(each, len(runs) + 1)]
        tokens += view.tokens[left_out:]
        for name, each_view in (extra or {}).items():
            values[name] += ([9.0] * len(view.prompt) + [each_view[number]] * len(view.completion))[
                left_out:
            ]
    array = np.array(tokens, np.int32)
    array.setflags(write=False)  # laying out must not write into its input
    ends = [len(view.tokens) for view in views]
    bounds = [0, *accumulate(map(len, conversations))]
    return encoded.encoded_views(
        array,
        runs,
        shared=shared,
        end=ends,
        bounds=bounds,
        extra={name: np.array(each) for name, each in values.items()},
    )


class LaidOut(NamedTuple):
    """A conversation with its samples, and how it was laid out."""

    samples: list[Sample]
    counts: forest.LaidOut


def lay_out_tokens(
    id_: str, views: EncodedViews, *, layout: Layout = "onepass", max_length: int | None = None
) -> LaidOut:
    """Lay out and write the only conversation, divided if it is longer than a row."""
    planted = forest.plant(views)
    counts = forest.lay_out(planted, layout=layout)
    if max_length is not None and counts.longest_sample > max_length:
        counts = divide(planted, 0, counts, max_length)
    return LaidOut(write(planted, [(id_, counts)]), counts)


def lay_out(
    id_: str,
    views: Sequence[EncodedView],
    *,
    layout: Layout = "onepass",
    max_length: int | None = None,
) -> LaidOut:
    """Lay out and write one conversation, divided if it is longer than a row."""
    return lay_out_tokens(id_, encoded_views([views]), layout=layout, max_length=max_length)
