"""The operations of a model, from its configuration."""

from __future__ import annotations

import pytest

from reasonpack.errors import UsageError
from reasonpack.show.cost import Work
from reasonpack.show.model_shape import ModelShape


def test_the_operations_of_a_model_by_hand() -> None:
    config = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 6}
    config |= {"num_key_value_heads": 1, "intermediate_size": 10, "vocab_size": 100}
    layer = 8 * 12 + 2 * 8 * 6 + 12 * 8 + 3 * 8 * 10  # q, k and v, o, MLP
    shape = ModelShape.of({"text_config": config, "model_type": "gemma3"})
    assert shape.token == 2 * (2 * layer + 8 * 100)
    assert shape.pair == 2 * (2 + 2) * 12  # q·k and share·v
    assert shape.operations(Work(3, 0, 5)) == 3 * (3 * shape.token + 5 * 128**2 * shape.pair)
    experts = {"num_experts_per_tok": 3, "moe_intermediate_size": 4}
    sparse = ModelShape.of({**config, **experts})
    assert shape.token - sparse.token == 2 * 2 * 3 * 8 * (10 - 12)


@pytest.mark.parametrize("config", [{}, {"hidden_size": "8"}, {"hidden_size": 8, "head_dim": -1}])
def test_what_is_no_configuration_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"model: .* Fix: name "):
        ModelShape.of(config)
