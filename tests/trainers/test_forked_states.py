"""A hybrid whose state is forked at branches trains as N-pass does; its stock layers do not.

transformers computes parts of Qwen3.5 in float32 whatever the dtype; `exact` makes it float64.
"""

from __future__ import annotations

import types
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.qwen3_5")

import tiny  # noqa: E402

# isort: split
import qwen3_5_forked as example  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402
from transformers.models.qwen3_5 import modeling_qwen3_5 as stock  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import Collator, attend_by_branches, collator_for  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

EXACT, WRONG = 1e-9, 1e-2
WIDTH = 4


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' own code compute in float64 where it asks for float32."""
    wide = types.ModuleType("torch")
    vars(wide).update(vars(torch), float32=torch.float64)
    monkeypatch.setattr(stock, "torch", wide)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def hybrid() -> Any:
    """Three gated delta nets and one layer of attention, with random weights."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    sizes = {**tiny.SIZES, "num_hidden_layers": 4, "vocab_size": tiny.VOCABULARY}
    linear = {"linear_conv_kernel_dim": WIDTH, "linear_key_head_dim": 8}
    linear |= {"linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    types_ = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
    config = AutoConfig.for_model("qwen3_5_text", **sizes, **linear, layer_types=types_)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").double()
    for layer in made.model.layers:
        if hasattr(layer, "linear_attn"):  # states that last, so that a wrong one is seen
            torch.nn.init.uniform_(layer.linear_attn.A_log, -6, -3)
            torch.nn.init.normal_(layer.linear_attn.conv1d.weight, std=0.5)
    return made


def conversations() -> list[list[Any]]:
    """Two of random tokens, and one whose tool loops hang branches on branches."""
    loops = [each for each in tiny.views_of("stripped") if len(each) > 2]
    shortest = min(loops, key=lambda each: len(each[-1].prompt_ids))
    return [tiny.random_views(0, turns=3), tiny.random_views(1, turns=5), shortest]


def forked_batch(views: list[list[Any]], **padding: int) -> dict[str, Any]:
    rows = tiny.rows_of(views, [[0, 2], [1]], layout="onepass")
    return example.ForkCollator(mask="branches", width=WIDTH, **padding)(rows)


def differences(model: Any, batch: dict[str, Any], views: list[list[Any]]) -> tuple[float, float]:
    """Relative difference of the loss to N-pass by the stock model, and of the worst gradient."""
    plain = hybrid()
    expected = tiny.npass_loss(plain, views)
    wanted = tiny.gradients(plain, expected)
    loss = tiny.batch_loss(model, batch)
    found = tiny.gradients(model, loss)
    return abs(loss.item() / expected.item() - 1), tiny.distance(found, wanted)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_forked_states_give_the_loss_and_gradients_of_npass(
    exact: None, checkpointed: bool
) -> None:
    views = conversations()
    model = hybrid()
    example.fork_states(model)
    attend_by_branches(model)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    batch = forked_batch(views, pad_to_multiple_of=64)
    assert len(batch["forks"]["levels"]) > 4
    loss, gradient = differences(model, batch, views)
    assert loss < EXACT
    assert gradient < EXACT


def test_stock_layers_on_the_same_row_are_off(exact: None) -> None:
    views = conversations()[:2]
    rows = tiny.rows_of(views, layout="onepass")
    model = hybrid()
    loss, gradient = differences(model, Collator(mask="sdpa")(rows), views)
    assert loss > WRONG / 10
    assert gradient > WRONG


def test_hybrids_are_refused_without_forked_states() -> None:
    model = hybrid()
    with pytest.raises(UsageError, match="one branch of the row leaks into the next"):
        collator_for(model, layout="onepass")
    attend_by_branches(model)
    batch = forked_batch(conversations())
    with pytest.raises(UsageError, match=r"1 of 4 layers took the branches"):
        tiny.batch_loss(model, {k: v for k, v in batch.items() if k != "forks"})


def test_a_batch_that_lost_its_forks_is_refused() -> None:
    model = hybrid().train()
    example.fork_states(model)
    attend_by_branches(model)
    batch = forked_batch(conversations())
    for lost in ({"forks"}, {"branches"}, {"forks", "branches"}):
        with pytest.raises(UsageError):
            tiny.batch_loss(model, {k: v for k, v in batch.items() if k not in lost})


def test_nodes_begin_where_branches_do() -> None:
    index = {
        "cu_seqlens_q": torch.tensor([0, 3, 7]),  # h t r | r h t r
        "cu_seqlens_k": torch.tensor([0, 3, 8]),
        "k_index": torch.tensor([0, 1, 2, 0, 3, 4, 5, 6]),
    }
    found = example.forks(index, width=3)
    assert [level["tokens"].tolist() for level in found["levels"]] == [[0], [1, 2, 3, 4, 5, 6]]
    assert [level["above"] for level in found["levels"]] == [[], [0, 0]]
    assert found["levels"][1]["cu_seqlens"].tolist() == [0, 2, 6]
    assert found["taps"].tolist() == [
        [0, 1, 2, 3, 4, 5, 6],
        [-1, 0, 1, 0, 3, 4, 5],
        [-1, -1, 0, -1, 0, 3, 4],
    ]
