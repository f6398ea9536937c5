"""A dataset directory becomes batches that PyTorch trainers take (needs the extra `torch`).

    directory ──RowDataset──> rows ──Collator──> input_ids, position_ids, labels, mask
                 RowStream                  ^
                        check_model, collator_for: what this model can be given

`dataset` reads rows, `collator` pads them and makes the mask, `models` says which model takes
which mask, and refuses models that would silently train on the wrong context; `context` runs the
model to see whether it does. `flex_masks` and `branch_attention` put a hook on the model, for
FlexAttention and for FlashAttention; `weighted_loss` applies loss weights. README.md in this
folder says which to use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reasonpack.errors import MissingExtraError

try:
    import torch  # noqa: F401 (imported here, so that our own error reports its absence)
except ModuleNotFoundError as error:
    raise MissingExtraError(
        "reasonpack.torch",
        error,
        "PyTorch 2.6 or later",
        "pip install 'reasonpack[torch]'; reasonpack.masks needs NumPy alone",
    ) from error

from reasonpack.torch.branch_attention import BranchAttention, attend_by_branches
from reasonpack.torch.branch_index import BranchIndex
from reasonpack.torch.collator import Collator, MaskForm
from reasonpack.torch.context import check_context
from reasonpack.torch.flex_masks import FlexMask, build_flex_masks
from reasonpack.torch.gather import gathered, regathered
from reasonpack.torch.weighted_loss import WeightedLoss, weighted_loss

if TYPE_CHECKING:
    from reasonpack.torch.dataset import RowDataset, RowStream
    from reasonpack.torch.models import (
        check_model,
        collator_for,
        model_max_position,
        model_windows,
        prepare_model,
    )

__all__ = [
    "BranchAttention",
    "BranchIndex",
    "Collator",
    "FlexMask",
    "MaskForm",
    "RowDataset",
    "RowStream",
    "WeightedLoss",
    "attend_by_branches",
    "build_flex_masks",
    "check_context",
    "check_model",
    "collator_for",
    "gathered",
    "model_max_position",
    "model_windows",
    "prepare_model",
    "regathered",
    "weighted_loss",
]

_HOMES = {
    "RowDataset": "dataset",
    "RowStream": "dataset",
    "check_model": "models",
    "collator_for": "models",
    "model_max_position": "models",
    "model_windows": "models",
    "prepare_model": "models",
}
"""Names that are imported when first used; the others need only torch and NumPy."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
