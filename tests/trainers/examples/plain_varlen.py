"""Plain PyTorch with `torch.nn.attention.varlen`: onepass rows by their branches.

`model(input_ids, position_ids, attend)` calls `attend(q, k, v)` in each layer, q `[1, H, T, D]`,
k and v `[1, G, T, D]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import varlen
from torch.utils.data import DataLoader

from reasonpack.torch import BranchIndex, Collator, RowDataset, RowStream, gathered, regathered


def batches(directory: Path, *, epoch: int, **options: Any) -> Iterable[Any]:
    stream = RowStream(RowDataset(directory), seed=0)  # shards by rank and worker
    stream.set_epoch(epoch)
    collate = Collator(mask="branches", pad_to_multiple_of=128)
    return DataLoader(stream, collate_fn=collate, **options)


def attention(index: BranchIndex, window: int = -1) -> Callable[..., torch.Tensor]:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        keys, values = gathered(k, index), gathered(v, index)
        tokens = [x[0].transpose(0, 1) for x in (q, keys, values)]
        sizes = (index.cu_seqlens_q, index.cu_seqlens_k, index.max_seqlen_q, index.max_seqlen_k)
        with regathered([(k, keys), (v, values)], index):
            seen: torch.Tensor = varlen.varlen_attn(
                *tokens, *sizes, window_size=(window, 0), enable_gqa=True
            )
        return seen.transpose(0, 1)[None]

    return attend


def step(model: Any, optimizer: torch.optim.Optimizer, batch: Any, device: str) -> float:
    index = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.pop("branches").items()}
    ids, positions, labels = (
        batch[name].to(device) for name in ("input_ids", "position_ids", "labels")
    )
    logits = model(ids, positions, attention(BranchIndex.of(index, positions)))
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
    (loss / (labels != -100).sum()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
