"""Gathered keys and values: their gradient is summed in float32, and no copy is kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import forests  # noqa: E402
from branching import (  # noqa: E402
    EQUAL,
    PACKED,
    branch_loss,
    conversations,
    dense_loss,
    forest_row,
    off,
)

from reasonpack.torch import (  # noqa: E402
    Collator,
    collator_for,
    gather,
)
from reasonpack.torch.branch_index import BranchIndex, branch_index  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]


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
