"""Columns and values of calls: asked for, dropped, weighed, written otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from logged_groups import KINDS, PLAIN, compared, ids, packed

from reasonpack.run import calls as packing


def test_columns_that_were_asked_for(tmp_path: Path) -> None:
    calls = [ids("r", "a", [5, 6], [7, 8], logprobs=[-1, -2]), ids("r", "b", [5, 6], [9])]
    findings = compared(*packed(tmp_path, calls, call_columns=("logprobs",)))
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert (findings.checked["views"], findings.checked["rejects confirmed"]) == (1, 1)


def test_a_value_that_was_dropped_for_want_of_its_column_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonpack.run.waiting_calls.check_columns", lambda *_: [])
    calls = [ids("r", "a", [5, 6], [7], reward=1, logprobs=[-1])]
    findings = compared(*packed(tmp_path, calls, call_columns=("logprobs",)))
    assert [*findings.counts] == ["RP308"], findings.listed


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["message", "turn", "conversation"])
@pytest.mark.parametrize("kind", ["plain", "pairs"])
def test_weights_and_splits_of_groups(kind: str, scheme: str, tmp_path: Path) -> None:
    calls = [call for call in KINDS[kind] if scheme != "turn" or "messages" in call]
    out, source = packed(tmp_path, calls, loss_weights=scheme, split=("test=0.5",))
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.long
@pytest.mark.parametrize("code", ["RP315", "RP316"])
def test_a_group_in_another_split_and_other_weights_are_found(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == "RP315":
        monkeypatch.setattr(packing, "split_of", lambda *_: "test")
    else:
        monkeypatch.setattr(packing.CallGroups, "_weights", lambda _, calls: [0.5] * len(calls))
    out, source = packed(tmp_path, PLAIN, loss_weights="message", split=("test=0.5",))
    assert set(compared(out, source).counts) == {code}


def test_a_call_is_logged_twice_however_its_reward_is_written(tmp_path: Path) -> None:
    out, source = packed(tmp_path, [ids("r", "a", [5], [7], reward=one) for one in (0, 0.0)])
    assert compared(out, source).total == 0
