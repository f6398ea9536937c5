"""Train the same conversations as one-pass and as packed npass rows, and compare the cost.

    python tests/gpu/train_layouts.py --output report            # one GPU, some minutes
    python tests/gpu/train_layouts.py --device cpu --tiny --steps 1

For each profile and number of turns one epoch of the same conversations, from the same weights,
in bf16. An optimizer step is the same group of conversations in every layout, so the losses have
to agree; time and peak memory are what differs. Step time leaves the first step out, which
compiles. Beside the measured speed-up stand the ratios of tokens and of 128 × 128 blocks, and what
both together allow by floating-point operations; at least 0.9 of that is the goal. `report.json`
holds everything, `report.svg` a bar for each measurement.

    onepass-varlen   FlashAttention varlen (torch.nn.attention.varlen), keys of each branch gathered
    onepass-flex     FlexAttention, BlockMask of the forest
    npass-flex       FlexAttention, document mask
    npass-varlen     FlashAttention varlen

On a CPU attention is SDPA with a dense mask, as FlexAttention has no backward there, and that of
branches is the reference of `reasonpack.torch`.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversations import PROFILES, LayoutName, Sample, Words, row_length, rows, views
from count_blocks import Cost, Kernel, cost
from encoded import EncodedView
from numpy.typing import NDArray
from qwen3 import Attend, Model, Shape

from reasonpack.masks import dense, flex, varlen
from reasonpack.torch.branch_index import BranchIndex, branch_index
from reasonpack.torch.gather import gathered, regathered
from reasonpack.torch.stock_attention import varlen_attention

LAYOUTS: dict[str, LayoutName] = {
    "onepass-varlen": "onepass",
    "onepass-flex": "onepass",
    "npass-flex": "npass",
    "npass-varlen": "npass",
}
KERNELS: dict[str, Kernel] = {"onepass-varlen": "branches", "npass-varlen": "varlen"}
TINY = Shape(width=32, layers=2, heads=4, groups=2, head_dim=8, inner=64, vocabulary=256)
Group = Sequence[Sequence[EncodedView]]
VarlenKernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], torch.Tensor]
"""q `[1, H, T, D]`, k and v `[1, G, K, D]`, cu_seqlens and longest of q and k -> as q."""


@dataclass(frozen=True)
class Result:
    """One run: `seconds` a step without the first, `gib` the peak, `loss` that of the last step."""

    profile: str
    turns: int
    layout: str
    width: int
    tokens: int
    blocks: int
    seconds: float
    gib: float
    loss: float

    @property
    def flops(self) -> float:
        return Cost(self.tokens, self.blocks, 0, 0).flops(self.width)


@functools.cache
def _compiled_flex() -> Any:
    import torch._dynamo
    from torch.nn.attention.flex_attention import flex_attention

    known = hasattr(torch._dynamo.config, "recompile_limit")
    name = "recompile_limit" if known else "cache_size_limit"
    setattr(torch._dynamo.config, name, 256)  # 8 shapes by default
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)  # beyond: an error


def attention(layout: str, row: Sample, total: int, device: torch.device) -> Attend:
    """Prepare the mask of one row, padded to `total`, and return what the layers call."""
    if layout == "onepass-varlen":
        return by_branches(padded_flat(row, total), device)
    until = np.arange(1, total + 1, dtype=np.int32)
    until[: len(row)] = row.visible_until
    if device.type == "cpu":
        mask = torch.from_numpy(dense.visible(until))
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return lambda q, k, v: sdpa(q, k, v, attn_mask=mask, enable_gqa=True)
    if layout != "npass-varlen":
        block_mask = flex.block_mask(torch.from_numpy(until)[None].to(device))
        flex_attention = _compiled_flex()
        return lambda q, k, v: flex_attention(q, k, v, block_mask=block_mask, enable_gqa=True)
    bounds = varlen.cu_seqlens(padded_flat(row, total))
    longest = int(np.diff(bounds).max())
    cu = torch.from_numpy(bounds).to(device)
    return lambda q, k, v: varlen_kernel(q, k, v, (cu, cu, longest, longest))


def padded_flat(row: Sample, total: int) -> NDArray[np.int32]:
    """`visible_until` `i32[1, T]` whose padding is one more sequence."""
    until = np.full((1, total), total, np.int32)
    until[0, : len(row)] = row.visible_until
    return until


def by_branches(
    until: NDArray[np.int32], device: torch.device, kernel: VarlenKernel | None = None
) -> Attend:
    """Gather the keys of each branch's path, and call a kernel, by default that of npass-varlen."""
    attend_flat = kernel or varlen_kernel
    index = BranchIndex(
        **{
            name: value.to(device) if torch.is_tensor(value) else value
            for name, value in branch_index(until).items()
        }
    )
    sizes = (index.cu_seqlens_q, index.cu_seqlens_k, index.max_seqlen_q, index.max_seqlen_k)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        keys, values = gathered(k, index), gathered(v, index)
        with regathered([(k, keys), (v, values)], index):
            if device.type == "cuda":
                return attend_flat(q, keys, values, sizes)
            tokens = [x[0].transpose(0, 1) for x in (q, keys, values)]
            return varlen_attention(*tokens, *sizes[:2]).transpose(0, 1)[None]

    return attend


