"""The CPU benchmark times the same training: losses and gradients of both layouts agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny  # noqa: E402, F401

sys.path[:0] = [str(Path(__file__).parents[1] / "benchmarks")]

import train  # noqa: E402
from conversations import PROFILES, Profile, Words, rows, views  # noqa: E402
from qwen3 import Model, Shape  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = Shape(width=32, layers=2, heads=4, groups=2, head_dim=16, inner=64, vocabulary=64)
SMALL = Profile(message=5, reasoning=6, response=7, steps=3, tool_result=4, system=3)
WAYS = {"onepass": train.by_branches, "npass": train.plain}


def gradients(layout: Any, way: Any) -> tuple[float, Any]:
    words = Words(0, SHAPE.vocabulary)
    packed = rows([views(SMALL, 3, words) for _ in range(2)], layout, 1 << 20)
    torch.manual_seed(0)
    model = Model(SHAPE).double()
    loss = train.step(model, packed, way)
    return loss, torch.cat([each.grad.flatten() for each in model.parameters()])


def test_both_layouts_train_the_same() -> None:
    (loss, found), (expected_loss, expected) = (gradients(*each) for each in WAYS.items())
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert (found - expected).norm() < 1e-5 * expected.norm()  # rotary angles are in float32


def test_an_index_shifted_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = train.branch_index

    def planted(until: np.ndarray) -> dict[str, Any]:
        index = honest(until)
        index["k_index"] = (index["k_index"] - 1).clamp(min=0)
        return index

    _, expected = gradients("npass", train.plain)
    monkeypatch.setattr(train, "branch_index", planted)
    _, found = gradients("onepass", train.by_branches)
    assert (found - expected).norm() > 1e-2 * expected.norm()


def test_a_line_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "small", SMALL)
    line = train.measure("small", 4, tokens=300, rounds=1, shape=SHAPE)
    assert line.tokens > 1
    assert line.allowed > 1
    assert line.measured > 0
    assert line.losses[0] == pytest.approx(line.losses[1], rel=1e-4)
    assert line.markdown().count("|") == 7
    monkeypatch.setattr(train, "LONGEST", 100)
    assert train.measure("small", 4, tokens=300, rounds=1, shape=SHAPE) is None
