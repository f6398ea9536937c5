"""Each second of a process counts for one stage."""

from __future__ import annotations

import contextlib

import pytest

from reasonpack.run import stages


def test_a_stage_does_not_count_what_is_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_seconds", {})
    clock = iter([0, 1, 3, 7, 8, 20, 21, 23])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    with stages.stage("outer"):  # 0 to 20
        with stages.stage("inner"):  # 1 to 3
            pass
        with contextlib.suppress(ValueError), stages.stage("inner"):  # 7 to 8
            raise ValueError
    with stages.stage("outer"):  # 21 to 23
        pass
    assert stages.measured() == {"inner": 3, "outer": 19}
