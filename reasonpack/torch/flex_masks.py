"""A batch's FlexMask becomes the `BlockMask` of FlexAttention on the model's device.

    Collator(mask="flex") ──FlexMask──▶ trainer ──▶ build_flex_masks(model) ──BlockMask──▶ layers

The same hook refuses a batch whose mask was lost on the way. Cost: as `masks.flex`, a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch

from reasonpack.errors import UsageError
from reasonpack.masks import Window, flex
from reasonpack.torch.branch_attention import is_attended_by_branches
from reasonpack.torch.branch_index import NAME
from reasonpack.torch.lost import check_plain, is_of_padding

Windows = Union[int, Mapping[str, Optional[int]], None]  # noqa: UP007, UP045 (an alias runs on 3.10)
MASKS_BESIDE = frozenset({NAME, "startend_row_indices", "visible_until"})
"""Names under which a batch brings its mask where it has no `attention_mask`."""


@dataclass(frozen=True, slots=True)
class FlexMask:
    """What a `BlockMask` is made of, until it is on the right device.

    A `BlockMask` keeps the tensors that its `mask_mod` captures where they were made, so it is
    built in the training step. Data loaders move and pin this object as they do tensors; a
    model that is given it as it is fails at once, where a missing mask would train in silence.

    Attributes:
        visible_until: `i32[B, T]`.
        position_ids: `i64[B, T]`.
        window: as in `Collator`.
        tokens: in the batch without padding.
    """

    visible_until: torch.Tensor
    position_ids: torch.Tensor
    window: Windows
    tokens: int

    def build(self, block_size: tuple[int, int] = (128, 128)) -> Any:
        """Build the `BlockMask`, or the dict of them where the window is a mapping."""

        def block_mask(size: int | None) -> Any:
            window = None if size is None else Window(self.position_ids, size)
            return flex.block_mask(self.visible_until, block_size=block_size, window=window)

        return per_layer_type(self.window, block_mask)

    def to(self, *args: Any, **kwargs: Any) -> FlexMask:
        """Move to a device, as `Tensor.to`."""
        return self._moved(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, *args: Any) -> FlexMask:
        """Pin, as `Tensor.pin_memory`."""
        return self._moved(lambda tensor: tensor.pin_memory(*args))

    def sum(self) -> torch.Tensor:
        """Count the tokens: trainers log the sum of a mask as that."""
        return torch.tensor(self.tokens, device=self.visible_until.device)

    def __getattr__(self, name: str) -> Any:
        """Say what to do where a model takes this for a tensor."""
        raise AttributeError(
            f"FlexMask has no {name!r}, as it is no tensor yet. "
            "Fix: call build_flex_masks(model) before training, or build() in the step."
        )

    def _moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> FlexMask:
        return FlexMask(move(self.visible_until), move(self.position_ids), self.window, self.tokens)


def build_flex_masks(model: torch.nn.Module) -> Any:
    """Let a model build the `FlexMask` that it is given, and refuse rows whose mask was lost.

    No change to the trainer is needed. A batch that comes without a mask, or with one of padding
    alone, as where a trainer drops or rebuilds it, raises `UsageError` if that is wrong for its
    rows: without a mask a model takes every jump in the positions for the start of a sample, so a
    branch is wrong; with one of padding it looks at no position, so a second sample is wrong too.
    If the positions were lost as well, nothing can be said of the rows: a batch to train on is
    then refused, one for a model in `eval()`, as in `generate`, is let through.

    Returns:
        The handle of the hook; `handle.remove()` takes it off.
    """

    def build(
        model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if isinstance(mask, FlexMask):
            kwargs = {**kwargs, "attention_mask": mask.build()}
        elif NAME in kwargs and not is_attended_by_branches(model):
            what = f"{NAME} for a model that does not take them"
            raise UsageError("batch", what, "another mask", "call attend_by_branches(model)")
        elif not MASKS_BESIDE & kwargs.keys() and is_of_padding(mask):
            check_plain(
                kwargs.get("position_ids"), mask, lost="attention_mask", training=model.training
            )
        return args, kwargs

    return model.register_forward_pre_hook(build, with_kwargs=True)


class LayerMasks(dict[str, Any]):
    """A mask for each type of layer, of which TRL asks for the sum, as it does of a tensor."""

    def sum(self) -> torch.Tensor:
        """Sum the first of them: a number to log."""
        total: torch.Tensor = next(iter(self.values())).sum()
        return total


def per_layer_type(window: Windows, make: Callable[[int | None], Any]) -> Any:
    """Make one mask, or the dict of them where the window is a mapping."""
    if isinstance(window, Mapping):
        return LayerMasks({name: make(size) for name, size in window.items()})
    return make(window)
