"""A FlashAttention for the CPU, by its definition, under transformers' own code.

    install(monkeypatch) ──▶ attn_implementation "flash_attention_2" calls `varlen()`

Everything of transformers around the kernel stays. As the kernel does, it keeps q, k and v for its
backward, and nothing else of size. Nothing is shared with the package's reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import modeling_flash_attention_utils as stock

Bounds = torch.Tensor
Varlen = Callable[..., torch.Tensor]


def scores_of(
    q: torch.Tensor, k: torch.Tensor, lengths: tuple[int, int], given: dict[str, Any]
) -> torch.Tensor:
    """`[H, m, n]`, −inf where a query must not look."""
    m, n = lengths
    scores = torch.einsum("mhd,nhd->hmn", q, k) * given["softmax_scale"]
    if given["softcap"]:
        scores = given["softcap"] * torch.tanh(scores / given["softcap"])
    i, j = torch.arange(m)[:, None], torch.arange(n)
    if not given.get("top_left"):
        i = i + n - m
    seen = j <= i
    if given["window_size"][0] >= 0:
        seen &= j >= i - given["window_size"][0]
    return torch.where(seen, scores, float("-inf"))


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: tuple[Bounds, Bounds], given: Any
) -> torch.Tensor:
    copies = q.shape[1] // k.shape[1]
    out = []
    for at in range(len(bounds[0]) - 1):
        (q0, q1), (k0, k1) = (each[at : at + 2].tolist() for each in bounds)
        keys, values = (each[k0:k1].repeat_interleave(copies, dim=1) for each in (k, v))
        scores = scores_of(q[q0:q1], keys, (q1 - q0, k1 - k0), given)
        if given["s_aux"] is not None:
            sinks = given["s_aux"][:, None, None].expand(-1, q1 - q0, 1)
            scores = torch.cat([scores, sinks.to(scores.dtype)], dim=-1)
        shares = torch.softmax(scores, dim=-1)[:, :, : k1 - k0]
        out.append(torch.einsum("hmn,nhd->mhd", shares, values))
    return torch.cat(out)


class Kernel(torch.autograd.Function):
    """Keeps q, k and v; computes everything again in its backward."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, sinks: Any, bounds: Any, given: Any) -> Any:
        ctx.save_for_backward(q, k, v, *([] if sinks is None else [sinks]))
        ctx.given = bounds, given
        return attention(q, k, v, bounds, {**given, "s_aux": sinks})

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        bounds, given = ctx.given
        with torch.enable_grad():
            inputs = [each.detach().requires_grad_() for each in ctx.saved_tensors]
            sinks = inputs[3] if len(inputs) > 3 else None
            out = attention(*inputs[:3], bounds, {**given, "s_aux": sinks})
        found = torch.autograd.grad(out, inputs, grad)
        return *found[:3], found[3] if sinks is not None else None, None, None


def varlen(**planted: Any) -> Varlen:
    """The kernel, or one with a fault: `top_left=True`, `window_size=(-1, -1)`."""

    def flash_attn_varlen_func(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: Bounds,
        cu_seqlens_k: Bounds,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        s_aux: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert causal
        assert not dropout_p
        assert (len(q), len(k)) == (cu_seqlens_q[-1], cu_seqlens_k[-1])
        assert cu_seqlens_q.diff().max() <= max_seqlen_q
        assert cu_seqlens_k.diff().max() <= max_seqlen_k
        assert all(each.is_contiguous() for each in (k, v))
        given = {
            "softmax_scale": softmax_scale or q.shape[-1] ** -0.5,
            "window_size": window_size,
            "softcap": softcap,
            **planted,
        }
        out: torch.Tensor = Kernel.apply(q, k, v, s_aux, (cu_seqlens_q, cu_seqlens_k), given)
        return out

    return flash_attn_varlen_func


def install(
    monkeypatch: pytest.MonkeyPatch, name: str = "flash_attention_2", kernel: Varlen | None = None
) -> None:
    """Let transformers find the kernel under a stock name."""
    found = kernel or varlen()

    def plain(q: Any, k: Any, v: Any, **given: Any) -> Any:
        size = q.shape[0] * q.shape[1]
        bounds = torch.arange(0, size + 1, q.shape[1], dtype=torch.int32)
        flat = [each.reshape(-1, *each.shape[2:]).contiguous() for each in (q, k, v)]
        return found(*flat, bounds, bounds, size, size, **given).view(q.shape)

    process = stock._lazy_define_process_function(found)
    for attribute, value in {
        "_loaded_implementation": name,
        "_flash_fn": plain,
        "_flash_varlen_fn": found,
        "_process_flash_kwargs_fn": process,
    }.items():
        monkeypatch.setattr(stock, attribute, value)


def with_flash(model: Any, name: str = "flash_attention_2") -> Any:
    """Set the implementation, as loading does where the kernel is installed."""
    model.config._attn_implementation = name
    return model
