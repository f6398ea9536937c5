"""Calls that cannot be trained: values without columns, columns without values, ids of no token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from packed_calls import Json, packed, with_ids

from reasonpack.errors import RecordError, UsageError

NAN = float("nan")


def test_ids_have_no_parts(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="token ids, which do not say what of an answer is reas"):
        packed(tmp_path, [with_ids([5], [7])], train_on="reasoning")


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (
            [with_ids([5], [7], id=1), with_ids([5], [8], id=1)],
            "calls.jsonl:2: id: '1' is the id of",
        ),
        ([with_ids([], [7])], "calls.jsonl:1: prompt_ids: no token, expected a prompt"),
        ([with_ids([5], [10**9])], r"calls.jsonl:1: completion_ids\[0\]: id 1000000000, expected"),
    ],
)
def test_a_call_that_cannot_be_packed(calls: list[Json], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=message):
        packed(tmp_path, calls)


def test_a_value_that_some_calls_lack_is_nan_or_refused(tmp_path: Path) -> None:
    calls = [
        with_ids([5], [7, 8], logprobs=[-1, -2], advantage=3, loss_mask=[1, 0]),
        with_ids([5], [7, 9], advantage=0.5, loss_mask=[1, 0]),
        with_ids([5], [6], logprobs=[-4]),
    ]
    manifest, (row, *_) = packed(tmp_path, [{**each, "trace_id": "t"} for each in calls])
    assert manifest.counts.notes["lacking logprobs"] == 1
    assert manifest.counts.notes["lacking advantages"] == 1
    targets = np.array(row["labels"]) >= 0
    for name, expected in (("logprobs", [-1, NAN, -4]), ("advantages", [3, 0.5, NAN])):
        values = np.array(row[name])
        assert np.array_equal(values[targets], expected, equal_nan=True)
        assert not values[~targets].any()
    (tmp_path / "other").mkdir()
    refusal = r"calls.jsonl:2: a trained call without logprobs, .* leave --call-columns out"
    with pytest.raises(RecordError, match=refusal):
        packed(tmp_path / "other", calls, call_columns=("logprobs", "advantages"))


def test_a_log_probability_may_be_rounded_above_0(tmp_path: Path) -> None:
    _, (row,) = packed(tmp_path, [with_ids([5], [7], logprobs=[0.01])])
    assert row["logprobs"] == [0.0, pytest.approx(0.01)]


def test_a_value_needs_its_column(tmp_path: Path) -> None:
    calls = [with_ids([5], [7], reward=1)]
    with pytest.raises(RecordError, match="pass --call-columns with call_reward in it"):
        packed(tmp_path, calls, call_columns=("none",))
    with pytest.raises(UsageError, match="--call-columns: scores, expected some of logprobs, "):
        packed(tmp_path, calls, call_columns=("scores",))
