"""Onepass rows by their branches train as the dense mask and as N-pass do, under stock code.

transformers' own `flash_attention_forward` runs; its kernel alone is replaced, by the definition
(`flash.py`). Against the dense mask models compute the same in float64, up to the order of sums:
1e-9. Against N-pass their norms and rotary embeddings round in float32: 1e-5.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
import forests  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    Collator,
    attend_by_branches,
    collator_for,
    gather,
    model_windows,
)
from reasonpack.torch.branch_index import NAME, BranchIndex, branch_index  # noqa: E402
from reasonpack.torch.stock_attention import varlen_attention  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

EQUAL, SAME, WRONG = 1e-9, 1e-5, 1e-2
PACKED = [[0, 2], [1]]
FLASH, SDPA = "flash_attention_2", "sdpa"


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a tiny model whose attention takes branches; taken back at the end."""
    handles = []

    def make(family: str, name: str = FLASH, kernel: Any = None, **fields: Any) -> Any:
        flash.install(monkeypatch, name, kernel)
        model = flash.with_flash(tiny.model(family, attention="eager", **fields), name)
        handles.append(attend_by_branches(model))
        return model

    yield make
    for handle in handles:
        handle.remove()


def conversations() -> list[list[Any]]:
    return [tiny.random_views(seed, turns=seed + 2) for seed in range(3)]


def dense_loss(model: Any, rows: list[tiny.Row], attention: str = SDPA) -> Any:
    """The loss with the dense mask."""
    batch = Collator(mask="eager", window=model_windows(model.config), dtype=torch.float64)(rows)
    before = model.config._attn_implementation
    model.config._attn_implementation = attention
    loss = tiny.batch_loss(model, batch)
    model.config._attn_implementation = before
    return loss


def branch_loss(model: Any, rows: list[tiny.Row], multiple: int = 8) -> Any:
    return tiny.batch_loss(model, Collator(mask="branches", pad_to_multiple_of=multiple)(rows))


def off(model: Any, found: Any, expected: Any) -> tuple[float, float]:
    """Relative difference of the loss, and of the worst gradient."""
    loss = abs(found.item() / expected.item() - 1)
    return loss, tiny.distance(tiny.gradients(model, found), tiny.gradients(model, expected))


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


@pytest.mark.parametrize("name", ["flash_attention_3", "flash_attention_4", "of-a/hub-flash"])
def test_other_flash_attentions_take_branches(
    name: str, attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = transformers.AttentionInterface._global_mapping
    monkeypatch.setitem(registered, name, registered[FLASH])  # as a kernel of the hub is
    model = attended("mistral", name)
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    assert collator_for(model, layout="onepass").mask == "branches"
    assert abs(branch_loss(model, rows).item() / dense_loss(model, rows).item() - 1) < EQUAL


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


def forest_row(forest: forests.Forest) -> tiny.Row:
    ids = np.arange(1, len(forest) + 1)
    roots = [token for token, parent in enumerate(forest.parents) if parent is None]
    labels = np.where(np.isin(ids - 1, roots), -100, ids)
    return {**forests.row(forest), "input_ids": ids, "labels": labels}


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


# --- planted faults -------------------------------------------------------------------------------


def shifted(index: dict[str, Any]) -> None:
    index["k_index"] = (index["k_index"] - 1).clamp(min=0)


def misordered(index: dict[str, Any]) -> None:
    """The paths of the first two branches change places."""
    first, second = index["cu_seqlens_k"][1:3].tolist()
    k_index = index["k_index"]
    index["k_index"] = torch.cat([k_index[first:second], k_index[:first], k_index[second:]])
    index["cu_seqlens_k"][1] = second - first


KERNELS = {"a window forgotten": {"window_size": (-1, -1)}, "top left": {"top_left": True}}


def planted_gradient(model: Any, fault: str) -> float:
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    batch = Collator(mask="branches")(rows)
    if fault not in KERNELS:
        {"an index shifted by one": shifted, "a branch in the wrong order": misordered}[fault](
            batch[NAME]
        )
    found = tiny.batch_loss(model, batch)
    return off(model, found, dense_loss(model, rows))[1]


@pytest.mark.parametrize(
    "fault", [*KERNELS, "an index shifted by one", "a branch in the wrong order"]
)
def test_planted_faults_change_the_gradients(
    fault: str, attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attended("mistral", kernel=flash.varlen(**KERNELS.get(fault, {})))
    monkeypatch.setattr(BranchIndex, "check_positions", lambda *_: None)
    monkeypatch.setattr(
        "reasonpack.torch.branch_attention.check_aligned", lambda *_args, **_given: None
    )
    assert planted_gradient(model, fault) > WRONG


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("top left", r"gives \[1.0, 1.5, 1.0\].*not aligned bottom right"),
        ("an index shifted by one", "position_ids that do not count"),
    ],
)
def test_planted_faults_are_refused(fault: str, said: str, attended: Any) -> None:
    model = attended("mistral", kernel=flash.varlen(**KERNELS.get(fault, {})))
    with pytest.raises(UsageError, match=said):
        planted_gradient(model, fault)


