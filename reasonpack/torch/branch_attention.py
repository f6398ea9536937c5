"""Make the attention of a `transformers` model compute onepass rows branch by branch.

    attend_by_branches(model)       before the trainer is made; .remove() undoes it

    batch["branches"] ─▶ hook of the model: whole? ─▶ each layer: keys of the paths gathered
                                                      ─▶ the model's own FlashAttention

The implementation that the model has is wrapped (`flash_attention_2`, `_3`, `_4`, a kernel of the
hub), so windows, softcaps, sinks and the checks of trainers stay as they are. For `sdpa`, a
reference is called that is slow, and exact in float64 on a CPU. A batch without `branches` is
computed as before, if its rows need none (`lost_mask`).

The wrapper is registered for the process; each model to be trained needs the call, for its hook.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Any

import torch

from reasonpack.errors import UsageError
from reasonpack.torch.branch_index import NAME, BranchIndex
from reasonpack.torch.lost_mask import check_applied, check_plain, is_only_padding
from reasonpack.torch.stock_attention import check_aligned, is_registered, register, unregister

_models: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


def attend_by_branches(model: torch.nn.Module) -> BranchAttention:
    """Make a model's attention use the `branches` of a batch, and refuse batches that lost them.

    Args:
        model: a `transformers` model, before or after adapters were put on; not yet wrapped by a
            trainer.

    Returns:
        A handle; its `remove()` undoes this.

    Raises:
        UsageError: its attention is neither FlashAttention nor `sdpa`, or its kernel does not align
            bottom right. If the model is not on its device yet, its first batch raises this.
    """
    return BranchAttention(model)


def is_attended_by_branches(model: Any) -> bool:
    """Return whether `attend_by_branches` was called for this model, or for one inside it.

    For a configuration: whether it was called for any model with its `_attn_implementation`.
    """
    if isinstance(model, torch.nn.Module):
        return any(module in _models for module in model.modules())
    return is_registered(implementation_of(model))


class BranchAttention:
    """The hooks that `attend_by_branches` put on a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        check_module(model)
        if is_attended_by_branches(model):
            what = "it was called for this model before"
            raise UsageError("attend_by_branches", what, "one call per model", "remove() the first")
        self._model = model
        self._config = text_config(model)
        self._name = _checked_name(self._config)
        self._aligned: set[torch.device] = set()
        self._placed: set[bool] = set()
        self._windows: list[int | None] = []  # of the layers that used the index
        register(self._name)
        device = next(model.parameters()).device
        if device.type == "cuda" or (device.type, self._name) == ("cpu", "sdpa"):
            try:
                self._check_aligned(device)
            except Exception:
                unregister(self._name)
                raise
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]
        _models.add(model)

    def remove(self) -> None:
        """Remove the hooks, and the wrapper of the attention if no other model needs it."""
        if self._model not in _models:
            return
        _models.discard(self._model)
        for hook in self._hooks:
            hook.remove()
        unregister(self._name)

    def _before(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if getattr(model, "_is_replica", False):
            what = "it splits the tensors of a batch"
            fix = "start with torchrun or accelerate launch, or show one GPU to the process"
            raise UsageError("DataParallel", what, "one process a GPU", fix)
        check_applied(kwargs)
        given = kwargs.get(NAME)
        if given is None:
            if is_only_padding(mask):
                check_plain(positions, mask, lost=NAME, training=model.training)
            return args, kwargs
        index = BranchIndex.of(given, positions)
        if mask is not None:
            fix = "let the trainer add no mask; the index replaces it"
            raise UsageError("batch", f"{NAME} and an attention_mask", "one of the two", fix)
        if positions is not None and not torch.compiler.is_compiling():
            self._check_batch(index, positions)
        return args, {**kwargs, NAME: (index, self._note)}

    def _check_batch(self, index: BranchIndex, positions: torch.Tensor) -> None:
        if (found := implementation_of(self._config)) != self._name:
            what = f"{found!r}"
            expected = f"{self._name!r} as when attend_by_branches was called"
            fix = "call it after the implementation is set"
            raise UsageError("attn_implementation", what, expected, fix)
        if positions.device not in self._aligned:
            self._check_aligned(positions.device)
        if self._model.training not in self._placed and len(index.k_index) > positions.shape[-1]:
            index.check_positions(positions)  # a trainer replaces them in all batches or in none
            self._placed.add(self._model.training)
        self._windows.clear()

    def _note(self, window: int | None) -> None:
        self._windows.append(window)

    def _after(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        del args, out
        if kwargs.get(NAME) is None or torch.compiler.is_compiling() or _is_compiled(model):
            return
        layers = int(getattr(self._config, "num_hidden_layers", 1))
        if len(self._windows) < layers:
            raise UsageError(
                type(model).__name__,
                f"{len(self._windows)} of {layers} layers took the {NAME}",
                "all: its attention does not go through the interface of transformers",
                "take an implementation with a mask, or pack with --layout npass",
            )
        windowed = sum(window is not None for window in self._windows[:layers])
        if windowed != (expected := _windowed_layers(self._config, layers)):
            raise UsageError(
                type(model).__name__,
                f"{windowed} of {layers} layers passed a sliding window to the kernel",
                f"{expected} as its configuration says: the others would see too many tokens",
                "take an implementation with a mask (flex_attention)",
            )

    def _check_aligned(self, device: torch.device) -> None:
        dtype = next(self._model.parameters()).dtype
        check_aligned(self._config, self._name, device=device, dtype=dtype)
        self._aligned.add(device)


def _checked_name(config: Any) -> str:
    name = implementation_of(config)
    if name != "sdpa" and not is_flash(name):
        raise UsageError(
            "attn_implementation",
            f"{name!r}",
            "a FlashAttention (flash_attention_2, _3, _4, a kernel of the hub), or "
            "sdpa for its reference",
            'load the model with attn_implementation="flash_attention_2"',
        )
    return name


def _windowed_layers(config: Any, layers: int) -> int:
    """Count the layers that have a sliding window according to the configuration."""
    if not getattr(config, "sliding_window", None):
        return 0
    if getattr(config, "use_sliding_window", True) is False:
        return 0
    types = getattr(config, "layer_types", None)
    return layers if types is None else list(types).count("sliding_attention")


def _is_compiled(model: torch.nn.Module) -> bool:
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def check_module(model: Any) -> None:
    """Refuse what is no model, such as its configuration.

    Raises:
        UsageError: it is no `torch.nn.Module`.
    """
    if not isinstance(model, torch.nn.Module):
        fix = "pass the model that the trainer gets"
        raise UsageError("model", type(model).__name__, "a torch.nn.Module", fix)


def is_flash(implementation: str) -> bool:
    """Return whether it is FlashAttention, and not a paged one, which is for inference."""
    return "flash" in implementation and "|" not in implementation


def implementation_of(model: Any) -> str:
    """Return the attention implementation of a model or its configuration, `None` if it has none.

    >>> implementation_of(object())
    'None'
    """
    return str(getattr(text_config(model), "_attn_implementation", None))


def text_config(model: Any) -> Any:
    """Return the configuration of the language model, given a model or its configuration.

    Raises:
        UsageError: it is neither, but a name, a path, a dict, a class or None.
    """
    if model is None or isinstance(model, str | os.PathLike | Mapping | type):
        fix = "load it with from_pretrained() of transformers"
        raise UsageError("model", type(model).__name__, "a model or its configuration", fix)
    config = getattr(model, "config", model)
    get_text_config = getattr(config, "get_text_config", None)
    return get_text_config() if get_text_config else config
