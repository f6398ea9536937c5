"""A model's `config.json`, or a few numbers → floating-point operations for a layout.

    tokens · (weights of a layer · 2) · layers     linear layers
    blocks · 128² · 4 · heads · head size · layers attention: q·k, and times v

Multiply-adds count as two. Sliding windows are not counted: their layers compute fewer pairs, in
every layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from reasonpack.errors import UsageError
from reasonpack.show.cost import BLOCK, Work

EPOCH = 3
"""Operations of a forward and a backward pass, in forward passes."""


class ModelShape(Struct, frozen=True):
    """What the forward pass of a model costs.

    Attributes:
        hidden_size: width of the model.
        layers: number of layers; None if one layer is counted.
        token: operations per token in the weights of all layers and the output head.
        pair: operations per pair of tokens in the attention of all layers.
    """

    hidden_size: int = 1024
    layers: int | None = None
    token: float = 24 * 1024**2
    pair: float = 4 * 1024

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read the shape from a config, or from its `text_config`.

        Missing fields have usual values: heads together as wide as the model, as many key heads,
        an MLP of three matrices 8/3 times as wide as the model, no output head.

        Raises:
            UsageError: `hidden_size` is missing, or a field is not a whole number.

        >>> ModelShape.of({"hidden_size": 1024}) == ModelShape()
        True
        >>> ModelShape.of({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        ...                "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100})
        ModelShape(hidden_size=64, layers=2, token=135680.0, pair=512.0)
        """
        nested = config.get("text_config")
        if "hidden_size" not in config and isinstance(nested, Mapping):
            return cls.of(nested)
        width = _number(config, "hidden_size", 0)
        if not width:
            fix = "name its config.json, or pass --hidden-size"
            raise UsageError("model", "no hidden_size", "a model's configuration", fix)
        layers = _number(config, "num_hidden_layers", 0)
        heads = _number(config, "num_attention_heads", 1)
        queries = heads * _number(config, "head_dim", width // heads)
        keys = queries * _number(config, "num_key_value_heads", heads) / heads
        weights = 2 * width * (queries + keys) + 3 * width * _inner(config, width)
        head = 2 * width * _number(config, "vocab_size", 0)
        depth = layers or 1
        return cls(width, layers or None, 2 * weights * depth + head, 4.0 * queries * depth)

    def operations(self, work: Work) -> float:
        """Return the operations of `work`, forward and backward."""
        return EPOCH * (self.token * work.tokens + self.pair * BLOCK**2 * work.blocks)


def _inner(config: Mapping[str, Any], width: int) -> float:
    """Return the width of the MLP that a token passes, summed over its experts."""
    plain = _number(config, "intermediate_size", 0)
    chosen = _number(config, "num_experts_per_tok", 0)
    if not chosen:
        return plain or 8 * width / 3
    expert = _number(config, "moe_intermediate_size", plain)
    shared = _number(config, "shared_expert_intermediate_size", 0)
    return (chosen + _number(config, "n_shared_experts", 0)) * expert + shared


def _number(config: Mapping[str, Any], name: str, missing: int) -> int:
    value = config.get(name)
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(
            "model", f"{name} is {value!r}", "a whole number", "name the config.json of a model"
        )
    return value
