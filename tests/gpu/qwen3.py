"""A small decoder of Qwen3's shape in plain PyTorch; attention is a function that is passed in.

    input_ids i64[B, T], position_ids i64[B, T], attend(q, k, v) -> logits [B, T, V]

Grouped queries, norms of queries and keys, rotary positions from `position_ids`, SwiGLU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the usual name)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""q `[B, H, T, D]`, k and v `[B, G, T, D]` (H a multiple of G) -> `[B, H, T, D]`."""


@dataclass(frozen=True)
class Shape:
    """By default that of Qwen3-0.6B with a small vocabulary and fewer layers."""

    width: int = 1024
    layers: int = 8
    heads: int = 16
    groups: int = 8
    head_dim: int = 128
    inner: int = 3072
    vocabulary: int = 1024


class Layer(nn.Module):
    """Attention and MLP, each after a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.head_dim, shape.groups * shape.head_dim
        self.before_attention = nn.RMSNorm(shape.width, eps=1e-6)
        self.query_key_value = nn.Linear(shape.width, queries + 2 * keys, bias=False)
        self.query_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(shape.head_dim, eps=1e-6)
        self.out = nn.Linear(queries, shape.width, bias=False)
        self.before_mlp = nn.RMSNorm(shape.width, eps=1e-6)
        self.gate_up = nn.Linear(shape.width, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        shape = self.shape
        heads = self.query_key_value(self.before_attention(x)).unflatten(-1, (-1, shape.head_dim))
        q, k, v = heads.split([shape.heads, shape.groups, shape.groups], dim=2)
        q = _rotate(self.query_norm(q), cos, sin)
        k = _rotate(self.key_norm(k), cos, sin)
        seen = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    """Embedding, layers, norm and the same embedding again."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        nn.init.normal_(self.embed.weight, std=shape.width**-0.5)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        cos, sin = _angles(position_ids, self.shape.head_dim)
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, cos.to(x.dtype), sin.to(x.dtype), attend)
        return F.linear(self.norm(x), self.embed.weight)


def _angles(position_ids: torch.Tensor, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    rates = 1e6 ** -(torch.arange(0, head_dim, 2, device=position_ids.device) / head_dim)
    angles = position_ids[:, :, None, None].float() * rates
    return angles.cos(), angles.sin()


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