def varlen_kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sizes: Any) -> torch.Tensor:
    """`torch.nn.attention.varlen`, causal; q `[1, H, T, D]`, k and v `[1, G, K, D]`."""
    from torch.nn.attention.varlen import varlen_attn

    tokens = [x[0].transpose(0, 1) for x in (q, k, v)]
    grouped = "enable_gqa" in inspect.signature(varlen_attn).parameters
    options = {**CAUSAL, "enable_gqa": True} if grouped else CAUSAL
    if not grouped:  # an older torch, which wants a key head for each query head
        copies = q.shape[1] // k.shape[1]
        tokens[1:] = [x.repeat_interleave(copies, dim=1) for x in tokens[1:]]
    seen: torch.Tensor = varlen_attn(*tokens, *sizes, **options)
    return seen.transpose(0, 1)[None]


CAUSAL: dict[str, Any] = (
    {"window_size": (-1, 0)} if torch.__version__ >= "2.11" else {"is_causal": True}
)


def step(
    model: Model, packed: Sequence[Sample], layout: str, total: int | None, device: torch.device
) -> float:
    """Accumulate the gradient of a group of conversations; return the mean loss.

    Rows are padded to `total`, or to 128 tokens each.
    """
    trained = sum(int((row.labels != -100).sum()) for row in packed)
    loss_sum = 0.0
    for row in packed:
        length = total or -(-len(row) // 128) * 128
        columns = [
            torch.from_numpy(np.pad(values, (0, length - len(row)), constant_values=fill))
            for values, fill in ((row.input_ids, 0), (row.position_ids, 0), (row.labels, -100))
        ]
        ids, positions, labels = (column.long()[None].to(device) for column in columns)
        attend = attention(layout, row, length, device)
        logits = model(ids, positions, attend)
        loss = torch.nn.functional.cross_entropy(
            logits[0, :-1].float(), labels[0, 1:], reduction="sum"
        )
        (loss / trained).backward()
        loss_sum += float(loss.detach())
    return loss_sum / trained


@dataclass(frozen=True)
class Case:
    """What every layout trains: groups of conversations, one a step.

    Attributes:
        profile: its name.
        turns: of each conversation.
        groups: a step each.
        row_tokens: of which rows have at most so many.
        pad: whether all rows are padded to that, so that nothing is compiled again.
        shape: of the model.
        device: to train on.
    """

    profile: str
    turns: int
    groups: Sequence[Group]
    row_tokens: int
    pad: bool
    shape: Shape
    device: torch.device

    def packed(self, layout: str) -> list[list[Sample]]:
        """Lay each group out, once if it is the same group in every step."""
        made = {
            id(group): rows(group, LAYOUTS[layout], self.row_tokens)
            for group in {id(group): group for group in self.groups}.values()
        }
        return [made[id(group)] for group in self.groups]


def epoch(
    case: Case, layout: str, packed: Sequence[Sequence[Sample]]
) -> tuple[list[float], list[float], float]:
    """Train on all groups; return the loss and the seconds of each step, and the peak in GiB."""
    device, total = case.device, case.row_tokens if case.pad else None
    torch.manual_seed(0)
    cuda = device.type == "cuda"
    model = Model(case.shape).to(device, torch.bfloat16 if cuda else torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    losses, seconds = [], []
    for group in packed:
        start = time.perf_counter()
        losses.append(step(model, group, layout, total, device))
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return losses, seconds, torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0


def run(case: Case, layout: str) -> Result:
    """Train in one layout, and say what it cost."""
    packed = case.packed(layout)
    counted = [row for group in packed for row in group]
    found: Cost = cost(counted, KERNELS.get(layout, "masked"))
    losses, seconds, gib = epoch(case, layout, packed)
    return Result(
        profile=case.profile,
        turns=case.turns,
        layout=layout,
        width=case.shape.width,
        tokens=found.tokens,
        blocks=found.blocks,
        seconds=float(np.mean(seconds[1:] or seconds)),
        gib=gib,
        loss=losses[-1],
    )


def compare(profile: str, turns: int, given: argparse.Namespace) -> list[Result]:
    """Run every layout on the same conversations."""
    shape = TINY if given.tiny else Shape()
    words = Words(seed=turns, vocabulary=shape.vocabulary)
    conversations = [
        views(PROFILES[profile], turns, words) for _ in range(given.group * given.steps)
    ]
    case = Case(
        profile=profile,
        turns=turns,
        groups=[conversations[at :: given.steps] for at in range(given.steps)],
        row_tokens=row_length(conversations, 128 if given.tiny else given.row_tokens),
        pad=True,
        shape=shape,
        device=torch.device(given.device),
    )
    return [run(case, layout) for layout in given.layouts]


def lines(results: Sequence[Result]) -> list[str]:
    """The table; ratios are those of the fastest npass over the line."""
    npass = [each for each in results if each.layout.startswith("npass")]
    base = min(npass, key=lambda each: each.seconds) if npass else results[0]
    return [
        f"{each.profile:<15} {each.turns:>5}  {each.layout:<14} {each.tokens:>9,}"
        f" {each.seconds * 1e3:>9.1f} ms {each.gib:>6.1f} GiB  loss {each.loss:.4f}"
        f"   tokens {base.tokens / each.tokens:>5.2f}x  blocks {base.blocks / each.blocks:>5.2f}x"
        f"  allowed {base.flops / each.flops:>5.2f}x  measured {base.seconds / each.seconds:>5.2f}x"
        for each in results
    ]


COLOURS = {
    "onepass-varlen": "#2b6cb0",
    "onepass-flex": "#38a169",
    "npass-flex": "#a0aec0",
    "npass-varlen": "#718096",
}


def plot(results: Sequence[Result]) -> str:
    """A bar of step time for each result, as SVG."""
    longest = max(each.seconds for each in results)
    bars = []
    for number, each in enumerate(results):
        y, width = 18 * number, 500 * each.seconds / longest
        label = f"{each.profile}, {each.turns} turns, {each.layout}"
        bars.append(
            f'<text x="0" y="{y + 13}">{label}</text>'
            f'<rect x="260" y="{y + 2}" width="{width:.1f}" height="14"'
            f' fill="{COLOURS[each.layout]}"/>'
            f'<text x="{265 + width:.1f}" y="{y + 13}">{each.seconds * 1e3:.0f} ms</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{18 * len(results)}"'
        ' font-family="sans-serif" font-size="11">\n' + "\n".join(bars) + "\n</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--profiles", nargs="+", default=["chat", "agentic", "long-reasoning"])
    parser.add_argument("--turns", nargs="+", type=int, default=[2, 4, 8, 16, 32])
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps, the epoch's groups")
    parser.add_argument("--group", type=int, default=4, help="conversations a step")
    parser.add_argument("--row-tokens", type=int, default=16_384, help="at least")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, short rows")
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.svg")
    given = parser.parse_args(arguments)
    results: list[Result] = []
    for profile in given.profiles:
        for turns in given.turns:
            found = compare(profile, turns, given)
            print(*lines(found), sep="\n", flush=True)
            results += found
            if given.output:  # after each, so that a run cut short leaves what it has
                report = json.dumps([asdict(each) for each in results], indent=1)
                given.output.with_suffix(".json").write_text(report)
                given.output.with_suffix(".svg").write_text(plot(results))
    return results


if __name__ == "__main__":
    main()
