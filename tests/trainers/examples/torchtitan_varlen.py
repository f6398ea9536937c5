"""torchtitan with its varlen attention: onepass rows by their branches.

`class MyTrainer(Branches, Trainer)`, with the dataset of torchtitan_dataset.py and a model whose
inner attention is `VarlenAttention`; `attend_by_branches(model)` once it is built. Run by hand with
the model, loss and trainer's preparation of torchtitan 0.3 on a CPU, and the kernel's definition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import varlen
from torchtitan.models.common.attention import VarlenAttention, VarlenMetadata

from reasonpack.errors import UsageError
from reasonpack.torch import BranchIndex, gathered
from reasonpack.torch.branch_index import branch_index


class BranchMetadata(VarlenMetadata):
    index: BranchIndex


class BranchAttention(VarlenAttention):
    """The keys of each branch's path; q, k and v are `[B, L, heads, D]`, or `[T, heads, D]`."""

    def forward(self, *qkv: Any, attention_masks: Any, **given: Any) -> Any:
        if given.get("out_transform") is not None:
            fix = "take FlexAttention and torchtitan_dataset.BranchMasks"
            raise UsageError("attention", "an out_transform (sinks)", "none", fix)
        tokens = (x.reshape(-1, *x.shape[-2:]).to(torch.bfloat16) for x in qkv)
        heads = [x.transpose(0, 1)[None] for x in tokens]  # [1, heads, T, D]
        heads[1:] = (gathered(x, attention_masks.index) for x in heads[1:])
        options = {name: given[name] for name in ("scale", "enable_gqa") if name in given}
        tokens = (x[0].transpose(0, 1) for x in heads)
        sizes = attention_masks[:4]
        out = varlen.varlen_attn(*tokens, *sizes, window_size=self.window_size, **options)
        return out.reshape(*qkv[0].shape[:-1], -1).to(qkv[0].dtype)


class Branches:  # torchtitan's own metadata begins a sequence where a position is 0
    def post_dataloading_process(self, input_dict: dict[str, Any], labels: Any) -> Any:
        until = input_dict.pop("visible_until")
        inputs, labels, extra = super().post_dataloading_process(input_dict, labels)  # type: ignore[misc]
        made = branch_index(until.reshape(-1, until.shape[-1]).cpu().numpy())
        made = {k: v.to(labels.device) if torch.is_tensor(v) else v for k, v in made.items()}
        sizes = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")
        masks = BranchMetadata(*(made[name] for name in sizes))
        masks.index = BranchIndex(**made)
        return inputs, labels, {**extra, "attention_masks": masks}


def attend_by_branches(model: torch.nn.Module) -> None:
    for module in model.modules():
        if type(module) is VarlenAttention:
            module.__class__ = BranchAttention
