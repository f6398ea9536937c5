"""Tokens of a row or a view → hashed paths, which are equal if the visible tokens are equal.

    row      h1 t1 r_out1 r_in1 h2          path of a token in h2:  h1 r_in1 h2 up to it

A path is the tokens that a token sees, with their positions, and the token itself. Its hash is the
sum of key[position] × (token + 1) modulo 2⁶⁴, twice, with keys drawn when the program starts. The
hashes of all tokens of a row are computed together: a running sum, minus the tokens that are no
longer visible. Two different paths have the same hash with a probability below 2⁻⁶⁴ as long as
they do not depend on the keys (multilinear hashing; ids are below 2³¹).
"""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.verify.row import Row

Integers = NDArray[np.integer[Any]]
U64 = NDArray[np.uint64]
Fingerprint = tuple[int, int, int, int, int, int]
"""Hashes of the leaves of a conversation (two numbers), of its trained paths (two), and of these
with their weights and values (two)."""
_SEED = secrets.randbits(128)
_MASK = (1 << 64) - 1


class Paths(Struct, frozen=True):
    """Hashed paths of the T tokens of a row.

    Attributes:
        seen: u64[T, 2], the path of each token.
        predicted: u64[T, 2], the path of the token before it in the row, then the token: this is
            trained if the token is. Equal to `seen` at trained tokens if rule 8 holds.
        leaf: bool[T], which tokens no other token sees.
    """

    seen: U64
    predicted: U64
    leaf: NDArray[np.bool_]


def row_paths(row: Row) -> Paths:
    """Return the paths of a row that is a forest in pre-order."""
    starts, stops, until = row.segment_start, row.segment_stop, row.segment_visible_until
    terms = _terms(row.input_ids, row.position_ids)
    gone = np.zeros((row.length + 1, 2), np.uint64)
    np.add.at(gone, until, np.add.reduceat(terms, starts, axis=0))
    seen = np.cumsum(terms, axis=0) - np.cumsum(gone, axis=0)[: row.length]
    before = np.zeros_like(seen)
    before[1:] = seen[:-1]
    leaf = np.repeat(until, stops - starts) == np.arange(1, row.length + 1)
    return Paths(seen, before + terms, leaf)


def view_paths(ids: Integers) -> U64:
    """Return the paths u64[T, 2] of a view of T tokens.

    >>> one, two = view_paths(np.array([4, 5, 6])), view_paths(np.array([4, 5, 7]))
    >>> (one == two).all(axis=1).tolist()
    [True, True, False]
    """
    seen: U64 = np.cumsum(_terms(ids, np.arange(len(ids))), axis=0)
    return seen


def _terms(ids: Integers, positions: Integers) -> U64:
    keys = _keys(1 << max(12, int(positions.max(initial=0)).bit_length()))
    terms: U64 = keys[positions] * (ids.astype(np.int64) + 1).astype(np.uint64)[:, None]
    return terms


@cache
def _keys(count: int) -> U64:
    """Return u64[count, 2], two random keys for each position; a larger count only adds keys."""
    generator = np.random.default_rng(_SEED)
    return generator.integers(_MASK, size=(count, 2), dtype=np.uint64, endpoint=True)


def distinct(paths: U64) -> U64:
    """Return paths sorted, each once.

    >>> distinct(np.array([[2, 1], [1, 5], [2, 1]], np.uint64)).tolist()
    [[1, 5], [2, 1]]
    """
    return each_once(paths)[0]


def each_once(paths: U64) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """Return U distinct paths sorted, i64[U] their first places, and i64[N] which of them each is.

    >>> [each.tolist() for each in each_once(np.array([[2, 1], [1, 5], [2, 1]], np.uint64))]
    [[[1, 5], [2, 1]], [1, 0], [1, 0, 1]]
    """
    order = np.lexsort((paths[:, 1], paths[:, 0]))  # stable: equal paths stay in order
    ordered = paths[order]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    which = np.empty(len(order), np.int64)
    which[order] = np.cumsum(new) - 1
    return ordered[new], order[new], which


def fingerprint(leaves: U64, trained: U64, weights: NDArray[np.float32], more: U64) -> Fingerprint:
    """Hash leaves and trained paths, as multisets: repetitions count, and order does not.

    Args:
        leaves: u64[L, 2].
        trained: u64[N, 2].
        weights: f32[N], loss weights of the trained tokens; NaN without weights.
        more: u64[N, k], their other values.

    >>> leaves, trained = np.array([[1, 2]], np.uint64), np.array([[3, 4]], np.uint64)
    >>> prints = [fingerprint(leaves, trained, np.float32([w]), leaves) for w in (0.5, 0.5, 0.75)]
    >>> prints[0] == prints[1], prints[0][:4] == prints[2][:4], prints[0][4:] == prints[2][4:]
    (True, True, False)
    """
    marked = trained
    for number, words in enumerate((bits_of(weights), *more.T)):
        marked = marked + words[:, None] * _keys(1 << 12)[number]
    return (*_sum(leaves), *_sum(trained), *_sum(marked))


def bits_of(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the bits of numbers as integers; −0 counts as 0."""
    positive: NDArray[np.float32] = np.asarray(values, np.float32) + np.float32(0)
    bits: NDArray[np.uint64] = positive.view(np.uint32).astype(np.uint64)
    return bits


def _sum(paths: U64) -> tuple[int, int]:
    """Sum paths after mixing their bits, as plain sums of such hashes are equal for other paths."""
    factors = np.array([0x9E3779B97F4A7C15, 0xD1B54A32D192ED03], np.uint64)
    mixed = paths + paths[:, ::-1] * factors
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    one, two = (mixed ^ (mixed >> np.uint64(31))).sum(axis=0, dtype=np.uint64).tolist()
    return one, two


def together(*prints: Fingerprint) -> Fingerprint:
    """Return the fingerprint of the union of several parts.

    >>> a, b = np.array([[1, 2]], np.uint64), np.array([[3, 4]], np.uint64)
    >>> weight, both = np.float32([1]), np.concatenate([a, b])
    >>> each = fingerprint(a, b, weight, a), fingerprint(b, a, weight, b)
    >>> together(*each) == fingerprint(both, both[::-1], weight.repeat(2), both)
    True
    """
    one, two, *more = (sum(numbers) & _MASK for numbers in zip(*prints, strict=True))
    three, four, five, six = more
    return one, two, three, four, five, six
