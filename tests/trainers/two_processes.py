"""Run by torch.multiprocessing: one of two processes trains its half of a batch, under DDP or FSDP.

rank 0: row 0 ─▶ gradient ┐
rank 1: row 1 ─▶ gradient ┴▶ mean, written to a file by rank 0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flash
import pytest
import tiny
import torch
from torch import distributed

from reasonpack.torch import Collator, attend_by_branches

FLASH = "flash_attention_2"
SEEDS = (1, 2)
WAYS = ("ddp", "fsdp")


def gradients_of(wrapped: Any, model: Any, seed: int) -> dict[str, Any]:
    """The gradients of the summed loss of one conversation; whole tensors, as plain names."""
    rows = tiny.rows_of([tiny.random_views(seed, turns=3)], layout="onepass")
    batch = Collator(mask="branches", pad_to_multiple_of=16)(rows)
    tiny.batch_loss(wrapped, batch).backward()
    found = {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        found[name] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    return found


def one_process() -> dict[str, Any]:
    """What two processes have to find."""
    means: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        flash.install(patch)
        for seed in SEEDS:
            model = flash.with_flash(tiny.model("mistral"))
            handle = attend_by_branches(model)
            for name, grad in gradients_of(model, model, seed).items():
                means[name] = means.get(name, 0) + grad / len(SEEDS)
            handle.remove()
    return means


def wrapped_by(way: str, model: Any) -> Any:
    if way == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(rank: int, port: int, output: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    with pytest.MonkeyPatch.context() as patch:
        flash.install(patch)
        for way in WAYS:
            model = flash.with_flash(tiny.model("mistral"))
            handle = attend_by_branches(model)
            found = gradients_of(wrapped_by(way, model), model, SEEDS[rank])
            if rank == 0:
                torch.save(found, Path(output) / f"{way}.pt")
            handle.remove()
    distributed.barrier()  # gloo may abort a process that leaves while the other one still talks
    distributed.destroy_process_group()
