"""Count what a layout costs without a GPU: tokens of linear layers, 128 × 128 blocks of attention.

    python tests/gpu/count_blocks.py --turns 2 4 8 16 32
    python tests/gpu/count_blocks.py --write            # the table and plot of tests/gpu/README.md

For each profile and number of turns the same conversations, packed into rows of one length:
tokens and blocks of npass over those of one-pass. The two ratios bound the speed-up: time is a
mix of both. Blocks of npass, and of one-pass by `branches`, are those of a varlen kernel, which
cuts each sample or branch into tiles from its own start; with a block mask (`masked`) they follow
the row. `dense` is what a causal kernel computes over an unpacked one-pass row without a block
mask: its pairs over the visible pairs.
`speed-up` mixes tokens and blocks by FLOPs for a model of the given width (hidden size), as if a
block took every kernel the same time. A kernel that takes a mask is slower than varlen: `slower`
says how many times as long a block may take it before npass is cheaper.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from conversations import PROFILES, Profile, Sample, Words, row_length, rows, views
from numpy.typing import NDArray

from reasonpack.masks import blocks
from reasonpack.masks.branches import branches

BLOCK = 128


@dataclass(frozen=True)
class Cost:
    """Tokens of a layout without padding, visible blocks, visible pairs, causal pairs."""

    tokens: int
    blocks: int
    pairs: int
    causal_pairs: int

    def flops(self, width: int) -> float:
        """Per layer, forward: 24 d² a token (attention and MLP weights), 4 d a pair computed."""
        return 24 * width**2 * self.tokens + 4 * width * BLOCK**2 * self.blocks


Kernel = Literal["masked", "branches", "varlen"]


def cost(packed: Sequence[Sample], kernel: Kernel) -> Cost:
    count = {"masked": _blocks, "branches": _branch_tiles, "varlen": _tiles}[kernel]
    return Cost(
        tokens=sum(len(row) for row in packed),
        blocks=sum(map(count, packed)),
        pairs=sum(int(_pairs(row)) for row in packed),
        causal_pairs=sum(int((n * (n + 1) // 2).sum()) for n in map(_lengths, packed)),
    )


def _blocks(row: Sample) -> int:
    partial, full = blocks.grid(row.visible_until[None], block_size=(BLOCK, BLOCK))
    return int(partial.sum() + full.sum())


def _tiles(row: Sample) -> int:
    """Lower triangles of tiles, one for each plain sample of the row."""
    tiles = -(-_lengths(row) // BLOCK)
    return int((tiles * (tiles + 1) // 2).sum())


def _branch_tiles(row: Sample) -> int:
    """Tiles of each branch: blocks of its own queries, from the first key of its path."""
    found = branches(row.visible_until[None])
    return sum(
        -(-(keys - queries + min(first + BLOCK, queries)) // BLOCK)
        for queries, keys in zip(
            np.diff(found.cu_seqlens_q).tolist(), np.diff(found.cu_seqlens_k).tolist(), strict=True
        )
        for first in range(0, queries, BLOCK)
    )


def _lengths(row: Sample) -> NDArray[np.int64]:
    """Tokens of each sample in a row."""
    return np.diff(np.flatnonzero(row.position_ids == 0), append=len(row)).astype(np.int64)


def _pairs(row: Sample) -> np.int64:
    return (row.visible_until - np.arange(len(row))).sum(dtype=np.int64)


@dataclass(frozen=True)
class Line:
    """One line of the table; ratios are npass over the layout, so above 1 the layout is cheaper."""

    profile: str
    turns: int
    row_tokens: int
    tokens: int
    token_ratio: float
    block_ratio: float
    speed_up: float
    masked_block_ratio: float
    masked_speed_up: float
    slower: float
    dense: float
    dense_over_npass: float


def measure(
    name: str, profile: Profile, turns: int, *, tokens: int, least_row: int, width: int
) -> Line:
    """Count for conversations that make about `tokens` tokens as one-pass rows."""
    words = Words(seed=turns, vocabulary=1024)
    conversations = [views(profile, turns, words)]
    each = sum(map(len, rows(conversations, "onepass", 1 << 24)))
    conversations += [views(profile, turns, words) for _ in range(max(3, tokens // each))]
    size = row_length(conversations, least_row)
    packed = rows(conversations, "onepass", size)
    onepass, masked = cost(packed, "branches"), cost(packed, "masked")
    npass = cost(rows(conversations, "npass", size), "varlen")
    return Line(
        profile=name,
        turns=turns,
        row_tokens=size,
        tokens=onepass.tokens,
        token_ratio=npass.tokens / onepass.tokens,
        block_ratio=npass.blocks / onepass.blocks,
        speed_up=npass.flops(width) / onepass.flops(width),
        masked_block_ratio=npass.blocks / masked.blocks,
        masked_speed_up=npass.flops(width) / masked.flops(width),
        slower=_slower(masked, npass, width),
        dense=onepass.causal_pairs / onepass.pairs,
        dense_over_npass=2 * onepass.causal_pairs / npass.pairs,
    )


def _slower(onepass: Cost, npass: Cost, width: int) -> float:
    """How many times as long a block of one-pass may take, so that both cost the same."""
    block = 4 * width * BLOCK**2
    linear_saved = 24 * width**2 * (npass.tokens - onepass.tokens)
    return (linear_saved + block * npass.blocks) / (block * onepass.blocks)


HEAD = (
    "profile         turns    row | npass / one-pass by branches | by a block mask          |"
    "  dense\n"
    "                             |  tokens    blocks   speed-up | blocks  speed-up  slower |"
    "  pairs"
)


def text(line: Line) -> str:
    return (
        f"{line.profile:<15} {line.turns:>5} {line.row_tokens:>6} |"
        f" {line.token_ratio:>7.2f}  {line.block_ratio:>8.2f}  {line.speed_up:>9.2f} |"
        f" {line.masked_block_ratio:>6.2f}  {line.masked_speed_up:>8.2f}  {line.slower:>6.1f} |"
        f" {line.dense:>5.1f}x"
    )


# --- README.md and the plot -----------------------------------------------------------------------

README = Path(__file__).with_name("README.md")
COLOURS = {
    "chat": "#2b6cb0",
    "equal": "#718096",
    "agentic": "#38a169",
    "long-reasoning": "#c05621",
}


def markdown(line: Line) -> str:
    """A line of the table in README.md."""
    return (
        f"| {line.profile} | {line.turns} | {line.token_ratio:.2f} | {line.block_ratio:.2f} |"
        f" {line.speed_up:.2f} | {line.masked_block_ratio:.2f} | {line.masked_speed_up:.2f} |"
        f" {line.slower:.1f} | {line.dense:.1f} | {line.dense_over_npass:.1f} |"
    )


def plot(lines: Sequence[Line]) -> str:
    """How many times cheaper one-pass is, over the turns, both in powers of two."""
    left, bottom, step = 40, 220, 80

    def place(turns: int, ratio: float) -> str:
        return (
            f"{left + step * (math.log2(turns) - 1):.0f},{bottom - 2 - 70 * math.log2(ratio):.0f}"
        )

    parts = [
        f'<text x="4" y="{bottom - 70 * power + 4}">{2**power}×</text>'
        f'<path d="M{left} {bottom - 70 * power}h{step * 4}" stroke="#e2e8f0"/>'
        for power in range(4)
    ]
    parts += [
        f'<text x="{left + step * power}" y="{bottom + 16}">{2 << power}</text>'
        for power in range(5)
    ]
    for number, (profile, colour) in enumerate(COLOURS.items()):
        own = [line for line in lines if line.profile == profile]
        for dash, ratios in (("", "speed_up"), ("3 3", "masked_speed_up")):
            points = " ".join(place(line.turns, getattr(line, ratios)) for line in own)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}"'
                f' stroke-width="2" stroke-dasharray="{dash}"/>'
            )
        parts.append(f'<text x="380" y="{40 + 18 * number}" fill="{colour}">{profile}</text>')
    parts.append('<text x="380" y="130">dashed: block mask</text>')
    parts.append(f'<text x="{left}" y="{bottom + 32}">turns</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="500" height="260"'
        ' font-family="sans-serif" font-size="12">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def write(lines: Sequence[Line]) -> None:
    """Put the table into README.md, and the plot beside it."""
    table = "".join(f"{markdown(line)}\n" for line in lines)
    text = re.sub(r"(?<=\|---:\|\n)(\|.*\n)*", lambda _: table, README.read_text("utf-8"), count=1)
    README.write_text(text, "utf-8")
    README.with_name("layouts.svg").write_text(plot(lines), "utf-8")


def main(arguments: Sequence[str] | None = None) -> list[Line]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES), choices=list(PROFILES))
    parser.add_argument("--turns", nargs="+", type=int, default=[2, 4, 8, 16, 32])
    parser.add_argument("--tokens", type=int, default=100_000, help="about, as one-pass rows")
    parser.add_argument("--row-tokens", type=int, default=16_384, help="at least")
    parser.add_argument("--width", type=int, default=1024, help="of the model, for the speed-up")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="the table and plot of README.md")
    given = parser.parse_args(arguments)
    lines = [
        measure(
            name,
            PROFILES[name],
            turns,
            tokens=given.tokens,
            least_row=given.row_tokens,
            width=given.width,
        )
        for name in given.profiles
        for turns in given.turns
    ]
    if given.write:
        write(lines)
    elif given.json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
    else:
        print(HEAD, *map(text, lines), sep="\n")
    return lines


if __name__ == "__main__":
    main()
