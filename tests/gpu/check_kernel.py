"""Check on a device what branches ask of its kernel, before anything is timed; seconds.

    python tests/gpu/check_kernel.py                # one GPU: torch.nn.attention.varlen
    python tests/gpu/check_kernel.py --device cpu   # the reference of reasonpack.torch

1. Is the kernel aligned bottom right where queries are fewer than keys? In the row h t r, of which
   r follows h, all scores are 0, so each token gets the mean of the values that it sees.
2. How far are output and gradients from those of the dense mask in float64, in units of the error
   that SDPA with a dense mask has in the same precision? About 1; the gradients of keys and values
   may be below, as they are summed in float32.

Prints one JSON object; ends with status 1 if the first is not so, or the second is above 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from conversations import PROFILES, Profile, Words, rows, views
from numpy.typing import NDArray
from qwen3 import Attend
from train_layouts import VarlenKernel, by_branches

from reasonpack.masks import dense

HEADS, GROUPS, SIZE = 8, 4, 64
Prepare = Callable[[NDArray[np.int32], torch.device], Attend]
"""`visible_until` `i32[1, T]` -> attention over that row."""
WORST = 2.0


def means_seen(
    device: torch.device, dtype: torch.dtype, kernel: VarlenKernel | None = None
) -> list[float]:
    """What the three tokens of h t r get; [1.0, 1.5, 2.5] if the kernel is right."""
    values = torch.tensor([1.0, 2.0, 4.0], device=device, dtype=dtype)
    v = values[None, None, :, None].expand(1, 1, 3, SIZE).contiguous()
    zero = torch.zeros_like(v)
    attend = by_branches(np.array([[3, 2, 3]], np.int32), device, kernel)
    return [round(value, 3) for value in attend(zero, zero, v)[0, 0, :, 0].float().tolist()]


def results(attend: Any, states: Sequence[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of q, k and v, in float64."""
    inputs = [each.clone().requires_grad_() for each in states]
    out = attend(*inputs)
    found = [out, *torch.autograd.grad(out, inputs, grad)]
    return [each.detach().double().cpu() for each in found]


def errors(
    profile: Profile, turns: int, device: torch.device, dtype: torch.dtype, *, prepare: Prepare
) -> dict[str, float]:
    """Errors of what is prepared over those of a dense mask, both against float64."""
    words = Words(seed=turns, vocabulary=1024)
    (row,) = rows([views(profile, turns, words)], "onepass", 1 << 20)
    until = row.visible_until[None]
    mask = torch.from_numpy(dense.visible(row.visible_until))
    torch.manual_seed(0)
    states = [torch.randn(1, heads, len(row), SIZE) for heads in (HEADS, GROUPS, GROUPS)]
    states = [each.to(dtype).to(device) for each in states]
    grad = torch.randn(1, HEADS, len(row), SIZE).to(dtype).to(device)

    def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return sdpa(q, k, v, attn_mask=mask.to(q.device), enable_gqa=True)

    exact = results(masked, [each.double().cpu() for each in states], grad.double().cpu())
    found = results(prepare(until, device), states, grad)
    other = results(masked, states, grad)
    floor = float(torch.finfo(dtype).eps) / 100  # below it is nothing to compare
    return {
        name: float((a - e).norm() / max(float((b - e).norm()), floor * float(e.norm())))
        for name, a, b, e in zip(("out", "dq", "dk", "dv"), found, other, exact, strict=True)
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--profiles", nargs="+", default=["chat", "long-reasoning"])
    parser.add_argument("--turns", type=int, default=4)
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
        "seen": means_seen(device, dtype),
        "errors": {
            profile: errors(PROFILES[profile], given.turns, device, dtype, prepare=by_branches)
            for profile in given.profiles
        },
    }
    worst = max(error for each in report["errors"].values() for error in each.values())
    report["right"] = report["seen"] == [1.0, 1.5, 2.5] and worst < WORST
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    sys.exit(not main()["right"])
