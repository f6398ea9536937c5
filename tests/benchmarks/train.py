"""Time a training step on a CPU: onepass by branches against packed npass, the same conversations.

    python tests/benchmarks/train.py                      # prints the table, minutes
    python tests/benchmarks/train.py --write              # and puts it into README.md
    python tests/benchmarks/train.py --profiles chat --turns 4 --rounds 1

Forward and backward of a small model of Qwen3's shape in float32, one thread, CPU seconds, the best
of some rounds. Both run in the flash kernel that torch has for a CPU, once a sequence. It is causal
only from the top left, so a branch is two calls, its ancestors and itself, merged by their
log-sum-exps; keys and values are gathered first, as on a GPU. `allowed` is what tokens and visible
pairs allow by floating-point operations.

This says what the method costs beside its operations. It says nothing of a GPU's kernels.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "gpu")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from conversations import PROFILES, Profile, Sample, Words, rows, views  # noqa: E402
from qwen3 import Model, Shape  # noqa: E402

from reasonpack.torch import BranchIndex, gathered  # noqa: E402
from reasonpack.torch.branch_index import branch_index  # noqa: E402

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
SHAPE = Shape(width=512, layers=2, heads=8, groups=4, head_dim=64, inner=1536, vocabulary=1024)
SHORTER = 4  # than the profiles of tests/gpu, so that a step takes seconds
LONGEST = 40_000
"""Tokens of an npass row up to which a cell is measured; longer ones take minutes and gigabytes."""
Bounds = list[tuple[tuple[int, int], tuple[int, int]]]


class Branches(torch.autograd.Function):
    """Attention of each sequence of queries to the last of its keys, all heads `[1, H, T, D]`."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, bounds: Bounds) -> Any:
        outs, sums = [], []
        for (q0, q1), (k0, k1) in bounds:
            own, mine = k1 - (q1 - q0), q[:, :, q0:q1]
            out, lse = flash(mine, k[:, :, own:k1], v[:, :, own:k1], 0.0, True)
            if own > k0:
                more, more_lse = flash(mine, k[:, :, k0:own], v[:, :, k0:own], 0.0, False)
                both = torch.logaddexp(lse, more_lse)
                out = (
                    out * (lse - both).exp()[..., None] + more * (more_lse - both).exp()[..., None]
                )
                lse = both
            outs.append(out)
            sums.append(lse)
        out = torch.cat(outs, 2)
        ctx.save_for_backward(q, k, v, out, torch.cat(sums, 2))
        ctx.bounds = bounds
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        # Each call is given the merged output and log-sum-exp, so its gradients are exact.
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        for (q0, q1), (k0, k1) in ctx.bounds:
            own = k1 - (q1 - q0)
            parts = [each[:, :, q0:q1] for each in (grad, q, out, lse)]
            dq[:, :, q0:q1] = 0
            for first, end, causal in ((own, k1, True), (k0, own, False)):
                if end > first:
                    keys = slice(first, end)
                    g, mine, o, sums = parts
                    more, dk[:, :, keys], dv[:, :, keys] = flash_backward(
                        g, mine, k[:, :, keys], v[:, :, keys], o, sums, 0.0, causal
                    )
                    dq[:, :, q0:q1] += more
        return dq, dk, dv, None


