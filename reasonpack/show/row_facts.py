"""A dataset → a few numbers for each row, and the rows that meet conditions on them.

    length>8000      rows of more than 8,000 tokens
    t>0, kind=t      rows with reasoning
    branches>=3      rows with at least three branches

Only the columns needed are read, a row group at a time.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import UsageError
from reasonpack.rows.kind import Kind
from reasonpack.show.cost import Segments
from reasonpack.storage.place import Place

KINDS = tuple(kind.label for kind in Kind)
NAMES = ("length", "samples", "segments", "branches", *KINDS)
"""The numbers of a row: tokens, samples, segments, branches, and tokens of each kind."""
COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COLUMNS = ("length", "segment_start", "segment_visible_until", "segment_kind", "sample_start")
Facts = dict[str, NDArray[np.int64]]


def row_facts(directory: Place, manifest: Manifest) -> Facts:
    """Return the numbers of all rows of a dataset: name in `NAMES` → i64[rows].

    Raises:
        FormatError: a shard is damaged.
    """
    found: list[Facts] = []
    for shard in manifest.shards:
        place = place_of(directory, shard.path)
        with open_shard(place) as opened:
            found += map(_facts, opened.groups(_COLUMNS))
    empty = np.zeros(0, np.int64)
    return {name: np.concatenate([empty, *(facts[name] for facts in found)]) for name in NAMES}


def _facts(group: pa.RecordBatch) -> Facts:
    found = Segments(group)

    def per_row(weights: NDArray[Any]) -> NDArray[np.int64]:
        return np.bincount(found.row, weights, minlength=len(found.length)).astype(np.int64)

    sizes, kinds = found.end - found.start, found.flat("segment_kind")
    return {
        "length": found.length,
        "samples": found.sizes("sample_start"),
        "segments": found.sizes("segment_start"),
        "branches": per_row(found.until == found.end),
        **{kind.label: per_row(sizes * (kinds == kind)) for kind in Kind},
    }


def matching(facts: Facts, conditions: Sequence[str]) -> NDArray[np.int64]:
    """Return the row numbers of the rows that meet all conditions, in order.

    Raises:
        UsageError: a condition cannot be read.
    """
    chosen = np.ones(len(facts["length"]), bool)
    for condition in conditions:
        chosen &= _meets(facts, condition)
    return np.flatnonzero(chosen)


def _meets(facts: Facts, condition: str) -> NDArray[np.bool_]:
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(\w+)\s*", condition)
    name, compare, value = match.groups() if match else ("", "", "")
    if name == "kind" and compare in {"=", "!="} and value in KINDS:
        return np.asarray((facts[value] > 0) == (compare == "="), bool)
    if name in NAMES and value.isdecimal():
        return np.asarray(COMPARE[compare](facts[name], int(value)), bool)
    expected = f"a name ({', '.join(NAMES)}), one of {' '.join(COMPARE)} and a number; or kind=t"
    fix = "write, for instance, --where 'length>8000'"
    raise UsageError("--where", f"got {condition!r}", expected, fix)


def ranked(facts: Facts, chosen: NDArray[np.int64], by: str) -> Iterator[int]:
    """Yield the row numbers `chosen`, those with the largest value of `by` first."""
    yield from chosen[np.argsort(-facts[by][chosen], kind="stable")].tolist()


def draw_rows(rows: int, most: int, *, seed: str) -> list[int]:
    """Draw at most `most` of the row numbers below `rows` by hash; return them sorted.

    The draw depends on the arguments alone, not on the machine or on the order of work.

    >>> draw_rows(3, 5, seed=""), draw_rows(1000, 3, seed="a")
    ([0, 1, 2], [132, 195, 248])
    """
    if rows <= most:
        return list(range(rows))
    found: set[int] = set()
    number = 0
    while len(found) < most:
        digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
        found.add(int.from_bytes(digest[:16], "big") % rows)
        number += 1
    return sorted(found)
