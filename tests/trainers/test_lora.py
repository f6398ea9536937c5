"""Adapters on queries, keys and values get the gradients of N-pass from onepass rows by branches.

By peft where it is installed, and by a low-rank adapter written here, which needs nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.torch import collator_for, prepare_model  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

SAME = 1e-5
RANK = 4
TARGETS = ("q_proj", "k_proj", "v_proj")


class LowRank(torch.nn.Module):  # type: ignore[misc]
    """A frozen linear layer, and a product of two small matrices beside it."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.lora_A = torch.nn.Parameter(torch.empty(RANK, base.in_features))
        self.lora_B = torch.nn.Parameter(torch.empty(base.out_features, RANK))

    def forward(self, x: Any) -> Any:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def by_hand(model: Any) -> Any:
    model.requires_grad_(False)
    for layer in model.model.layers:
        for name in TARGETS:
            setattr(layer.self_attn, name, LowRank(getattr(layer.self_attn, name)).double())
    return model


def by_peft(model: Any) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)


def adapted(adapt: Any, *, before: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A model with adapters that are not 0, prepared before them or after, and what undoes it."""
    flash.install(monkeypatch)
    model = flash.with_flash(tiny.model("qwen3", attention="eager"))
    handle = prepare_model(model) if before else None
    model = adapt(model)
    handle = handle or prepare_model(model)
    torch.manual_seed(1)
    for name, each in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(each, std=0.2)
    return model, handle


def adapter_gradients(model: Any, loss: Any) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if "lora_" in name}
    assert all(each.grad is None for name, each in model.named_parameters() if "lora_" not in name)
    return found


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("adapt", [by_hand, by_peft])
def test_adapters_get_the_gradients_of_npass(
    adapt: Any, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = [tiny.random_views(seed, turns=seed + 2) for seed in range(3)]
    rows = tiny.rows_of(conversations, [[0, 2], [1]], layout="onepass")
    model, prepared = adapted(adapt, before=before, monkeypatch=monkeypatch)
    collator = collator_for(model, layout="onepass", pad_to_multiple_of=8)
    assert collator.mask == "branches"
    loss = tiny.batch_loss(model, collator(rows))
    found = adapter_gradients(model, loss)
    assert len(found) == 2 * len(TARGETS) * model.config.num_hidden_layers
    prepared.remove()
    model.config._attn_implementation = "eager"
    expected = tiny.npass_loss(model, conversations)
    wanted = adapter_gradients(model, expected)
    assert abs(loss.item() / expected.item() - 1) < SAME
    assert tiny.distance(found, wanted) < SAME