def repeated(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.repeat_interleave(heads // x.shape[1], dim=1)


def by_branches(row: Sample) -> Callable[..., torch.Tensor]:
    index = BranchIndex(**branch_index(row.visible_until[None]))
    bounds = list(
        zip(
            pairwise(index.cu_seqlens_q.tolist()),
            pairwise(index.cu_seqlens_k.tolist()),
            strict=True,
        )
    )

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        keys, values = (repeated(gathered(x, index), q.shape[1]) for x in (k, v))
        out: torch.Tensor = Branches.apply(q, keys, values, bounds)
        return out

    return attend


def plain(row: Sample) -> Callable[..., torch.Tensor]:
    """The samples of an npass row, in the same function."""
    starts = [*np.flatnonzero(row.position_ids == 0).tolist(), len(row)]
    bounds = [(each, each) for each in pairwise(starts)]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = Branches.apply(
            q, repeated(k, q.shape[1]), repeated(v, q.shape[1]), bounds
        )
        return out

    return attend


def step(model: Model, packed: Sequence[Sample], attention: Callable[..., Any]) -> float:
    """Accumulate the gradient of the trained tokens; return the summed loss."""
    total = 0.0
    for row in packed:
        ids, positions, labels = (
            torch.from_numpy(each.astype(np.int64))[None]
            for each in (row.input_ids, row.position_ids, row.labels)
        )
        logits = model(ids, positions, attention(row))
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
        loss.backward()
        total += float(loss.detach())
    return total


def operations(packed: Sequence[Sample], shape: Shape) -> float:
    queries, keys = shape.heads * shape.head_dim, shape.groups * shape.head_dim
    weights = 2 * shape.width * (queries + keys) + 3 * shape.width * shape.inner
    tokens = sum(map(len, packed))
    pairs = sum(int((row.visible_until - np.arange(len(row))).sum()) for row in packed)
    head = shape.width * shape.vocabulary
    return 2 * tokens * (shape.layers * weights + head) + 4 * pairs * shape.layers * queries


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table: npass over onepass, and the losses of both."""

    profile: str
    turns: int
    tokens: float
    allowed: float
    measured: float
    losses: tuple[float, float]

    def markdown(self) -> str:
        share = self.measured / self.allowed
        return (
            f"| {self.profile} | {self.turns} | {self.tokens:.2f} | {self.allowed:.2f} |"
            f" {self.measured:.2f} | {share:.2f} |"
        )


def shorter(profile: Profile) -> Profile:
    lengths = ("message", "reasoning", "response", "tool_result", "system")
    return dataclasses.replace(
        profile,
        steps=min(profile.steps, 4),
        **{name: getattr(profile, name) // SHORTER for name in lengths},
    )


def measure(
    name: str, turns: int, *, tokens: int, rounds: int, shape: Shape = SHAPE
) -> Line | None:
    """Measure a cell, or leave it out where its npass row is too long."""
    words = Words(seed=turns, vocabulary=shape.vocabulary)
    conversations = [views(shorter(PROFILES[name]), turns, words)]
    longest = len(rows(conversations, "onepass", 1 << 24)[0])
    conversations += [
        views(shorter(PROFILES[name]), turns, words) for _ in range(tokens // longest - 1)
    ]
    packed = {each: rows(conversations, each, 1 << 24) for each in ("onepass", "npass")}
    if max(map(len, packed["npass"])) > LONGEST:
        return None
    ways = {"onepass": by_branches, "npass": plain}
    torch.manual_seed(0)
    model = Model(shape)
    seconds = dict.fromkeys(ways, float("inf"))
    losses = {}
    for _ in range(rounds):
        for layout, way in ways.items():
            start = time.process_time()
            losses[layout] = step(model, packed[layout], way)
            seconds[layout] = min(seconds[layout], time.process_time() - start)
            model.zero_grad(set_to_none=True)
    return Line(
        name,
        turns,
        sum(map(len, packed["npass"])) / sum(map(len, packed["onepass"])),
        operations(packed["npass"], shape) / operations(packed["onepass"], shape),
        seconds["npass"] / seconds["onepass"],
        (losses["npass"], losses["onepass"]),
    )


README = Path(__file__).with_name("README.md")


def write(lines: Sequence[Line]) -> None:
    table = "".join(f"{line.markdown()}\n" for line in lines)
    head = (
        r"(?<=\| profile \| turns \| tokens \| allowed \| measured \| share \|\n)(\|-.*\n)(\|.*\n)*"
    )
    text = re.sub(head, lambda found: found[1] + table, README.read_text("utf-8"), count=1)
    README.write_text(text, "utf-8")


def main(arguments: Sequence[str] | None = None) -> list[Line]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES), choices=list(PROFILES))
    parser.add_argument("--turns", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=2560, help="about, as onepass rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="the table of README.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = []
    for name in given.profiles:
        for turns in given.turns:
            line = measure(name, turns, tokens=given.tokens, rounds=given.rounds)
            lines += [line] if line else []
            print(line.markdown() if line else f"{name}, {turns} turns: left out", flush=True)
    shares = [line.measured / line.allowed for line in lines]
    print(f"median {np.median(shares):.2f}, from {min(shares):.2f} to {max(shares):.2f} of allowed")
    if given.write:
        write(lines)
    return lines


if __name__ == "__main__":
    main()
