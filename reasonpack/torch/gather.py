"""Keys and values of a row become those of its paths, and their gradients go back in fixed order.

    key [1, G, T, D] ──k_index──▶ [1, G, K, D]        a copy for each path that a token is on
    grad [1, G, T, D] ◀──sum_order── [1, G, K, D]     summed in float32, copy by copy

Up to N branches add to one key: in bf16 that would lose what float32 keeps, and a scatter on a GPU
would add in another order each time.

A kernel keeps its keys and values for the backward. `regathered` keeps the row's own instead, and
gathers again when they are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from reasonpack.torch.branch_index import BranchIndex


def gathered(states: torch.Tensor, index: BranchIndex) -> torch.Tensor:
    """Lay the keys or values of all paths end to end: `[1, G, T, D]` to `[1, G, K, D]`.

    The memory of the copy is that of `[1, K, G, D]`, as varlen kernels want it.
    """
    rows = states[0].transpose(0, 1)
    gather: Any = _Gather.apply
    copies: torch.Tensor = gather(rows, index.k_index, index.sum_order, index.sum_offsets)
    return copies[None].transpose(1, 2)


class _Gather(torch.autograd.Function):  # type: ignore[misc,unused-ignore]
    """`rows[k_index]`, whose backward is a sum of segments."""

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
    """Let what runs inside keep no copy of these for its backward, but gather it again.

    Does nothing while compiling, and where other hooks on saved tensors are active, as those of
    gradient checkpointing are, which keep no copy either.

    Args:
        pairs: what was gathered, `[1, G, T, D]`, and its copy, `[1, G, K, D]`.
        index: by which it was.
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
    """Tell whether somebody else's hooks are active; yes if this torch does not say."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None
