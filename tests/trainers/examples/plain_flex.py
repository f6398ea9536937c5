"""Plain PyTorch: the mask is one BlockMask a step, shared by all layers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from reasonpack.torch import Collator, RowDataset, RowStream


def batches(directory: Path, *, epoch: int, row_tokens: int, **options: Any) -> Iterable[Any]:
    stream = RowStream(RowDataset(directory), seed=0)  # shards by rank and worker
    stream.set_epoch(epoch)
    collate = Collator(mask="flex", pad_to_multiple_of=row_tokens)  # one shape: compile once
    return DataLoader(stream, collate_fn=collate, **options)


def step(model: Any, optimizer: torch.optim.Optimizer, batch: Any, device: str) -> float:
    """`model(input_ids, position_ids, block_mask)` calls a compiled `flex_attention`."""
    ids, positions, labels = (
        batch[name].to(device) for name in ("input_ids", "position_ids", "labels")
    )
    block_mask = batch["attention_mask"].to(device).build()
    logits = model(ids, positions, block_mask)
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )
    (loss / (labels != -100).sum()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
