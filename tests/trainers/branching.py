"""Conversations, and the loss of tiny models on their rows by branches and by the dense mask."""

from __future__ import annotations

from typing import Any

import forests
import numpy as np
import tiny
import torch

from reasonpack.torch import Collator, model_windows

EQUAL, SAME, WRONG = 1e-9, 1e-5, 1e-2
PACKED = [[0, 2], [1]]
FLASH, SDPA = "flash_attention_2", "sdpa"


def conversations() -> list[list[Any]]:
    return [tiny.random_views(seed, turns=seed + 2) for seed in range(3)]


def dense_loss(model: Any, rows: list[tiny.Row], attention: str = SDPA) -> Any:
    """The loss with the dense mask."""
    batch = Collator(mask="eager", window=model_windows(model.config), dtype=torch.float64)(rows)
    before = model.config._attn_implementation
    model.config._attn_implementation = attention
    loss = tiny.batch_loss(model, batch)
    model.config._attn_implementation = before
    return loss


def branch_loss(model: Any, rows: list[tiny.Row], multiple: int = 8) -> Any:
    return tiny.batch_loss(model, Collator(mask="branches", pad_to_multiple_of=multiple)(rows))


def off(model: Any, found: Any, expected: Any) -> tuple[float, float]:
    """Relative difference of the loss, and of the worst gradient."""
    loss = abs(found.item() / expected.item() - 1)
    return loss, tiny.distance(tiny.gradients(model, found), tiny.gradients(model, expected))


def forest_row(forest: forests.Forest) -> tiny.Row:
    ids = np.arange(1, len(forest) + 1)
    roots = [token for token, parent in enumerate(forest.parents) if parent is None]
    labels = np.where(np.isin(ids - 1, roots), -100, ids)
    return {**forests.row(forest), "input_ids": ids, "labels": labels}
