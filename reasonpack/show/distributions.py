"""Numbers → their distribution: bins, a summary, bars.

tokens in a sample  2,000: from 120 to 4,961, mean 509, median 430, spread 88%
   64 – 127            31  █▌
  128 – 255           412  ████████████████████
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.show.terminal import fitted

BAR = 40
PERCENTILES = (5, 25, 50, 75, 95, 99)


class Distribution(Struct, frozen=True):
    """How a number is distributed.

    Attributes:
        name: what the numbers count, in words.
        values: i64[N], or f64[N] for shares.
        edges: [B + 1], the edges of B half-open bins.
        counts: i64[B].
    """

    name: str
    values: NDArray[Any]
    edges: NDArray[Any]
    counts: NDArray[np.int64]


def whole(name: str, values: NDArray[np.int64]) -> Distribution:
    """Bin whole numbers: one bin per number if none exceeds 16, else by powers of two."""
    if not len(values):
        edges = np.zeros(1, np.int64)
    elif int(values.max()) <= 16:
        edges = np.arange(int(values.min()), int(values.max()) + 2)
    else:
        first = int(values.min()).bit_length()
        powers = 1 << np.arange(max(first, 1) - 1, int(values.max()).bit_length() + 1)
        edges = np.concatenate([[0], powers]) if first == 0 else powers
    counts = np.histogram(values, edges)[0] if len(edges) > 1 else np.zeros(0, np.int64)
    return Distribution(name, values, edges, counts)


def shares(name: str, values: NDArray[np.float64]) -> Distribution:
    """Bin shares between 0 and 1 by tenths."""
    edges = np.linspace(0, 1, 11)
    return Distribution(name, values, edges, np.histogram(values, edges)[0])


def distribution_json(each: Distribution) -> dict[str, Any]:
    """Return a distribution as a JSON object."""
    bins = zip(each.edges[:-1].tolist(), each.edges[1:].tolist(), each.counts.tolist(), strict=True)
    return {
        "description": each.name,
        "words": _headline(each),
        "count": len(each.values),
        **_summary(each.values),
        "histogram": [{"from": low, "below": high, "count": count} for low, high, count in bins],
    }


def _summary(values: NDArray[Any]) -> dict[str, Any]:
    if not len(values):
        return {"min": None, "max": None, "mean": None, "spread": None, "percentiles": {}}
    at = np.percentile(values, PERCENTILES, method="lower").tolist()
    return {
        "min": values.min().item(),
        "max": values.max().item(),
        "mean": float(values.mean()),
        "spread": _spread(values),
        "percentiles": {
            str(percent): value for percent, value in zip(PERCENTILES, at, strict=True)
        },
    }


def distribution_lines(each: Distribution, width: int | None = None) -> Iterator[str]:
    """Yield lines that draw a distribution, within `width` if given; equal values need one line."""
    yield from fitted(f"{each.name}  {_headline(each)}", width, indent=2)
    shown = [_label(each, at) for at in range(len(each.counts))]
    labels = max(map(len, shown), default=0)
    bar = BAR if width is None else max(4, min(BAR, width - labels - 18))
    most = max(1, int(each.counts.max(initial=0)))
    if np.count_nonzero(each.counts) > 1:
        for label, count in zip(shown, each.counts.tolist(), strict=True):
            yield f"  {label:>{labels}}  {count:>12,}  {_bar(count / most, bar)}".rstrip()


def _headline(each: Distribution) -> str:
    if not len(each.values):
        return "none"
    found, shares = _summary(each.values), each.values.dtype.kind == "f"
    low, high, mean, middle = (
        f"{value:.1%}" if shares else f"{value:,.0f}"
        for value in (found["min"], found["max"], found["mean"], found["percentiles"]["50"])
    )
    spread = "" if shares else f", spread {found['spread']:.0%}"
    return f"{len(each.values):,}: from {low} to {high}, mean {mean}, median {middle}{spread}"


def _spread(values: NDArray[Any]) -> float:
    """Return the standard deviation divided by the mean; 0 if all values are 0.

    >>> _spread(np.array([10, 10])), _spread(np.array([5, 15]))
    (0.0, 0.5)
    """
    return float(values.std() / values.mean()) if values.any() else 0.0


def _label(each: Distribution, at: int) -> str:
    low, high = each.edges[at], each.edges[at + 1]
    if each.edges.dtype.kind == "f":
        return f"{low:.0%} – {high:.0%}"
    return f"{low:,}" if high - low == 1 else f"{low:,} – {high - 1:,}"


def _bar(share: float, whole: int) -> str:
    """Return a bar of `share * whole` characters, rounded to eighths of a character.

    >>> _bar(1.0, 40) == "█" * 40, _bar(0.02, 40), _bar(0.0, 40)
    (True, '▊', '')
    """
    eighths = max(round(share * whole * 8), 1 if share else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