@pytest.mark.parametrize("given", [{}, {"window": 3}, {"softcap": 0.5}, {"sinks": True}])
def test_the_reference_of_sdpa_is_the_definition(given: dict[str, Any]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, heads, 4).double() for n, heads in ((9, 4), (16, 2), (16, 2)))
    bounds = torch.tensor([0, 5, 9]), torch.tensor([0, 5, 16])
    if "sinks" in given:
        given = {"sinks": torch.randn(4).double()}
    window = given["window"] - 1 if "window" in given else -1
    said = {"softmax_scale": 0.5, "softcap": given.get("softcap"), "s_aux": given.get("sinks")}
    expected = flash.attention(q, k, v, bounds, {**said, "window_size": (window, 0)})
    assert torch.allclose(varlen_attention(q, k, v, *bounds, **given), expected, atol=1e-12)


# --- the gradient of the gathered keys ------------------------------------------------------------


def index_of(turns: int, seed: int = 0) -> tuple[BranchIndex, int]:
    until = np.asarray(
        Collator(mask="visible_until")([forest_row(forests.chats([turns], seed=seed))])[
            "visible_until"
        ]
    )
    return BranchIndex(**branch_index(until)), until.size


def test_copies_are_summed_in_float32() -> None:
    index, tokens = index_of(turns=32)
    torch.manual_seed(0)
    states = torch.randn(1, 2, tokens, 8, dtype=torch.bfloat16, requires_grad=True)
    grad = torch.randn(1, 2, len(index.k_index), 8, dtype=torch.bfloat16)
    gather.gathered(states, index).backward(grad)
    exact = torch.zeros(1, 2, tokens, 8, dtype=torch.float64)
    exact.index_add_(2, index.k_index, grad.double())
    assert states.grad is not None
    rounded = exact.to(torch.bfloat16)
    assert (states.grad != rounded).double().mean() < 1e-3  # but for ties of two roundings
    in_bf16 = torch.zeros_like(grad[:, :, :tokens]).index_add_(2, index.k_index, grad)
    assert (in_bf16 != rounded).double().mean() > 0.05


def test_a_kernel_keeps_no_gathered_copy(attended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Any]] = []
    honest = gather.gathered

    def watched(states: Any, index: Any) -> Any:
        copy = honest(states, index)
        kept.append(weakref.ref(copy.untyped_storage()))
        return copy

    model = attended("qwen3")
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    expected = dense_loss(model, rows)
    branch_loss(model, rows)  # the first batch also checks the kernel
    monkeypatch.setattr("reasonpack.torch.stock_attention.gathered", watched)

    def alive() -> tuple[Any, int]:
        kept.clear()
        loss = branch_loss(model, rows)
        gc.collect()
        return loss, sum(each() is not None for each in kept)

    loss, copies = alive()
    assert (len(kept), copies) == (4, 0)  # keys and values of two layers
    assert off(model, loss, expected)[1] < EQUAL
    monkeypatch.setattr("reasonpack.torch.gather._has_hooks", lambda: True)  # the planted fault
    assert alive()[1] == 4


def test_copies_that_are_kept_are_less_than_npass_holds(attended: Any) -> None:
    """Of two turns, where little is saved, and without the logits, which are most."""
    model = attended("qwen3")
    few = [tiny.random_views(seed, turns=2) for seed in range(3)]

    def held(layout: Any) -> int:
        """Bytes that a forward keeps under hooks of somebody else, which switch ours off."""
        batch = collator_for(model, layout=layout)(tiny.rows_of(few, layout=layout))
        kept = {}

        def pack(saved: Any) -> Any:
            kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            tiny.batch_loss(model, batch)
        return sum(each.nbytes() for each in kept.values()) - held_by_logits(batch)

    def held_by_logits(batch: dict[str, Any]) -> int:
        return batch["input_ids"].numel() * tiny.VOCABULARY * 8

    assert held("onepass") < held("npass")


def test_no_copy_is_kept_under_autocast_either(
    attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = []
    honest = gather.gathered

    def watched(states: Any, index: Any) -> Any:
        dtypes.append(states.dtype)
        return honest(states, index)

    model = attended("qwen3", dtype="float32")  # its norms give keys in float32
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    branch_loss(model, rows)
    monkeypatch.setattr("reasonpack.torch.stock_attention.gathered", watched)
    with torch.autocast("cpu", torch.bfloat16):
        branch_loss(model, rows).backward()
    assert dtypes == [torch.bfloat16] * 4


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
