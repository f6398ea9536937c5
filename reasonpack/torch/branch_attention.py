"""The attention of a `transformers` model takes onepass rows by their branches.

    attend_by_branches(model)       before the trainer is made; .remove() takes it back

    batch["branches"] ─▶ hook of the model: whole? ─▶ each layer: keys of the paths gathered
                                                      ─▶ the model's own FlashAttention

It stands over the implementation that the model has (`flash_attention_2`, `_3`, `_4`, a kernel of
the hub), so windows, softcaps, sinks and the checks of trainers stay as they are. Over `sdpa` it
stands with a reference that is slow, and exact in float64 on a CPU. A batch without `branches` goes
on as before, if its rows need none (`lost`).

The registration is the process's; each model that is trained needs the call, for its hook.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from reasonpack.errors import UsageError
from reasonpack.torch.branch_index import NAME, BranchIndex, branch_index
from reasonpack.torch.branch_reference import varlen_attention
from reasonpack.torch.gather import gathered, regathered
from reasonpack.torch.lost import check_plain, is_of_padding

__all__ = ["BranchAttention", "attend_by_branches", "is_attended_by_branches"]

Attention = Callable[..., tuple[torch.Tensor, Any]]

_stock: dict[str, tuple[Attention, int]] = {}
"""What stood under each name before, and for how many models it was replaced."""
_models: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


def attend_by_branches(model: torch.nn.Module) -> BranchAttention:
    """Let a model's attention take the `branches` of a batch, and refuse batches that lost them.

    Args:
        model: a `transformers` model, before or after adapters were put on; not yet wrapped by a
            trainer.

    Returns:
        What `remove()` takes it back with.

    Raises:
        UsageError: its attention is no FlashAttention and not `sdpa`, or its kernel does not align
            bottom right. Where the model is not on its device yet, its first batch says so.
    """
    return BranchAttention(model)


def is_attended_by_branches(model: Any) -> bool:
    """Tell whether `attend_by_branches` was called for this model, or one inside it.

    Of a configuration alone: whether it was called for any model of its `_attn_implementation`.
    """
    if isinstance(model, torch.nn.Module):
        return any(module in _models for module in model.modules())
    return str(getattr(model, "_attn_implementation", None)) in _stock


class BranchAttention:
    """What `attend_by_branches` did to a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        if is_attended_by_branches(model):
            raise UsageError(
                "attend_by_branches: the model has it already, expected one call a model. "
                "Fix: remove() the first."
            )
        self._model = model
        self._config = _text_config(model)
        self._name = _checked_name(self._config)
        self._aligned: set[torch.device] = set()
        self._placed: set[bool] = set()
        self._calls = 0
        _register(self._name)
        device = next(model.parameters()).device
        if device.type == "cuda" or (device.type, self._name) == ("cpu", "sdpa"):
            try:
                self._check_aligned(device)
            except Exception:
                _unregister(self._name)
                raise
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]
        _models.add(model)

    def remove(self) -> None:
        """Take the hooks off, and the attention too where no other model needs it."""
        if self._model not in _models:
            return
        _models.discard(self._model)
        for hook in self._hooks:
            hook.remove()
        _unregister(self._name)

    def _before(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if getattr(model, "_is_replica", False):
            raise UsageError(
                "DataParallel: it splits the tensors of a batch, expected one process a GPU. "
                "Fix: start with torchrun or accelerate launch, or show one GPU to the process."
            )
        given = kwargs.get(NAME)
        if given is None:
            if is_of_padding(mask):
                check_plain(positions, mask, lost=NAME, training=model.training)
            return args, kwargs
        index = BranchIndex.of(given, positions)
        if mask is not None:
            raise UsageError(
                f"batch: {NAME} and an attention_mask, expected one of the two. "
                "Fix: let the trainer add no mask; the index says all."
            )
        if positions is not None and not torch.compiler.is_compiling():
            self._check_batch(index, positions)
        return args, {**kwargs, NAME: (index, self._count)}

    def _check_batch(self, index: BranchIndex, positions: torch.Tensor) -> None:
        if getattr(self._config, "_attn_implementation", None) != self._name:
            raise UsageError(
                f"attn_implementation: {self._config._attn_implementation!r}, expected "
                f"{self._name!r} as when attend_by_branches was called. Fix: call it after the "
                "implementation is set."
            )
        if positions.device not in self._aligned:
            self._check_aligned(positions.device)
        if self._model.training not in self._placed and len(index.k_index) > positions.shape[-1]:
            index.check_positions(positions)  # trainers are wrong in every batch or in none
            self._placed.add(self._model.training)
        self._calls = 0

    def _count(self) -> None:
        self._calls += 1

    def _after(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        del args, out
        if kwargs.get(NAME) is None or torch.compiler.is_compiling() or _is_compiled(model):
            return
        layers = int(getattr(self._config, "num_hidden_layers", 1))
        if self._calls < layers:
            raise UsageError(
                f"{type(model).__name__}: {self._calls} of {layers} layers took the {NAME}, "
                "expected all: its attention does not go through the interface of transformers. "
                "Fix: take an implementation with a mask, or pack with --layout npass."
            )

    def _check_aligned(self, device: torch.device) -> None:
        _check_aligned(self._config, self._name, device=device, dtype=_dtype(self._model))
        self._aligned.add(device)


# --- the attention of a layer ---------------------------------------------------------------------


def _attention(
    stock: Attention,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Call the stock attention with the keys of each branch's path, or as it is."""
    given = kwargs.pop(NAME, None)
    if given is None:
        return stock(module, query, key, value, attention_mask, **kwargs)
    if not isinstance(given, tuple):
        raise UsageError(
            f"batch: {NAME} for a model without attend_by_branches, expected its hook to take "
            "them. Fix: call attend_by_branches(model) for each model that is trained."
        )
    index, count = given
    if key.shape[2] != len(index.sum_offsets) - 1 or key.shape[0] != 1:
        raise UsageError(
            f"attention: keys of shape {tuple(key.shape)} for a row of "
            f"{len(index.sum_offsets) - 1} tokens, expected a key for each, none of a cache. "
            "Fix: train with use_cache=False."
        )
    key, value = _lowered(key), _lowered(value)
    keys, values = gathered(key, index), gathered(value, index)
    with regathered([(key, keys), (value, values)], index):
        out = stock(module, query, keys, values, None, **kwargs, **_sizes(index))
    if not torch.compiler.is_compiling():
        count()
    return out


def _lowered(states: torch.Tensor) -> torch.Tensor:
    """Take the precision that FlashAttention will ask for, before copies are made."""
    kind = states.device.type
    if states.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return states.to(torch.get_autocast_dtype(kind))
    return states


def _sizes(index: BranchIndex) -> dict[str, Any]:
    return {
        "cu_seq_lens_q": index.cu_seqlens_q,
        "cu_seq_lens_k": index.cu_seqlens_k,
        "max_length_q": index.max_seqlen_q,
        "max_length_k": index.max_seqlen_k,
    }


def _reference(
    stock: Attention,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Stand under `sdpa`: its own function without branches, the definition with them."""
    if "cu_seq_lens_q" not in kwargs or attention_mask is not None:
        return stock(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("dropout"):
        raise UsageError(
            f"attention: dropout {kwargs['dropout']}, expected 0 with the reference of sdpa. "
            "Fix: set attention_dropout=0, or take FlashAttention."
        )
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


# --- registration ---------------------------------------------------------------------------------


def _register(name: str) -> None:
    from transformers import AttentionInterface  # noqa: PLC0415 - not needed for other masks

    stock, models = _stock.get(name, (None, 0))
    if stock is None:
        stock = _registered(name)
        below = functools.partial(_reference, stock) if name == "sdpa" else stock
        AttentionInterface.register(name, functools.partial(_attention, below))
    _stock[name] = (stock, models + 1)


def _registered(name: str) -> Attention:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: PLC0415

    found: Attention = ALL_ATTENTION_FUNCTIONS[name]
    return found


def _unregister(name: str) -> None:
    from transformers import AttentionInterface  # noqa: PLC0415

    stock, models = _stock.pop(name)
    if models > 1:
        _stock[name] = (stock, models - 1)
    else:
        AttentionInterface.register(name, stock)


def _checked_name(config: Any) -> str:
    name = str(getattr(config, "_attn_implementation", None))
    if name != "sdpa" and ("flash" not in name or "|" in name):
        raise UsageError(
            f"attn_implementation: {name!r}, expected a FlashAttention (flash_attention_2, _3, _4, "
            "a kernel of the hub), or sdpa for its reference. Fix: load the model with "
            'attn_implementation="flash_attention_2".'
        )
    return name


def _check_aligned(config: Any, name: str, *, device: torch.device, dtype: torch.dtype) -> None:
    """Let the kernel attend in the row h t r, of which r follows h: 2 keys, of a branch of 1 token.

    All scores are 0, so a token gets the mean of the values that it sees. Aligned top left, r
    sees h alone.

    Raises:
        UsageError: the kernel shows a token what it must not see, or hides something.
    """
    if device.type != "cpu" and dtype not in (torch.float16, torch.bfloat16):
        dtype = torch.bfloat16  # a kernel of FlashAttention takes no other
    given: dict[str, Any] = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in branch_index(np.array([[3, 2, 3]], np.int32)).items()
    }
    layer: Any = torch.nn.Linear(1, 1, dtype=dtype)  # what is asked of a layer's attention
    layer.config, layer.is_causal, layer.layer_idx = config, True, 0
    size = int(getattr(config, "head_dim", None) or 64)
    values = torch.tensor([1.0, 2.0, 4.0], device=device, dtype=dtype)
    states = values[None, None, :, None].expand(1, 1, 3, size)
    with torch.no_grad():
        out, _ = _registered(name)(
            layer,
            torch.zeros_like(states),
            torch.zeros_like(states),
            states,
            None,
            scaling=1.0,
            **{NAME: (BranchIndex(**given), lambda: None)},
        )
    seen = [round(mean, 3) for mean in out[0, :, 0, 0].float().tolist()]
    if seen != [1.0, 1.5, 2.5]:
        raise UsageError(
            f"{name}: a row of 3 tokens gives {seen}, expected [1.0, 1.5, 2.5]: the kernel is not "
            "aligned bottom right where queries are fewer than keys. Fix: take FlashAttention "
            "2.1 or later, or an implementation with a mask (flex_attention)."
        )


def _is_compiled(model: torch.nn.Module) -> bool:
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def _dtype(model: torch.nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _text_config(model: Any) -> Any:
    config = getattr(model, "config", model)
    get_text_config = getattr(config, "get_text_config", None)
    return get_text_config() if get_text_config else config
