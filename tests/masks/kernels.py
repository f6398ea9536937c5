"""What kernels make of the masks that they are given, written out cell by cell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from forests import Forest, positions, row

from reasonpack.masks import magi, stack
from reasonpack.masks.branches import Branches


def until_of(batch: list[Forest], padding: int = 0) -> np.ndarray:
    return stack([row(forest) for forest in batch], max(map(len, batch)) + padding)


def positions_of(batch: list[Forest], total: int) -> np.ndarray:
    out = np.zeros((len(batch), total), np.int32)
    for line, forest in zip(out, batch, strict=True):
        line[: len(forest)] = positions(forest)
    return out


def tiles(mask: np.ndarray, block_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Partial and full blocks by counting cells; past the end of the row is hidden."""
    query, key = block_size
    rows, total, _ = mask.shape
    padded = np.pad(mask, [(0, 0), (0, -total % query), (0, -total % key)])
    shape = (rows, padded.shape[1] // query, query, padded.shape[2] // key, key)
    seen = padded.reshape(shape).sum(axis=(2, 4))
    return (seen > 0) & (seen < query * key), seen == query * key


def listed(count: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The blocks that a kernel visits: the first `count` of each list."""
    out = np.zeros(index.shape, bool)
    for place in np.ndindex(count.shape):
        out[place][index[place][: count[place]]] = True
    return out[:, 0]


def covered(found: magi.Slices, size: int) -> np.ndarray:
    """How many slices hold each cell, by the four shapes that the kernel knows."""
    count = np.zeros((size, size), int)
    for (q0, q1), (k0, k1), kind in zip(
        found.q_ranges, found.k_ranges, found.attn_type_map, strict=True
    ):
        i, j = np.indices((q1 - q0, k1 - k0))
        causal = j <= i + (k1 - k0) - (q1 - q0)
        inverse = j >= i
        shape = [np.ones_like(causal), causal, inverse, causal & inverse][kind]
        count[q0:q1, k0:k1] += shape
    return count


def end_to_end(mask: np.ndarray) -> np.ndarray:
    """bool[B, T, T] as one bool[B·T, B·T]; rows of the batch do not see each other."""
    rows, total, _ = mask.shape
    out = np.zeros((rows * total, rows * total), bool)
    for b in range(rows):
        out[b * total : (b + 1) * total, b * total : (b + 1) * total] = mask[b]
    return out


def sequences(bounds: np.ndarray) -> np.ndarray:
    """The mask of a varlen kernel called with `causal=True`."""
    out = np.zeros((bounds[-1], bounds[-1]), bool)
    for first, end in pairwise(bounds):
        out[first:end, first:end] = np.tril(np.ones((end - first,) * 2, bool))
    return out


def bottom_right(
    found: Branches, *, window: int | None = None, top_left: bool = False
) -> np.ndarray:
    """The mask over tokens of a varlen kernel that is given gathered keys and `causal=True`."""
    size = int(found.cu_seqlens_q[-1])
    out = np.zeros((size, size), bool)
    for (q0, q1), (k0, k1) in zip(
        pairwise(found.cu_seqlens_q), pairwise(found.cu_seqlens_k), strict=True
    ):
        i, j = np.indices((q1 - q0, k1 - k0))
        behind = i + (0 if top_left else (k1 - k0) - (q1 - q0)) - j
        seen = (behind >= 0) & (behind < (window or size))
        out[q0 + i[seen], found.k_index[k0 + j[seen]]] = True
    return out
