"""Rows → what each layout and kernel computes for them, counted from the segments alone.

                          tokens        pairs of tokens            blocks of 128 × 128
    branches, varlen      T             visible                    of each branch, from its start
    block-sparse kernel   T             visible                    those with a visible pair
    dense kernel          T             T²                         ceil(T / 128)²
      causal              T             T(T + 1) / 2               those of the lower triangle
    npass, varlen         Σ L           Σ L(L + 1) / 2             a lower triangle for each leaf

A row has T tokens, a leaf L; a leaf is a sample of the npass layout. The cost of linear layers
grows with tokens, that of attention with blocks. Counting takes O(S + T / 128) for a row of S
segments and makes no mask. `advice` turns the counts into sentences.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from numpy.typing import NDArray

from reasonpack.rows.content_hash import lengths, numbers_in, numbers_of

BLOCK = 128
I64 = NDArray[np.int64]


class Work(Struct, frozen=True):
    """What one layout and kernel computes.

    Attributes:
        tokens: tokens that pass through the linear layers, without padding.
        pairs: pairs of query and key whose score is needed or, by a dense kernel, computed.
        blocks: blocks of 128 × 128 pairs that the kernel visits, for one head of one layer.
    """

    tokens: int = 0
    pairs: int = 0
    blocks: int = 0

    def __add__(self, other: Work) -> Work:
        """Return the sum for two batches."""
        return Work(*_sums(self, other))


class Costs(Struct, frozen=True):
    """What rows cost with each kernel, and what the leaves of their forests would cost as npass.

    Attributes:
        branches: the rows, with a varlen kernel that is given each branch and its path.
        block_sparse: the rows, with a kernel that visits only blocks where a pair is visible.
        causal: the rows, with a kernel that computes all pairs up to the diagonal.
        dense: the rows, with a kernel that computes all pairs.
        npass: the leaves, packed or not, with a kernel that starts its tiles at each of them.
    """

    branches: Work = field(default_factory=Work)
    block_sparse: Work = field(default_factory=Work)
    causal: Work = field(default_factory=Work)
    dense: Work = field(default_factory=Work)
    npass: Work = field(default_factory=Work)

    def __add__(self, other: Costs) -> Costs:
        """Return the sum for two batches."""
        return Costs(*_sums(self, other))


def _sums(one: Any, other: Any) -> list[Any]:
    return [getattr(one, name) + getattr(other, name) for name in one.__struct_fields__]


class Segments:
    """The S segments of a batch of R rows; a null in its columns is a ValueError.

    Attributes:
        length: i64[R], tokens of each row.
        row: i64[S], the row of each segment.
        start: i64[S], counted from the start of the row, like `end` and `until`.
        end: i64[S], exclusive.
        until: i64[S], as `segment_visible_until`.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self.length = numbers_of(batch.column("length")).astype(np.int64)
        self.start, self.until = self.flat("segment_start"), self.flat("segment_visible_until")
        sizes = self.sizes("segment_start")
        self.row = np.repeat(np.arange(len(sizes)), sizes)
        self.end = np.append(self.start[1:], 0)[: len(self.start)]
        self.end[np.cumsum(sizes)[sizes > 0] - 1] = self.length[sizes > 0]

    def flat(self, column: str) -> I64:
        """Return the values of a list column, all rows joined."""
        return numbers_in(self.batch.column(column))

    def sizes(self, column: str) -> I64:
        """Return how many values a column has in each row: i64[R]."""
        return lengths(self.batch.column(column))

    @cached_property
    def seen(self) -> I64:
        """i64[T], how many tokens each token sees, itself included."""
        return self.flat("position_ids") + 1

    @property
    def row_start(self) -> I64:
        """i64[R], the offset of each row's first token in the batch."""
        return np.cumsum(self.length) - self.length


def count(found: Segments) -> Costs:
    """Count tokens, pairs and blocks for the rows of a batch, in either layout."""
    length, start, end, until = found.length, found.start, found.end, found.until
    if not len(length):
        return Costs()
    visible = int(((end - start) * (2 * until - start - end + 1)).sum()) // 2
    tiles = -(-length // BLOCK)
    tokens = int(length.sum())
    leaf_end = (found.row_start[found.row] + end)[until == end]
    leaf = found.seen[leaf_end - 1]
    return Costs(
        branches=Work(tokens, visible, _branch_blocks(np.diff(leaf_end, prepend=0), leaf)),
        block_sparse=Work(tokens, visible, _visible_blocks(start, until, found.row, tiles)),
        causal=Work(tokens, _triangle(length), _triangle(tiles)),
        dense=Work(tokens, int((length**2).sum()), int((tiles**2).sum())),
        npass=Work(int(leaf.sum()), _triangle(leaf), _triangle(-(-leaf // BLOCK))),
    )


def _triangle(sizes: I64) -> int:
    return int((sizes * (sizes + 1) // 2).sum())


def _branch_blocks(branch: I64, path: I64) -> int:
    """Return how many blocks a varlen kernel visits, given each branch's queries and path's keys.

    Queries align with the last keys. Block i of a branch ends at query 128·i, or at the branch's
    end, and sees the keys up to there.
    """
    before = -(-(path - branch) // BLOCK)
    whole = -(-branch // BLOCK) - 1
    return int((whole * before + whole * (whole + 1) // 2 - (-path // BLOCK)).sum())


def _visible_blocks(start: I64, until: I64, row: I64, tiles: I64) -> int:
    """Return the number of blocks with a visible pair, for rows of `tiles` blocks of keys each.

    Block j of keys is visited by the blocks of queries from j up to the one in which the
    highest `visible_until` of its keys lies (`masks.blocks.classify` has the proof).
    """
    first = np.cumsum(tiles) - tiles  # first block of each row, counted over the batch
    placed = start + BLOCK * first[row]  # as if each row began at a block
    edge = BLOCK * np.arange(int(tiles.sum()))
    opens = np.searchsorted(placed, edge, side="right") - 1  # the segment at the edge
    highest = np.maximum.reduceat(until, opens)
    # So far, a segment that continues past the end of a block counts for the next one only.
    follows = np.append(opens[1:], len(placed) - 1)
    shared = np.append(placed[opens[1:]] < edge[1:], False)
    highest = np.where(shared, np.maximum(highest, until[follows]), highest)
    in_row = edge // BLOCK - np.repeat(first, tiles)
    return int((-(-highest // BLOCK) - in_row).sum())
