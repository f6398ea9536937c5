"""A row through the model as it is trained, compared with one path of its tree alone.

    row    user₁ think₁ answer₁ answer₁ user₂ think₂ answer₂      the logits of think₂ and answer₂
    path   user₁                answer₁ user₂ think₂ answer₂      have to be those of the path

`check_model` knows attention implementations by name. This runs the model, so it also finds a
trainer or a patched model that drops the mask or computes positions anew. Cost: three forward
passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.masks import visible_until
from reasonpack.rows.sample import IGNORE
from reasonpack.torch.collator import Batch, Collator

MOST = 0.1
"""Largest difference that counts as rounding, as a share of what ignoring the tree changes."""
_OF_THE_TREE = ("position_ids", "segment_start", "segment_visible_until")


def check_context(
    forward: Callable[[Batch], torch.Tensor], collator: Collator, row: Mapping[str, Any]
) -> float:
    """Refuse a model that does not compute for a row what it computes for a path of it alone.

    Call it before training, in training mode, without dropout, and with the model as the trainer
    wraps it. The logits are compared at the last trained path of the row that has hidden tokens
    before it, from the first such token on.

    Args:
        forward: a batch of `collator` → its logits `f[B, T, V]`.
        collator: the one of the training.
        row: a row of the dataset, with branches or several samples. A short one will do, as logits
            are held twice.

    Returns:
        The mean difference of the logits, as a share of the difference that a plain causal mask
        and positions from 0 make: 0 but for rounding.

    Raises:
        UsageError: the row is one plain causal sample; the share is above 0.1.
    """
    collator = replace(
        collator, loss_weights=False, logprobs=False, advantages=False, call_role=False, kinds=False
    )
    path, causal = _path(row), _causal(row, np.arange(int(row["length"])))
    tree = causal | {name: row[name] for name in _OF_THE_TREE}
    behind = int(np.argmax(path != np.arange(len(path))))

    def logits(tokens: Mapping[str, Any], places: NDArray[np.int64]) -> torch.Tensor:
        return forward(collator([tokens])).detach()[0, places].float()

    alone = logits(_causal(row, path), np.arange(behind, len(path)))
    wrong = float((logits(causal, path[behind:]) - alone).abs().mean())
    found = float((logits(tree, path[behind:]) - alone).abs().mean())
    share = found / wrong if wrong else math.inf
    if not share <= MOST:
        raise UsageError(
            "model",
            f"logits that differ from those of a path alone by {share:.0%} of what a plain causal "
            "mask changes",
            f"at most {MOST:.0%}: each token sees its path, at its positions",
            "give the model the collator's mask and position_ids as they are; turn dropout off",
        )
    return share


def _path(row: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the places that the last trained token with hidden tokens before it sees."""
    until = visible_until(row)
    for token in np.flatnonzero(np.asarray(row["labels"]) != IGNORE)[::-1]:
        seen = np.flatnonzero(until[: token + 1] > token)
        if len(seen) <= token:
            return seen
    fix = "pass a row with branches: what the model makes of plain rows needs no check"
    raise UsageError("row", "one plain causal sample", "branches or several samples", fix)


def _causal(row: Mapping[str, Any], places: NDArray[np.int64]) -> dict[str, Any]:
    """Return some tokens of a row as a row of one plain causal sample."""
    columns = {name: np.asarray(row[name])[places] for name in ("input_ids", "labels")}
    return columns | {
        "length": len(places),
        "position_ids": np.arange(len(places)),
        "segment_start": [0],
        "segment_visible_until": [len(places)],
    }
