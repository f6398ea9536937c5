"""Rows → what each layout and kernel computes for them, counted from the segments alone.

                          tokens        pairs of tokens            blocks of 128 × 128
    block-sparse kernel   T             visible                    in which a pair is visible
    dense kernel          T             T²                         ceil(T / 128)²
      causal              T             T(T + 1) / 2               a lower triangle of them
    npass, varlen         Σ L           Σ L(L + 1) / 2             a lower triangle a leaf

T tokens of a row, L of a leaf, which is a sample of the npass layout. Linear layers pay for
tokens, attention for blocks. A row is judged from its segments, in O(S + T / 128), and a
dataset batch by batch; no mask is made.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["BLOCK", "Costs", "Work", "cost_lines", "count"]

BLOCK = 128
WIDTH = 1024
"""Hidden size of the small model for which layouts are compared; wider ones favour onepass."""
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """What one layout and kernel computes.

    Attributes:
        tokens: that pass through the linear layers, without padding.
        pairs: of a query and a key whose score is needed, or computed by a dense kernel.
        blocks: of 128 × 128 pairs that the kernel visits, for one head of one layer.
    """

    tokens: int = 0
    pairs: int = 0
    blocks: int = 0

    def __add__(self, other: Work) -> Work:
        """Add up two batches."""
        return Work(
            self.tokens + other.tokens, self.pairs + other.pairs, self.blocks + other.blocks
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """What the rows cost as they are, and what the leaves of their forests would.

    Attributes:
        block_sparse: the rows, with a kernel that visits only blocks where a pair is visible.
        causal: the rows, with a kernel that computes all pairs up to the diagonal.
        dense: the rows, with a kernel that computes all pairs.
        npass: the leaves, packed or not, with a kernel that starts its tiles at each of them.
    """

    block_sparse: Work = field(default_factory=Work)
    causal: Work = field(default_factory=Work)
    dense: Work = field(default_factory=Work)
    npass: Work = field(default_factory=Work)

    def __add__(self, other: Costs) -> Costs:
        """Add up two batches."""
        return Costs(
            self.block_sparse + other.block_sparse,
            self.causal + other.causal,
            self.dense + other.dense,
            self.npass + other.npass,
        )


def count(batch: pa.RecordBatch) -> Costs:
    """Count for the rows of a batch, in either layout."""
    length = batch.column("length").to_numpy().astype(np.int64)
    if not len(length):
        return Costs()
    segments = batch.column("segment_start").value_lengths().to_numpy()
    start = batch.column("segment_start").flatten().to_numpy().astype(np.int64)
    until = batch.column("segment_visible_until").flatten().to_numpy().astype(np.int64)
    end = np.append(start[1:], 0)
    end[np.cumsum(segments) - 1] = length

    visible = int(((end - start) * (2 * until - start - end + 1)).sum()) // 2
    tiles = -(-length // BLOCK)
    tokens = int(length.sum())
    positions = batch.column("position_ids").flatten().to_numpy()
    row_start = np.repeat(np.cumsum(length) - length, segments)
    leaf = positions[(row_start + end - 1)[until == end]].astype(np.int64) + 1
    return Costs(
        block_sparse=Work(tokens, visible, _visited(start, until, segments, tiles)),
        causal=Work(tokens, _triangle(length), _triangle(tiles)),
        dense=Work(tokens, int((length**2).sum()), int((tiles**2).sum())),
        npass=Work(int(leaf.sum()), _triangle(leaf), _triangle(-(-leaf // BLOCK))),
    )


def _triangle(sizes: I64) -> int:
    return int((sizes * (sizes + 1) // 2).sum())


def _visited(start: I64, until: I64, segments: NDArray[np.int32], tiles: I64) -> int:
    """Blocks in which a pair is visible, for segments of rows that have `tiles` blocks of keys.

    Block j of keys is visited by the blocks of queries from j up to the one in which the
    highest `visible_until` of its keys lies (`masks.blocks.classify` has the proof).
    """
    first = np.cumsum(tiles) - tiles  # block of keys of each row, counted through the batch
    placed = start + BLOCK * np.repeat(first, segments)  # rows begin at a block
    edge = BLOCK * np.arange(int(tiles.sum()))
    opens = np.searchsorted(placed, edge, side="right") - 1  # the segment that holds the edge
    highest = np.maximum.reduceat(until, opens)
    # A segment that goes on past the end of a block was counted to the next one only.
    follows = np.append(opens[1:], len(placed) - 1)
    shared = np.append(placed[opens[1:]] < edge[1:], False)
    highest = np.where(shared, np.maximum(highest, until[follows]), highest)
    in_row = edge // BLOCK - np.repeat(first, tiles)
    return int((-(-highest // BLOCK) - in_row).sum())


# --- to read --------------------------------------------------------------------------------------


def cost_lines(costs: Costs, layout: str) -> Iterator[str]:
    """Write the counts as a table, and what follows from them."""
    npass, dense = ("npass, varlen kernel", costs.npass), (f"{layout}, dense mask", costs.dense)
    lines = (
        [npass, dense]
        if layout == "npass"
        else [("onepass, block-sparse kernel", costs.block_sparse), dense, npass]
    )
    yield f"{'what a layer computes':<30} {'tokens':>15} {'pairs':>19} {'128×128 blocks':>16}"
    for name, work in lines:
        yield f"  {name:<28} {work.tokens:>15,} {work.pairs:>19,} {work.blocks:>16,}"
    if costs.npass.tokens:
        yield from textwrap.wrap(_advice(costs, layout), 85)


def _advice(costs: Costs, layout: str) -> str:
    """Say which layout to take with which kernel."""
    visible = costs.block_sparse.pairs
    dense = (
        f"a dense mask (SDPA, eager) computes {costs.dense.pairs / visible:.1f} times the visible "
        f"pairs, a causal kernel {costs.causal.pairs / visible:.1f} times"
    )
    if layout == "npass":
        return (
            f"A kernel that is given the borders of the samples computes just these; {dense}. What "
            "onepass would save says pack with --layout onepass --dry-run."
        )
    without = (
        f"take npass: {dense}"
        if costs.dense.pairs > costs.npass.pairs
        else f"{dense}, which is less than npass does, but takes a T × T mask"
    )
    return f"{_with_blocks(costs.block_sparse, costs.npass)} Without one {without}."


def _with_blocks(rows: Work, npass: Work) -> str:
    """Say what a block-sparse kernel makes of a onepass dataset."""
    kernel = "a block-sparse kernel (FlexAttention, FlashMask, MagiAttention, FA4)"
    if npass.tokens == rows.tokens:
        return f"No conversation has a branch: with {kernel} either layout will do."
    tokens = f"{npass.tokens / rows.tokens:.2f} times fewer tokens"
    # A layer of width d computes 24 d² a token in its weights and 4 d a pair in attention.
    per_token = 6 * WIDTH / BLOCK**2  # what a token costs, in blocks
    slower = (per_token * (npass.tokens - rows.tokens) + npass.blocks) / rows.blocks
    if slower < 1:
        return f"With {kernel} too npass costs less, in a model of hidden size {WIDTH:,}."
    more = rows.blocks > npass.blocks
    ratio = rows.blocks / npass.blocks if more else npass.blocks / rows.blocks
    blocks = f"{ratio:.2f} times {'more' if more else 'fewer'} blocks"
    return (
        f"With {kernel} take onepass: {tokens} {'but' if more else 'and'} {blocks} than npass. At "
        f"hidden size {WIDTH:,} it pays if a block takes that kernel less than {slower:.1f} times "
        "what it takes a varlen kernel."
    )
