"""Each second of a process counts for one stage."""

from __future__ import annotations

import contextlib

import pytest

from reasonpack.run import profile


def test_a_stage_does_not_count_what_is_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_seconds", {})
    clock = iter([0, 1, 3, 7, 8, 20, 21, 23])
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    with profile.stage("outer"):  # 0 to 20
        with profile.stage("inner"):  # 1 to 3
            pass
        with contextlib.suppress(ValueError), profile.stage("inner"):  # 7 to 8
            raise ValueError
    with profile.stage("outer"):  # 21 to 23
        pass
    assert profile.measured() == {"inner": 3, "outer": 19}
