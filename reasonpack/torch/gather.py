"""Keys and values of a row become those of its paths; gradients are summed in a fixed order.

    key [1, G, T, D] ──k_index──▶ [1, G, K, D]        a copy for each path that a token is on
    grad [1, G, T, D] ◀──sum_order── [1, G, K, D]     summed in float32, copy by copy

Up to N branches add to the gradient of one key: bf16 would lose precision that float32 keeps, and a
scatter on a GPU would add in another order each time.

A kernel saves its keys and values for the backward pass. `regathered` saves those of the row
instead, and gathers again in the backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from reasonpack.torch.branch_index import BranchIndex


def gathered(states: torch.Tensor, index: BranchIndex) -> torch.Tensor:
    """Lay the keys or values of all paths end to end: `[1, G, T, D]` to `[1, G, K, D]`.

    The copy is contiguous as `[1, K, G, D]`, which varlen kernels require.
    """
    rows = states[0].transpose(0, 1)
    gather: Any = _Gather.apply
    copies: torch.Tensor = gather(rows, index.k_index, index.sum_order, index.sum_offsets)
    return copies[None].transpose(1, 2)


class _Gather(torch.autograd.Function):  # type: ignore[misc,unused-ignore]
    """`rows[k_index]`, whose backward pass is a segmented sum."""

    @staticmethod
    def forward(
        rows: torch.Tensor, k_index: torch.Tensor, order: torch.Tensor, offsets: torch.Tensor
    ) -> torch.Tensor:
        del order, offsets
        return rows.index_select(0, k_index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        order, offsets = ctx.saved_tensors
        wide = torch.promote_types(grad.dtype, torch.float32)
        ordered = grad.index_select(0, order).to(wide)
        summed = torch.segment_reduce(ordered, "sum", offsets=offsets, axis=0, unsafe=True)
        return summed.to(grad.dtype), None, None, None


def regathered(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], index: BranchIndex
) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the copies are not saved for the backward pass but gathered again.

    Does nothing while compiling, without gradients, or while other hooks on saved tensors are
    active, e.g. those of gradient checkpointing, which saves no copy either.

    Args:
        pairs: keys or values of the row, `[1, G, T, D]`, and their gathered copy, `[1, G, K, D]`.
        index: the index with which they were gathered.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or _has_hooks():
        return contextlib.nullcontext()
    sources = [(source.detach(), copy.data_ptr(), copy.numel()) for source, copy in pairs]

    def pack(saved: torch.Tensor) -> Any:
        for source, address, size in sources:
            if saved.data_ptr() == address and saved.numel() == size and saved.is_contiguous():
                return source, saved.shape
        return saved

    def unpack(kept: Any) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        source, shape = kept
        return gathered(source, index).transpose(1, 2).reshape(shape)

    hooks: contextlib.AbstractContextManager[Any]
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, unpack)
    return hooks


def _has_hooks() -> bool:
    """Return whether other hooks on saved tensors are active; True if this torch does not say."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None
