"""A conversation that is planted again from its samples is laid out as it was from its views.

    views ── within a limit ──▶ samples ── views_of ──▶ views ── within another ──▶ samples ─┐
    views ───────────────────────────────────────────────────── within another ──▶ samples ─┴─ equal

Where the samples do not tell the views, that has to show: they are refused, or fewer than were
counted, or do not give the samples that they were found in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from encoded import EncodedView, encoded_view, encoded_views
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from made_views import KEPT, STRIPPED, view_lists

from reasonpack.choices import Layout
from reasonpack.rows.encoded_views import EncodedViews, without
from reasonpack.rows.forest import LaidOut, lay_out, plant
from reasonpack.rows.replant import LostViewsError, ends_of, views_of
from reasonpack.rows.sample import Calls, Sample, write
from reasonpack.rows.split import divide
from tests.changed import replace

LAYOUTS = st.sampled_from(("onepass", "npass"))
LIMITS = st.integers(1, 30)


def told(views: Sequence[EncodedView]) -> list[EncodedView]:
    """Say of each completion that it is a message of its own, reasoning and response by turns."""
    made = []
    for number, view in enumerate(views):
        prompt, completion = len(view.prompt), len(view.completion)
        kinds = [0] * prompt + [1 + 2 * (at % 2) for at in range(completion)]
        messages = [-1] * prompt + [number] * completion
        made.append(encoded_view(view.prompt, view.completion, kinds=kinds, messages=messages))
    return made


def within(views: EncodedViews, layout: Layout, limit: int) -> tuple[LaidOut, list[Sample]] | None:
    """Lay out what fits, as a run does; None if nothing does."""
    left = {view for view, end in enumerate(views.end) if end > limit}
    if len(left) == len(views.end):
        return None
    forest = plant(without(views, left))
    made = lay_out(forest, layout=layout)
    if made.longest_sample > limit and layout == "onepass":
        made = divide(forest, 0, made, limit)
    return made, write(forest, [("x", made)])


def content(samples: Sequence[Sample]) -> list[tuple[list[float], ...]]:
    """Write samples as lists."""
    return [
        tuple(
            np.asarray(column).tolist()
            for column in (
                *(each.input_ids, each.position_ids, each.labels, each.segments.start),
                *(each.segments.visible_until, each.segments.kind, each.segments.message),
                *(each.extra[name] for name in sorted(each.extra)),
            )
        )
        for each in samples
    ]


def outcome(views: list[EncodedView], layout: Layout, old: int, new: int) -> str:
    """Lay out within both limits, from the views and from the samples of the old; compare."""
    weights = {"loss_weights": [1.0 + number / 7 for number in range(len(views))]}
    encoded = encoded_views([views], extra=weights)
    before = within(encoded, layout, old)
    assume(before is not None)
    assert before is not None
    was, samples = before
    try:
        found, messages = views_of(samples)
        ends = ends_of(samples)
    except LostViewsError:
        return "refused"
    if (len(ends), sum(ends.values())) != (was.views, was.naive_tokens):
        return "fewer"
    assert (messages, found.end) == (sorted(ends), [ends[each] for each in messages])
    back = within(found, layout, old)
    if back is None or content(back[1]) != content(samples):
        return "other samples"
    here, there = within(found, layout, new), within(encoded, layout, new)
    if here is None or there is None:
        assert here is there
        return "nothing fits"
    assert content(here[1]) == content(there[1])
    for name in ("views", "longest_view", "naive_tokens", "npass_tokens", "extra_tokens"):
        assert getattr(here[0], name) == getattr(there[0], name)
    return "divided" if here[0].extra_samples else "equal"


def check_most(outcomes: Counter[str]) -> None:
    """See that what is refused or cannot be told is little; else nothing would be proved."""
    told = outcomes["equal"] + outcomes["divided"]
    assert told > outcomes["refused"] + outcomes["fewer"] + outcomes["other samples"]
    assert outcomes["divided"] > 5


@pytest.mark.long
def test_it_is_laid_out_as_from_its_views() -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(view_lists(), LAYOUTS, LIMITS, LIMITS)
    @example(STRIPPED, "onepass", 12, 9)
    @example(KEPT, "npass", 6, 4)
    def each(views: list[EncodedView], layout: Layout, one: int, two: int) -> None:
        views = told([view for view in views if view.prompt and view.completion])
        assume(views)
        outcomes[outcome(views, layout, max(one, two), min(one, two))] += 1

    each()
    check_most(outcomes)


@pytest.mark.long
def test_what_was_divided_is_joined_where_nothing_was_left_out() -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(view_lists(), LIMITS, LIMITS)
    def each(views: list[EncodedView], one: int, more: int) -> None:
        views = told([view for view in views if view.prompt and view.completion])
        assume(views)
        old = max([one, *(len(view.tokens) for view in views)])
        outcomes[outcome(views, "onepass", old, old + more)] += 1

    each()
    assert outcomes["equal"] > 50


def test_a_view_goes_on_to_where_its_answer_ends_though_its_end_is_not_trained() -> None:
    view = encoded_view([1, 2], [3, 4, 5], kinds=[0, 0, 1, 3, 3], messages=[-1, -1, 1, 1, 1])
    forest = plant(encoded_views([[view]]))
    (sample,) = write(forest, [("x", lay_out(forest))])
    sample.labels[3:] = -100
    assert ends_of([sample]) == {1: 5}


def refused(sample: Sample) -> str:
    with pytest.raises(LostViewsError) as caught:
        views_of([sample])
    return str(caught.value)


def one_sample(views: Sequence[EncodedView], calls: Calls | None = None) -> Sample:
    forest = plant(encoded_views([views]))
    (sample,) = write(forest, [("x", lay_out(forest))])
    return replace(sample, calls=calls)


def test_what_cannot_be_told_is_said() -> None:
    answer = encoded_view([1, 2], [3], kinds=[0, 0, 3], messages=[-1, -1, 1])
    more = encoded_view([1, 2, 3], [4], kinds=[0, 0, 3, 3], messages=[-1, -1, 1, 2])
    assert refused(one_sample([answer, more])) == "an answer, message 2, that continues another"
    context = encoded_view([1, 2], [3], kinds=[0, 0, 0], messages=[-1, -1, 1])
    assert refused(one_sample([context])) == "trained tokens that belong to no answer"
    call = Calls(["a"], np.zeros(1, np.uint8), np.zeros(1, np.float32))
    assert refused(one_sample([answer], call)) == "calls, which a row does not tell apart"
    other = encoded_view([1, 5], [3], kinds=[0, 0, 3], messages=[-1, -1, 1])
    with pytest.raises(LostViewsError, match="an answer, message 1, that several samples train"):
        views_of([one_sample([answer]), one_sample([other])])
