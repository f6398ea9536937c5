"""A model's `config.json` → whether its layers can be trained on rows that branch.

Attention looks only where the mask lets it. A recurrent or convolutional layer has no
mask: it carries a state from one token of the row to the next, so one branch of a
onepass row leaks into another. For such models only the npass layout is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

ATTENTION = frozenset(
    {"attention", "chunked_attention", "full_attention", "global", "hybrid_attention", "local"}
    | {"sliding_attention", "sliding_window", "sparse", "dense", "moe", "mlp"}
)
"""Types of layers that see other tokens through a mask, or not at all."""
RECURRENT_TYPES = (
    *("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2"),
    *("mamba", "minimax_m1", "minimax_text", "nemotron_h", "olmo_hybrid", "plamo2", "qwen3_5"),
    *("qwen3_next", "recurrent_gemma", "rwkv", "xlstm", "zamba"),
)
"""Prefixes of `model_type` whose models are known to have recurrent or convolutional layers."""
RECURRENT_FIELDS = (
    *("conv_L_cache", "hybrid_override_pattern", "linear_attn_config", "linear_conv_kernel_dim"),
    *("mamba_d_state", "mamba_num_heads", "ssm_cfg", "ssm_state_size", "state_size"),
)
"""Fields of a config that only models with such layers have."""


class Architecture(Struct, frozen=True):
    """Properties of a model's layers that decide which rows it can be trained on.

    Attributes:
        recurrent: the evidence that it has layers without a mask; empty if it has none.
        sliding_window: its smallest sliding attention window in tokens; None if it has none.

    >>> Architecture.of({"model_type": "qwen3_next"}).recurrent
    'model_type is qwen3_next'
    >>> Architecture.of({"model_type": "gemma3", "text_config": {"sliding_window": 512}})
    Architecture(recurrent='', sliding_window=512)
    """

    recurrent: str
    sliding_window: int | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """Read the properties from a config and the configs of sub-models within it."""
        parts = [config, *(part for part in config.values() if isinstance(part, dict))]
        reasons = [reason for part in parts for reason in _recurrent(part)]
        windows = [window for part in parts if (window := _window(part))]
        return cls(reasons[0] if reasons else "", min(windows, default=None))


def _recurrent(config: Mapping[str, Any]) -> Iterator[str]:
    named = {name: config.get(name) for name in ("layer_types", "layers_block_type")}
    lists = {name: types for name, types in named.items() if isinstance(types, list) and types}
    for name, types in lists.items():
        others = sorted({str(layer) for layer in types} - ATTENTION)
        if others:
            yield f"{name} has {others[0][:60]}"
    if lists:
        return  # a list of layers is more reliable than the model's name
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type.lower().startswith(RECURRENT_TYPES):
        yield f"model_type is {model_type[:60]}"
    for name in RECURRENT_FIELDS:
        if config.get(name):
            yield f"it has {name}"


def _window(config: Mapping[str, Any]) -> int | None:
    window = config.get("sliding_window")
    used = config.get("use_sliding_window", True)
    return window if used and isinstance(window, int) and window > 0 else None
