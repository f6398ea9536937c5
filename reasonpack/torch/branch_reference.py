"""What a varlen kernel computes that is causal and aligned bottom right, branch by branch.

    q [T, H, D], k and v [K, G, D], bounds of branches and of paths ──▶ [T, H, D]

For `sdpa` on a CPU, in any precision, and for tests. Cost: the scores of one branch at a time are
written out.
"""

from __future__ import annotations

from itertools import pairwise

import torch

__all__ = ["varlen_attention"]


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute attention by its definition; query heads share key heads in order.

    Args:
        q: `[T, H, D]`.
        k: `[K, G, D]`, H a multiple of G.
        v: `[K, G, E]`.
        cu_seqlens_q: `i32[N + 1]`.
        cu_seqlens_k: `i32[N + 1]`.
        scale: of the scores; D^-0.5 by default.
        window: keys that a query sees, its own included.
        softcap: bound of the scores, by tanh.
        sinks: `[H]`, a score of each head that takes its share and gives no value.
    """
    copies = q.shape[1] // k.shape[1]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    parts = []
    bounds = zip(pairwise(cu_seqlens_q.tolist()), pairwise(cu_seqlens_k.tolist()), strict=True)
    for (q0, q1), (k0, k1) in bounds:
        keys, values = (x[k0:k1].repeat_interleave(copies, dim=1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q[q0:q1], keys) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        last = k1 - k0 - (q1 - q0)  # the key that stands before the first query
        behind = torch.arange(q1 - q0, device=q.device)[:, None] + last
        behind = behind - torch.arange(k1 - k0, device=q.device)
        hidden = (behind < 0) | (behind >= (window or k1 - k0))
        scores = scores.masked_fill(hidden, float("-inf"))
        if sinks is not None:
            column = sinks.to(scores.dtype)[:, None, None].expand(-1, q1 - q0, 1)
            scores = torch.cat([scores, column], dim=-1)
        shares = scores.softmax(dim=-1)[..., : k1 - k0]
        parts.append(torch.einsum("hqk,khd->qhd", shares, values))
    return torch.cat(parts)
