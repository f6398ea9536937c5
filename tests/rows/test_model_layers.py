"""Models whose layers carry state along a row are recognised, and onepass is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reasonpack.datasets.options import Options
from reasonpack.errors import TokenizerError, UsageError
from reasonpack.rows.model_layers import Architecture
from reasonpack.run.context import load_context

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "tokenizer"

RECURRENT: dict[str, dict[str, Any]] = {
    "Qwen3-Next": {
        "model_type": "qwen3_next",
        "layer_types": ["linear_attention", "full_attention"],
        "linear_conv_kernel_dim": 4,
    },
    "Qwen3.5": {
        "model_type": "qwen3_5",
        "text_config": {"layer_types": ["linear_attention", "full_attention"]},
    },
    "Nemotron-H": {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-"},
    "Jamba": {"model_type": "jamba", "mamba_d_state": 16, "attn_layer_period": 8},
    "Mamba": {"model_type": "mamba", "state_size": 16},
    "RWKV": {"model_type": "rwkv7"},
    "an unknown one": {"model_type": "new", "layer_types": ["full_attention", "gated_delta"]},
    "a part of one": {"model_type": "vision", "llm_config": {"model_type": "lfm2_moe"}},
}
ATTENTION: dict[str, dict[str, Any]] = {
    "Qwen3": {"model_type": "qwen3", "use_sliding_window": False, "sliding_window": 4096},
    "Llama": {"model_type": "llama"},
    "gpt-oss": {
        "model_type": "gpt_oss",
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 128,
    },
    "a hybrid without hybrid layers": {
        "model_type": "granitemoehybrid",
        "layer_types": ["attention", "attention"],
        "mamba_d_state": 256,
    },
    "Gemma 3": {"model_type": "gemma3", "text_config": {"sliding_window": 512}},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(TOKENIZER, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_is_refused_but_for_npass(name: str, directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps(RECURRENT[name]), "utf-8")
    with pytest.raises(UsageError, match=r"leak into each other.*--layout npass"):
        load_context(Options(tokenizer=str(directory)))
    assert load_context(Options(tokenizer=str(directory), layout="npass")).notes == ()
    load_context(Options(tokenizer=str(directory), force_onepass=True))


@pytest.mark.parametrize("name", ATTENTION)
def test_a_model_of_attention_layers_is_taken(name: str, directory: Path) -> None:
    config = ATTENTION[name]
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    notes = load_context(Options(tokenizer=str(directory))).notes
    windowed = name in {"gpt-oss", "Gemma 3"}
    assert len(notes) == windowed
    assert all("position_ids" in note for note in notes)


def test_no_config_says_nothing() -> None:
    assert load_context(Options(tokenizer=str(TOKENIZER))).notes == ()


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_broken_config(content: str, directory: Path) -> None:
    (directory / "config.json").write_text(content, "utf-8")
    with pytest.raises(TokenizerError, match=r"config.json.*Fix"):
        load_context(Options(tokenizer=str(directory), layout="npass"))


def test_the_smallest_window_counts() -> None:
    config = {"sliding_window": 4096, "text_config": {"sliding_window": 512}}
    assert Architecture.of(config) == Architecture("", 512)
