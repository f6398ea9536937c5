"""Wrap a stock attention of `transformers`: gather the keys of each path, then call it.

    attention of a name ──register──▶ with branches: keys gathered, then the stock function
                                      without: the stock function

SDPA takes no bounds of sequences, so for `sdpa` a reference is called, which works in any precision
and makes the dense scores of one branch at a time. The wrapper is registered for the process, until
the last model that needs it is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from reasonpack.errors import UsageError
from reasonpack.torch.branch_index import NAME, BranchIndex, branch_index
from reasonpack.torch.gather import gathered, regathered

Attention = Callable[..., tuple[torch.Tensor, Any]]
Note = Callable[[int | None], None]
"""Called with the window of each layer that used the index."""

_stock: dict[str, tuple[Attention, int]] = {}
"""The stock function of each name that is wrapped, and how many models need the wrapper."""


def register(name: str) -> None:
    """Wrap the attention registered under `name`, once for all models, and count the model."""
    from transformers import AttentionInterface  # noqa: PLC0415 - not needed for other masks

    stock, models = _stock.get(name, (None, 0))
    if stock is None:
        stock = _registered(name)
        below = functools.partial(_reference, stock) if name == "sdpa" else stock
        AttentionInterface.register(name, functools.partial(_branch_attention, below))
    _stock[name] = (stock, models + 1)


def _registered(name: str) -> Attention:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: PLC0415

    found: Attention = ALL_ATTENTION_FUNCTIONS[name]
    return found


def unregister(name: str) -> None:
    """Register the stock attention again, if no other model needs the wrapper."""
    from transformers import AttentionInterface  # noqa: PLC0415

    stock, models = _stock.pop(name)
    if models > 1:
        _stock[name] = (stock, models - 1)
    else:
        AttentionInterface.register(name, stock)


def is_registered(name: str) -> bool:
    """Return whether the attention of this name is wrapped."""
    return name in _stock


def check_aligned(config: Any, name: str, *, device: torch.device, dtype: torch.dtype) -> None:
    """Check that a kernel aligns bottom right, on the row h t r: branch r has 1 query, 2 keys.

    All scores are 0, so a token gets the mean of the values that it sees. Aligned top left, r
    would see only h.

    Raises:
        UsageError: a token sees what it must not see, or does not see what it must.
    """
    if device.type != "cpu" and dtype not in (torch.float16, torch.bfloat16):
        dtype = torch.bfloat16  # kernels of FlashAttention take no other
    given: dict[str, Any] = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in branch_index(np.array([[3, 2, 3]], np.int32)).items()
    }
    layer: Any = torch.nn.Linear(1, 1, dtype=dtype)  # has the attributes that attentions read
    layer.config, layer.is_causal, layer.layer_idx = config, True, 0
    values = torch.tensor([1.0, 2.0, 4.0], device=device, dtype=dtype)
    states = values[None, None, :, None].expand(1, 1, 3, 64)
    with torch.no_grad():
        out, _ = _registered(name)(
            layer,
            torch.zeros_like(states),
            torch.zeros_like(states),
            states,
            None,
            scaling=1.0,
            **{NAME: (BranchIndex(**given), lambda _window: None)},
        )
    seen = [round(mean, 3) for mean in out[0, :, 0, 0].float().tolist()]
    if seen != [1.0, 1.5, 2.5]:
        raise UsageError(
            name,
            f"a row of 3 tokens gives {seen}",
            "[1.0, 1.5, 2.5]: the kernel is not aligned bottom right where queries "
            "are fewer than keys",
            "take FlashAttention 2.1 or later, or an implementation with a mask (flex_attention)",
        )


def _branch_attention(
    stock: Attention,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Call the stock attention with the gathered keys of each path; unchanged without branches."""
    given = kwargs.pop(NAME, None)
    if given is None:
        return stock(module, query, key, value, attention_mask, **kwargs)
    if not isinstance(given, tuple):
        what = f"{NAME} for a model without attend_by_branches"
        fix = "call attend_by_branches(model) for each model that is trained"
        raise UsageError("batch", what, "its hook", fix)
    index, note = given
    if key.shape[2] != len(index.sum_offsets) - 1 or key.shape[0] != 1:
        what = f"keys of shape {tuple(key.shape)} for a row of {len(index.sum_offsets) - 1} tokens"
        expected = "a key for each, none of a cache"
        raise UsageError("attention", what, expected, "train with use_cache=False")
    key, value = _autocast(key), _autocast(value)
    keys, values = gathered(key, index), gathered(value, index)
    sizes = {
        "cu_seq_lens_q": index.cu_seqlens_q,
        "cu_seq_lens_k": index.cu_seqlens_k,
        "max_length_q": index.max_seqlen_q,
        "max_length_k": index.max_seqlen_k,
    }
    with regathered([(key, keys), (value, values)], index):
        out = stock(module, query, keys, values, None, **kwargs, **sizes)
    if not torch.compiler.is_compiling():
        note(kwargs.get("sliding_window"))
    return out


def _autocast(states: torch.Tensor) -> torch.Tensor:
    """Cast to the precision that FlashAttention will need, before copies are made."""
    kind = states.device.type
    if states.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return states.to(torch.get_autocast_dtype(kind))
    return states


def _reference(
    stock: Attention,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Call SDPA without branches, and `varlen_attention` with them."""
    if "cu_seq_lens_q" not in kwargs or attention_mask is not None:
        return stock(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("dropout"):
        what = f"dropout {kwargs['dropout']}"
        fix = "set attention_dropout=0, or take FlashAttention"
        raise UsageError("attention", what, "0 with the reference of sdpa", fix)
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    out = varlen_attention(
        q,
        k,
        v,
        kwargs["cu_seq_lens_q"],
        kwargs["cu_seq_lens_k"],
        scale=kwargs.get("scaling"),
        window=kwargs.get("sliding_window"),
        softcap=kwargs.get("softcap"),
        sinks=kwargs.get("s_aux"),
    )
    return out[None], None


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
    """Compute attention by its definition, causal and aligned bottom right, branch by branch.

    Args:
        q: `[T, H, D]`.
        k: `[K, G, D]`, H a multiple of G; query heads share key heads in order.
        v: `[K, G, E]`.
        cu_seqlens_q: `i32[N + 1]`.
        cu_seqlens_k: `i32[N + 1]`.
        scale: factor of the scores; D^-0.5 by default.
        window: how many keys a query sees, its own included; None for all.
        softcap: bound of the scores, by tanh; None for no bound.
        sinks: `[H]`, for each head a score that takes its share of the softmax and has no value.
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
        ancestors = k1 - k0 - (q1 - q0)  # keys before that of the first query
        behind = torch.arange(q1 - q0, device=q.device)[:, None] + ancestors
        behind = behind - torch.arange(k1 - k0, device=q.device)
        hidden = (behind < 0) | (behind >= (window or k1 - k0))
        scores = scores.masked_fill(hidden, float("-inf"))
        if sinks is not None:
            column = sinks.to(scores.dtype)[:, None, None].expand(-1, q1 - q0, 1)
            scores = torch.cat([scores, column], dim=-1)
        shares = scores.softmax(dim=-1)[..., : k1 - k0]
        parts.append(torch.einsum("hqk,khd->qhd", shares, values))
    return torch.cat(parts)
