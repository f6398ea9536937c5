"""Distributions are those of a slow reading, row by row and token by token."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reasonpack.datasets.shards import read_shard
from reasonpack.show.stats import gather


def by_hand(directory: Path) -> dict[str, list[float]]:
    """Read row by row, token by token."""
    found: dict[str, list[float]] = {
        name: []
        for name in (
            *("row_length", "row_cost", "samples_in_row", "sample_length", "turns", "branches"),
            *("reasoning_length", "response_length", "reasoning_share"),
        )
    }
    most = json.loads((directory / "manifest.json").read_bytes())["options"]["max_length"]
    packing = json.loads((directory / "manifest.json").read_bytes())["options"]["packing"]
    for path in sorted((directory / "data").iterdir()):
        for batch in read_shard(path):
            for row in batch.to_pylist():
                length = row["length"]
                found["row_length"].append(length)
                found["row_cost"].append(sum(row["position_ids"]) + length)
                found["samples_in_row"].append(len(row["sample_id"]))
                kind, message, until = [0] * length, [0] * length, [0] * length
                stops = [*row["segment_start"][1:], length]
                for at, (start, stop) in enumerate(zip(row["segment_start"], stops, strict=True)):
                    for token in range(start, stop):
                        kind[token] = row["segment_kind"][at]
                        message[token] = row["segment_message"][at]
                        until[token] = row["segment_visible_until"][at]
                stops = [*row["sample_start"][1:], length]
                for start, stop in zip(row["sample_start"], stops, strict=True):
                    tokens = range(start, stop)
                    found["sample_length"].append(stop - start)
                    trained = [t for t in tokens if row["labels"][t] >= 0]
                    thought = Counter(message[t] for t in trained if kind[t] == 1)
                    answered = Counter(message[t] for t in trained if kind[t] != 1)
                    found["turns"].append(len(thought | answered))
                    for each in sorted(thought | answered):
                        found["reasoning_length"].append(thought[each])
                        found["response_length"].append(answered[each])
                    found["branches"].append(sum(until[t] == t + 1 for t in tokens))
                    found["reasoning_share"].append(
                        sum(kind[t] == 1 for t in tokens) / (stop - start)
                    )
    if packing != "none":
        found["row_fill"] = [length / most for length in found["row_length"]]
    return found


def test_distributions_are_those_of_the_rows(dataset: Path) -> None:
    expected = by_hand(dataset)
    found = gather(dataset).distributions
    assert sum(expected["turns"]) > 40
    assert found.keys() == expected.keys()
    for name, distribution in found.items():
        values = expected[name]
        assert distribution.values.tolist() == pytest.approx(values)
        assert int(distribution.counts.sum()) == len(values)
        if name not in {"reasoning_share", "row_fill"}:
            edges = distribution.edges.tolist()
            bins = Counter(np.searchsorted(edges, values, side="right").tolist())
            assert [bins[at + 1] for at in range(len(edges) - 1)] == distribution.counts.tolist()
