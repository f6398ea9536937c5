"""A batch's FlexMask becomes the `BlockMask` of FlexAttention on the model's device.

    Collator(mask="flex") ──FlexMask──▶ trainer ──▶ build_flex_masks(model) ──BlockMask──▶ layers

The same hook refuses a batch whose mask was lost on the way. Cost: as `masks.flex`, per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch

from reasonpack.errors import UsageError
from reasonpack.masks import Window, flex
from reasonpack.torch.branch_attention import check_module, is_attended_by_branches
from reasonpack.torch.branch_index import NAME
from reasonpack.torch.lost_mask import check_applied, check_plain, check_whole, is_only_padding

Windows = Union[int, Mapping[str, Optional[int]], None]  # noqa: UP007, UP045 (an alias runs on 3.10)
OTHER_MASKS = frozenset({NAME, "startend_row_indices", "visible_until"})
"""Keys under which a batch may hold its mask instead of `attention_mask`."""


@dataclass(frozen=True, slots=True)
class FlexMask:
    """The tensors from which a `BlockMask` is built once they are on the right device.

    Moving a `BlockMask` does not move the tensors that its `mask_mod` captured, so it is built
    in the training step. Data loaders move and pin this object like a tensor. A model that gets
    it unbuilt fails at once, instead of silently training without a mask.

    Attributes:
        visible_until: `i32[B, T]`.
        position_ids: `i64[B, T]`.
        window: as in `Collator`.
        tokens: number of tokens in the batch without padding.
    """

    visible_until: torch.Tensor
    position_ids: torch.Tensor
    window: Windows
    tokens: int

    def build(self, block_size: tuple[int, int] = (128, 128)) -> Any:
        """Build the `BlockMask`, or a dict of them if the window is a mapping."""

        def block_mask(size: int | None) -> Any:
            window = None if size is None else Window(self.position_ids, size)
            return flex.block_mask(self.visible_until, block_size=block_size, window=window)

        return per_layer_type(self.window, block_mask)

    def to(self, *args: Any, **kwargs: Any) -> FlexMask:
        """Move the tensors to a device, as `Tensor.to`."""
        return self._moved(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, *args: Any) -> FlexMask:
        """Pin the tensors, as `Tensor.pin_memory`."""
        return self._moved(lambda tensor: tensor.pin_memory(*args))

    def sum(self) -> torch.Tensor:
        """Return the number of tokens: trainers log the sum of a mask as this number."""
        return torch.tensor(self.tokens, device=self.visible_until.device)

    def __getattr__(self, name: str) -> Any:
        """Tell the user what to do if a model uses this as a tensor."""
        raise AttributeError(
            f"FlexMask has no {name!r}, as it is no tensor yet. "
            "Fix: call build_flex_masks(model) before training, or build() in the step."
        )

    def _moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> FlexMask:
        return FlexMask(move(self.visible_until), move(self.position_ids), self.window, self.tokens)


def build_flex_masks(model: torch.nn.Module) -> Any:
    """Make a model build the `FlexMask` that it is given, and refuse rows whose mask was lost.

    The trainer needs no change. If it drops the mask, or replaces it by a padding mask, the hook
    raises `UsageError` for rows that need more (`lost_mask`). If the positions were lost as well, a
    batch is refused in training, but not in `eval()`, as in `generate`.

    Returns:
        The handle of the hook; `handle.remove()` removes it.
    """
    check_module(model)

    def build(
        model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        check_applied(kwargs)
        mask = kwargs.get("attention_mask")
        if isinstance(mask, FlexMask):
            kwargs = {**kwargs, "attention_mask": mask.build()}
        elif NAME in kwargs and not is_attended_by_branches(model):
            what = f"{NAME} for a model that does not take them"
            raise UsageError("batch", what, "another mask", "call attend_by_branches(model)")
        elif mask is not None and not is_only_padding(mask):
            if model.training:  # a cache has keys of other tokens
                check_whole(kwargs.get("position_ids"), mask)
        elif not OTHER_MASKS & kwargs.keys():
            check_plain(
                kwargs.get("position_ids"), mask, lost="attention_mask", training=model.training
            )
        return args, kwargs

    return model.register_forward_pre_hook(build, with_kwargs=True)


class LayerMasks(dict[str, Any]):
    """A mask for each type of layer; it has `sum`, which TRL calls on a mask."""

    def sum(self) -> torch.Tensor:
        """Return the sum of the first mask, a number to log."""
        total: torch.Tensor = next(iter(self.values())).sum()
        return total


def per_layer_type(window: Windows, make: Callable[[int | None], Any]) -> Any:
    """Make one mask, or a dict of them if the window is a mapping."""
    if isinstance(window, Mapping):
        return LayerMasks({name: make(size) for name, size in window.items()})
    return make(window)
