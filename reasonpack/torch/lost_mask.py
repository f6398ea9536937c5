"""A batch that reaches a model without its mask is refused, unless its rows need none.

    no mask, positions 0 1 2 0 1      plain samples: passes
    no mask, positions 0 1 2 1 2      a branch: refused
    no mask, no positions             refused in training, passes in `generate`

Without a mask a model takes every jump in the positions for the start of a sample, which is wrong
for branches; with a padding mask it ignores the positions, which is wrong for a second sample too.
Cost: one comparison of the positions of a batch that has no mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from reasonpack.errors import UsageError
from reasonpack.rows.optional_columns import APPLIED


def is_only_padding(mask: Any) -> bool:
    """Return whether an `attention_mask` is None, or only says which tokens are padding."""
    return mask is None or (isinstance(mask, torch.Tensor) and mask.ndim == 2)


def check_applied(batch: Mapping[str, Any]) -> None:
    """Refuse a batch whose labels the model turns into a loss without the columns to be applied.

    Raises:
        UsageError: the batch has labels, and a column such as `loss_weights`.
    """
    ignored = [name for name in APPLIED if name in batch]
    if ignored and batch.get("labels") is not None:
        what = f"{', '.join(ignored)} and labels, from which the model computes a loss without it"
        fix = "use WeightedLoss for loss_weights; else take the labels out and compute the loss"
        raise UsageError("batch", what, "no labels", fix)


def check_whole(position_ids: Any, mask: Any) -> None:
    """Refuse a mask of longer rows than the batch has: context parallelism splits those alone.

    Accelerate then replaces the mask by a causal one in each layer. So do others.

    Raises:
        UsageError: the mask has more keys than the batch has tokens.
    """
    first = next(iter(mask.values())) if isinstance(mask, Mapping) else mask
    if isinstance(first, torch.Tensor) and isinstance(position_ids, torch.Tensor):
        tokens = position_ids.shape[-1]
        if first.ndim == 4 and first.shape[-1] != tokens:
            what = f"attention_mask for {first.shape[-1]} tokens with {tokens} position_ids"
            fix = "train without context parallelism, or pack --layout npass, without --packing, "
            fix += 'and take Collator(mask="none")'
            raise UsageError("batch", what, "whole rows: the trainer splits them", fix)


def check_plain(position_ids: Any, mask: Any, *, lost: str, training: bool) -> None:
    """Refuse rows that need more than a padding mask.

    Args:
        position_ids: `i64[B, T]` of the batch, or None.
        mask: the padding mask, `[B, T]`, or None.
        lost: the key that the batch lacks.
        training: whether the model is in training.

    Raises:
        UsageError: positions jump where no sample starts, or they are None in training.
    """
    if position_ids is None and training:
        raise UsageError(
            "batch",
            "no position_ids",
            "those of the collator: without them, nothing is known about the rows",
            "give the trainer the collator of collator_for(model, …), and let it keep"
            " all columns (remove_unused_columns=False)",
        )
    if position_ids is None or position_ids.ndim != 2:
        return
    jumps = position_ids[:, 1:] != position_ids[:, :-1] + 1
    if mask is None:
        jumps &= position_ids[:, 1:] != 0
    else:  # the positions of padding do not matter
        jumps &= (mask[:, 1:] != 0) & (mask[:, :-1] != 0)
    if bool(jumps.any()):
        is_padding = lost == "attention_mask" and mask is not None
        found = f"of shape {tuple(mask.shape)}" if is_padding else "None"
        rows = "branch" if mask is None else "branch or hold several samples"
        raise UsageError(
            "batch",
            f"{lost} {found} with rows that {rows}",
            "the one of the collator",
            "let the trainer keep it (remove_unused_columns=False, no padding-free or"
            " packing option of its own), or pack with --layout npass, without "
            "--packing",
        )
