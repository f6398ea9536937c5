"""Recipes evaluate, resume and log by kind; those of trainers that are not here have stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
from test_trainers import STEPS, packed, tokenizer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of trainers: not ours

LOGGED = {**STEPS, "logging_strategy": "steps", "logging_steps": 1}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    flash.install(monkeypatch)
    return flash.with_flash(tiny.model("qwen3", dtype="float32"))


@pytest.fixture(params=["hf", "trl"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "hf":
        import hf_trainer

        return hf_trainer.train
    pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    import trl_sft

    plain = {"bf16": False, "gradient_checkpointing": False}
    return lambda model, *rest, **given: trl_sft.train(model, tokenizer(), *rest, **plain, **given)


def weights(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def fresh(model: Any) -> Any:
    """The same model anew, with its implementation."""
    return flash.with_flash(tiny.model("qwen3", dtype="float32"))


def test_recipes_log_by_kind_evaluate_and_resume(model: Any, recipe: Any, tmp_path: Path) -> None:
    directory = packed(tmp_path, format="arrow")
    given = {**LOGGED, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps"}
    given |= {"eval_steps": 3}
    trainer = recipe(model, directory, tmp_path / "out", evaluation=directory, **given)
    history = trainer.state.log_history
    steps = [each for each in history if "loss" in each]
    assert len(steps) == 3
    assert all(each["loss_t"] > 0 and each["loss_r_out"] > 0 for each in steps)
    low, high = sorted([steps[0]["loss_t"], steps[0]["loss_r_out"]])
    assert low <= steps[0]["loss"] <= high  # it is the mean of both
    assert any("eval_loss" in each for each in history)
    resumed = fresh(model)
    recipe(
        resumed, directory, tmp_path / "out", resume=str(tmp_path / "out/checkpoint-2"), **LOGGED
    )
    assert tiny.distance(weights(resumed), weights(model)) < 1e-6
