"""The forest of a group trains what its calls train one by one, whatever they have in common.

calls ── GroupForest ──▶ rows ── oracle ──▶ {(prefix, token): weight}, {(call, prefix, token)}
calls, one by one ───────────────────────▶ the same
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Call, expected_per_call, expected_weights, per_call, weights

from reasonpack.choices import Layout
from reasonpack.rows.forest import LaidOut, lay_out
from reasonpack.rows.group_forest import CallView, GroupForest, Joint
from reasonpack.rows.sample import Calls, write
from reasonpack.rows.schema import planned, schema
from reasonpack.rows.table import rows_to_table
from tests.changed import replace

Json = dict[str, Any]
LAYOUTS: tuple[Layout, ...] = ("onepass", "npass")


def view(call: Call, number: int, *, apart: bool) -> CallView:
    """Put a call into arrays; with values, its log probabilities name its number."""
    tokens = np.array([*call.prompt_ids, *call.completion_ids], np.int32)
    size = len(call.completion_ids)
    return CallView(
        call=number,
        tokens=tokens,
        prompt=len(call.prompt_ids),
        header=len(call.prompt_ids),
        trained=np.array(call.mask or [True] * size),
        runs=[(len(call.prompt_ids), 0, -1), (len(tokens), 3, number)],
        weight=call.weight,
        values={"logprobs": np.full(size, -1.0 - number, np.float32)} if apart else {},
    )


def begun(*, apart: bool = False) -> GroupForest:
    forest = GroupForest()
    forest.begin(apart=apart)
    return forest


def laid_out(
    calls: Sequence[Call], *, apart: bool = False, layout: Layout = "onepass"
) -> tuple[list[Json], LaidOut]:
    forest = begun(apart=apart)
    for number, call in enumerate(calls):
        forest.add(view(call, number, apart=apart))
    planted = forest.finish()
    found = lay_out(planted, layout=layout)
    count = len(calls)
    named = Calls([c.id for c in calls], np.zeros(count, np.uint8), np.zeros(count, np.float32))
    samples = write(planted, [("g", found)], [named])
    columns = planned(["loss_weights", "segment_call", *(["logprobs"] if apart else [])])
    order = [[number] for number in range(len(samples))]
    return rows_to_table(samples, order, schema({}, columns)).to_pylist(), found


@st.composite
def groups(draw: st.DrawFn) -> list[Call]:
    """Calls over three tokens; most go on from where an earlier one was cut, or from its end."""
    token = st.integers(0, 2)
    calls: list[Call] = []
    for number in range(draw(st.integers(1, 6))):
        begun: list[int] = []
        if calls and draw(st.integers(0, 5)):
            earlier = calls[draw(st.integers(0, len(calls) - 1))]
            whole = [*earlier.prompt_ids, *earlier.completion_ids]
            cuts = st.sampled_from([len(whole), len(earlier.prompt_ids)])
            begun = whole[: draw(st.one_of(cuts, st.integers(0, len(whole))))]
        prompt = begun + draw(st.lists(token, min_size=0 if begun else 1, max_size=3))
        completion = draw(st.lists(token, min_size=1, max_size=4))
        size = len(completion)
        mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any))
        weight = draw(st.sampled_from([1.0, 1.0, 0.5, 2.0]))
        calls.append(Call(str(number), prompt, completion, mask, weight))
    return calls


@settings(max_examples=40)
@given(groups(), st.sampled_from(LAYOUTS))
def test_equal_pairs_are_trained_once_with_the_weights_of_all(
    calls: list[Call], layout: Layout
) -> None:
    rows, _ = laid_out(calls, layout=layout)
    assert weights(rows) == expected_weights(calls)
    found = per_call(rows)
    assert len({pair for _, pair in found}) == found.total()
    assert set(found) <= set(expected_per_call(calls))
    listed, ids = [id_ for row in rows for id_ in row["call_id"]], {call.id for call in calls}
    assert set(listed) == ids
    assert layout == "npass" or len(listed) == len(ids)


@settings(max_examples=40)
@given(groups(), st.sampled_from(LAYOUTS))
def test_calls_with_values_are_kept_apart(calls: list[Call], layout: Layout) -> None:
    rows, _ = laid_out(calls, apart=True, layout=layout)
    assert per_call(rows) == expected_per_call(calls)
    assert weights(rows) == expected_weights(calls)
    for row in rows:
        for number, start in enumerate(row["segment_start"]):
            stop = [*row["segment_start"], row["length"]][number + 1]
            call = row["segment_call"][number]
            own = {-1.0 - int(row["call_id"][call])} if call >= 0 else {0.0}
            trained = [label != -100 for label in row["labels"][start:stop]]
            values = zip(row["logprobs"][start:stop], trained, strict=True)
            assert {value for value, is_trained in values if is_trained} <= own


@settings(max_examples=40)
@given(groups(), st.booleans(), st.data())
def test_the_order_changes_no_weight(calls: list[Call], apart: bool, data: st.DataObject) -> None:
    order = data.draw(st.permutations(calls))
    assert weights(laid_out(order, apart=apart)[0]) == expected_weights(calls)


@settings(max_examples=40)
@given(groups())
def test_no_token_is_written_twice_but_copies(calls: list[Call]) -> None:
    """The forest has as many tokens as a set of all prefixes; npass_tokens counts its leaves."""
    rows, found = laid_out(calls)
    whole = [(*call.prompt_ids, *call.completion_ids) for call in calls]
    prefixes = {ids[: size + 1] for ids in whole for size in range(len(ids))}
    copies = sum(stretch.trains is False for stretch in found.samples[0])
    assert rows[0]["length"] == len(prefixes) + copies
    leaves = [ids for ids in prefixes if not any(ids == other[:-1] for other in prefixes)]
    assert found.npass_tokens == sum(map(len, leaves))
    assert found.naive_tokens == sum(map(len, whole))


@pytest.mark.long
@settings(max_examples=300)
@given(groups(), st.booleans(), st.sampled_from(LAYOUTS))
def test_many_groups(calls: list[Call], apart: bool, layout: Layout) -> None:
    rows, _ = laid_out(calls, apart=apart, layout=layout)
    assert weights(rows) == expected_weights(calls)


# --- traps that others fell into -----------------------------------------------------------------


def test_the_longest_prefix_is_taken_and_not_the_first() -> None:
    """An early call has the beginning, a later one more of it."""
    calls = [
        Call("short", [1], [2]),
        Call("long", [1, 5, 6, 7], [3]),
        Call("between", [1, 9], [2]),
        Call("goes-on", [1, 5, 6, 7, 3, 8], [4]),
    ]
    rows, _ = laid_out(calls)
    assert rows[0]["input_ids"] == [1, 2, 5, 6, 7, 3, 8, 4, 9, 2]
    assert weights(rows) == expected_weights(calls)


def test_a_prompt_that_goes_on_from_the_second_of_two_equal_beginnings() -> None:
    """Answers that begin alike are branches of their own; a prompt holds the second of them."""
    calls = [
        Call("a", [1, 2], [5, 6, 7]),
        Call("b", [1, 2], [5, 6, 8]),
        Call("goes-on", [1, 2, 5, 6, 8, 3], [9]),
    ]
    rows, _ = laid_out(calls, apart=True)
    assert rows[0]["length"] == 2 + 3 + 1 + 3 + 2
    assert per_call(rows) == expected_per_call(calls)


def test_identical_retries_are_one_parent() -> None:
    calls = [
        Call("a", [1, 2], [5, 6]),
        Call("again", [1, 2], [5, 6]),
        Call("goes-on", [1, 2, 5, 6, 3], [9]),
    ]
    rows, _ = laid_out(calls)
    assert rows[0]["input_ids"] == [1, 2, 5, 6, 3, 9]
    assert rows[0]["loss_weights"] == [0, 0, 2, 2, 0, 1]
    assert rows[0]["call_id"] == ["a", "again", "goes-on"]
    apart, _ = laid_out(calls, apart=True)
    assert apart[0]["input_ids"] == [1, 2, 5, 6, 3, 9, 2, 5, 6]


def test_an_answer_is_not_trained_again_where_a_prompt_holds_it() -> None:
    """It does not matter which of the two was logged first."""
    calls = [Call("a", [1, 2], [5, 6]), Call("b", [1, 2, 5, 6, 3], [9])]
    for order in (calls, calls[::-1]):
        for apart in (False, True):
            rows, _ = laid_out(order, apart=apart)
            assert rows[0]["input_ids"] == [1, 2, 5, 6, 3, 9]
            assert per_call(rows) == expected_per_call(calls)


def test_what_is_trained_within_context_is_said_of_its_call() -> None:
    """Kind, message and call are those of the completion, not of the prompt that came first."""
    calls = [Call("b", [1, 2, 5, 6, 3], [9]), Call("a", [1, 2], [5, 6])]
    rows, _ = laid_out(calls)
    assert rows[0]["segment_start"] == [0, 2, 4, 5]
    assert rows[0]["segment_kind"] == [0, 3, 0, 3]
    assert rows[0]["segment_message"] == [-1, 1, -1, 0]
    assert rows[0]["segment_call"] == [-1, 1, -1, 0]


def test_a_run_that_stops_before_another_is_empty() -> None:
    forest = begun()
    call = view(Call("a", [1, 2], [5, 6]), 0, apart=False)
    forest.add(replace(call, runs=[(2, 0, 0), (3, 1, 1), (2, 2, 1), (4, 3, 1)]))
    views = forest.finish().views
    assert views.run_start.tolist() == [0, 2, 3]
    assert views.run_kind.tolist() == [0, 1, 3]


def test_what_a_template_writes_before_an_answer_is_part_of_it() -> None:
    """A prompt may end in an empty block that the history does not show."""
    forest = begun()
    first = view(Call("a", [1, 2, 8, 8], [5, 6]), 0, apart=False)
    forest.add(replace(first, header=1))
    joined = forest.add(view(Call("b", [1, 2, 5, 3], [9]), 1, apart=False))
    assert (joined.joint, joined.depth) == ("otherwise", 2)


JOINTS: dict[Joint, tuple[list[int], list[int]]] = {
    "beginning": ([7], [1]),
    "known-prompt": ([1, 2], [8]),
    "continued": ([1, 2, 5, 6, 3], [9]),
    "otherwise": ([1, 2, 6, 3], [9]),
    "rewritten": ([1, 4, 4], [9]),
}


@pytest.mark.parametrize("joint", JOINTS)
def test_how_a_call_joins_the_others(joint: Joint) -> None:
    forest = begun()
    first = forest.add(view(Call("a", [1, 2], [5, 6]), 0, apart=False))
    assert first.joint == "beginning"
    joined = forest.add(view(Call("b", *JOINTS[joint]), 1, apart=False))
    assert joined.joint == joint
    assert joined.depth == {"beginning": 0, "continued": 4, "rewritten": 1}.get(joint, 2)
