"""torchtitan with its varlen attention: onepass rows by their branches.

`class MyTrainer(Branches, Trainer)`, with the dataset of torchtitan_dataset.py and a model whose
inner attention is `VarlenAttention`. Read in its code, and run here with stand-ins for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torchtitan.models.common.attention import VarlenAttention, VarlenMetadata

from reasonpack.torch import BranchIndex, gathered
from reasonpack.torch.branch_index import branch_index


class BranchMetadata(VarlenMetadata):
    index: BranchIndex


class BranchAttention(VarlenAttention):
    """Its own kernel with the keys of each branch's path; q, k and v are `[T, heads, D]`."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **given: Any
    ) -> torch.Tensor:
        index = given["attention_masks"].index
        keys, values = (gathered(x.transpose(0, 1)[None], index)[0].transpose(0, 1) for x in (k, v))
        out: torch.Tensor = super().forward(q, keys, values, **given)
        return out


class Branches:  # torchtitan's own metadata begins a sequence where a position is 0
    def post_dataloading_process(self, input_dict: dict[str, Any], labels: Any) -> Any:
        until = input_dict.pop("visible_until")
        inputs, labels, extra = super().post_dataloading_process(input_dict, labels)  # type: ignore[misc]
        made = branch_index(until.reshape(-1, until.shape[-1]).cpu().numpy())
        index = BranchIndex(
            **{k: v.to(labels.device) if torch.is_tensor(v) else v for k, v in made.items()}
        )
        masks = BranchMetadata(
            index.cu_seqlens_q, index.cu_seqlens_k, index.max_seqlen_q, index.max_seqlen_k
        )
        masks.index = index
        return inputs, labels, {**extra, "attention_masks": masks}


def attend_by_branches(model: torch.nn.Module) -> None:
    for module in model.modules():
        if type(module) is VarlenAttention:
            module.__class__ = BranchAttention
