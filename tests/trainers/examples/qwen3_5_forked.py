"""Qwen3.5, a hybrid of gated delta nets and attention, on onepass rows: the state is forked.

    row       h1 t1 o1 | i1 h2 t2 o2 | i2 h3 t3 o3       branches
    levels    h1,  t1 o1   i1 h2,  t2 o2   i2 h3 t3 o3   nodes: branches, cut where one begins

A stock layer carries its state from one branch into the next. Here a node begins with the state
that its parent left, and the convolution reads ancestors. Off by default: `pack --force-onepass`,

    fork_states(model); attend_by_branches(model)    # collator_for refuses it
    ForkCollator(mask="branches", …, width=config.linear_conv_kernel_dim)

Run on a CPU by transformers' own rule. The call of fla for a GPU is after its signature, NOT run.
Cost: a state a node and layer, W copies for the convolution; levels run one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad, silu, softplus
from transformers.models.qwen3_5 import modeling_qwen3_5 as stock

from reasonpack.errors import UsageError
from reasonpack.torch import Collator


def forks(index: Mapping[str, Any], *, width: int) -> dict[str, Any]:
    """Cut the `branches` of a batch into nodes, and order these by levels.

    `taps` `i64[W, T]`: each token and its ancestors, −1 for none; `order` `i64[T]`: where a token
    stands level by level; `levels`: `tokens`, `cu_seqlens` of the nodes, and `above`, the places
    of the nodes that left the states these begin with.
    """
    bounds, paths, keys = (index[k].numpy() for k in ("cu_seqlens_q", "cu_seqlens_k", "k_index"))
    begin, above = bounds[:-1], np.diff(paths) - np.diff(bounds)  # tokens before the branch
    parent = np.arange(-1, bounds[-1] - 1)
    parent[begin] = np.where(above > 0, keys[paths[:-1] + np.maximum(above, 1) - 1], -1)
    start = np.union1d(begin, parent[begin] + 1)
    end = np.append(start[1:], bounds[-1])
    up = np.searchsorted(start, parent[start], side="right") - 1
    depth = np.zeros(len(start), int)
    for node in np.flatnonzero(up >= 0):
        depth[node] = depth[up[node]] + 1
    by_level, levels = np.argsort(depth, kind="stable"), []
    place = np.argsort(by_level)
    for nodes in np.split(by_level, np.cumsum(np.bincount(depth))[:-1]):
        tokens = np.concatenate([np.arange(start[node], end[node]) for node in nodes])
        sizes = np.append(0, np.cumsum(end[nodes] - start[nodes]))
        level = {"tokens": torch.from_numpy(tokens), "cu_seqlens": torch.from_numpy(sizes)}
        levels.append({**level, "above": place[up[nodes]].tolist() if levels else []})
    taps = [np.arange(bounds[-1])]
    for _ in range(width - 1):
        taps.append(np.where(taps[-1] >= 0, parent[taps[-1]], -1))
    order = torch.cat([level["tokens"] for level in levels]).argsort()
    return {"taps": torch.from_numpy(np.stack(taps)), "order": order, "levels": levels}


@dataclass(frozen=True)
class ForkCollator(Collator):
    width: int = 4

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = super().__call__(rows)
        return {**batch, "forks": forks(batch["branches"], width=self.width)}


def rule(parts: Sequence[torch.Tensor], states: Any, level: Mapping[str, Any]) -> Any:
    """Run q, k, v, g and beta of a level: what its tokens get, and the state of each node."""
    given: dict[str, Any] = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
    if parts[0].is_cuda:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        given |= {"initial_state": states, "cu_seqlens": level["cu_seqlens"]}
        return chunk_gated_delta_rule(*parts, **given)
    found = []
    for node, (first, last) in enumerate(pairwise(level["cu_seqlens"].tolist())):
        q, k, v, g, beta = (x[:, first:last] for x in parts)
        given["initial_state"] = None if states is None else states[node : node + 1]
        found.append(stock.torch_chunk_gated_delta_rule(q, k, v, g=g, beta=beta, **given))
    outs, ended = zip(*found, strict=True)
    return torch.cat(outs, dim=1), torch.cat(ended)


class ForkedDeltaNet(stock.Qwen3_5GatedDeltaNet):  # type: ignore[misc]
    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tree, branches = kwargs.pop("forks", None), kwargs.pop("branches", None)
        if (tree is None) != (branches is None) or (tree is None and self.training):
            raise UsageError("batch", "branches or forks lost", "both", "take ForkCollator")
        if tree is None:
            return super().forward(hidden_states, *args, **kwargs)
        branches[1](None)  # attend_by_branches counts the layers that took the row
        mixed = pad(self.in_proj_qkv(hidden_states)[0], (0, 0, 0, 1))  # row −1 is the zero
        weights = self.conv1d.weight[:, 0].flip(-1).unbind(-1)
        mixed = silu(sum(mixed[at] * w for at, w in zip(tree["taps"], weights, strict=True)))
        q, k, v = mixed[None].split([self.key_dim, self.key_dim, self.value_dim], dim=-1)
        dims = (self.head_k_dim, self.head_k_dim, self.head_v_dim)
        q, k, v = (x.unflatten(-1, (-1, d)) for x, d in zip((q, k, v), dims, strict=True))
        steps = softplus(self.in_proj_a(hidden_states).float() + self.dt_bias)
        g, beta = -self.A_log.float().exp() * steps, self.in_proj_b(hidden_states).sigmoid()
        outs, states = [], []
        for level in tree["levels"]:
            above = torch.stack([states[at] for at in level["above"]]) if states else None
            found, ended = rule([x[:, level["tokens"]] for x in (q, k, v, g, beta)], above, level)
            outs.append(found)
            states += ended.unbind()
        out = torch.cat(outs, dim=1)[:, tree["order"]].reshape(-1, self.head_v_dim)
        gate = self.in_proj_z(hidden_states).view_as(out)
        return self.out_proj(self.norm(out, gate).view(*hidden_states.shape[:2], -1))


def fork_states(model: torch.nn.Module) -> None:
    for module in model.modules():
        if type(module) is stock.Qwen3_5GatedDeltaNet:
            module.__class__ = ForkedDeltaNet
