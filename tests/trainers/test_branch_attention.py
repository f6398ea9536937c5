"""Onepass rows by their branches train as the dense mask and as N-pass do, under stock code.

transformers' own `flash_attention_forward` runs; its kernel alone is replaced, by the definition
(`flash.py`). Against the dense mask models compute the same in float64, up to the order of sums:
1e-9. Against N-pass their norms and rotary embeddings round in float32: 1e-5.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
import forests  # noqa: E402
from branching import (  # noqa: E402
    EQUAL,
    FLASH,
    PACKED,
    SAME,
    SDPA,
    branch_loss,
    conversations,
    dense_loss,
    forest_row,
    off,
)
from hypothesis import HealthCheck, given, settings  # noqa: E402

from reasonpack.torch import (  # noqa: E402
    Collator,
    collator_for,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

LATENT = dict.fromkeys(("num_key_value_heads", "head_dim", "qk_rope_head_dim"), 4)
LATENT |= dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16)
LATENT |= {"qk_nope_head_dim": 8, "v_head_dim": 6}  # values are narrower than keys
LATENT |= {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "rope_interleave": False}
SHAPES: dict[str, dict[str, Any]] = {
    **{family: {} for family in tiny.FAMILIES},
    "qwen3_moe": {},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 8},  # with softcaps
    "gpt_oss": {"sliding_window": 24, "num_local_experts": 4},  # with sinks
    "deepseek_v3": LATENT,
}
ROUNDED = ("deepseek_v3", "gemma3_text")
"""Norms or routers in float32 whose rounding depends on the order of tokens."""


@pytest.mark.parametrize("family", SHAPES)
def test_packed_rows_give_the_gradients_of_the_dense_mask(family: str, attended: Any) -> None:
    model = attended(family, **SHAPES[family])
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    eager = family in ("gemma2", "gpt_oss")  # SDPA knows no softcap and no sinks
    expected = dense_loss(model, rows, "eager" if eager else SDPA)
    loss, gradient = off(model, branch_loss(model, rows), expected)
    limit = SAME if eager or family in ROUNDED else EQUAL  # eager softmax is in float32
    assert loss < limit
    assert gradient < limit


@pytest.mark.parametrize("name", [FLASH, SDPA])
@pytest.mark.parametrize("family", [*tiny.FAMILIES, "qwen3_moe"])
def test_packed_rows_give_the_gradients_of_npass(family: str, name: str, attended: Any) -> None:
    model = attended(family, name)
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    loss = tiny.batch_loss(model, Collator(mask="branches", pad_to_multiple_of=8)(rows))
    found = tiny.gradients(model, loss)
    plain = tiny.model(family)
    expected = tiny.npass_loss(plain, conversations())
    assert abs(loss.item() / expected.item() - 1) < SAME
    assert tiny.distance(found, tiny.gradients(plain, expected)) < SAME


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_give_the_same_gradients(reentrant: bool, attended: Any) -> None:
    model = attended("mistral").train()
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    expected = tiny.gradients(model, branch_loss(model, rows))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert tiny.distance(tiny.gradients(model, branch_loss(model, rows)), expected) < EQUAL


@pytest.mark.skipif(not tiny.REAL, reason="no real conversations beside the checkout")
def test_real_rows_packed(attended: Any) -> None:
    taken = [each for each in tiny.views_of("tool_loop", *tiny.REAL, longest=7000) if len(each) > 2]
    found = sorted(taken, key=lambda each: len(each[-1].prompt_ids))[:3]
    rows = tiny.rows_of(found, PACKED, layout="onepass")
    model = attended("qwen3")
    loss, gradient = off(model, branch_loss(model, rows, 128), dense_loss(model, rows))
    assert loss < EQUAL
    assert gradient < EQUAL


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=forests.batches(max_rows=3, max_tokens=40))
def test_random_forests(batch: list[forests.Forest], attended_mistral: Any) -> None:
    rows = [forest_row(forest) for forest in batch]
    trained = sum(int((row["labels"] != -100).sum()) for row in rows)
    if trained:
        found, expected = branch_loss(attended_mistral, rows), dense_loss(attended_mistral, rows)
        assert abs(found.item() / expected.item() - 1) < EQUAL
        left, right = (tiny.gradients(attended_mistral, loss) for loss in (found, expected))
        whole = torch.stack([each.norm() for each in right.values()]).norm()
        assert all((left[name] - right[name]).norm() < EQUAL * whole for name in right)


@pytest.fixture
def attended_mistral(attended: Any) -> Any:
    return attended("mistral", sliding_window=5)


def test_a_batch_without_branches_goes_as_before(attended: Any) -> None:
    model = attended("qwen3")
    rows = tiny.rows_of(conversations(), layout="npass")
    expected = tiny.npass_loss(tiny.model("qwen3"), conversations())
    loss = tiny.batch_loss(model, collator_for(model, layout="npass")(rows))
    assert abs(loss.item() / expected.item() - 1) < SAME


# --- the gradient of the gathered keys ------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of dynamo: not ours
def test_compiled_models_give_the_same_gradients_without_new_graphs(attended: Any) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    model = attended("llama", kernel=torch.compiler.disable(flash.varlen()), num_hidden_layers=1)
    rows = tiny.rows_of(conversations(), layout="onepass")
    expected = tiny.gradients(model, branch_loss(model, rows))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter)
    found = tiny.gradients(model, branch_loss(compiled, rows))
    assert tiny.distance(found, expected) < EQUAL
    tiny.gradients(model, branch_loss(compiled, rows[:2]))  # from here on sizes are dynamic
    graphs = counter.frame_count
    for some in (rows[1:], rows[:1]):
        tiny.gradients(model, branch_loss(compiled, some))
    assert counter.frame_count == graphs
