"""Buckets of shuffled rows."""

from __future__ import annotations

import numpy as np

from reasonpack.run.buckets import row_keys


def test_buckets_are_about_a_unit_each() -> None:
    """So that a process that holds one holds no more than one that packs."""
    keys = np.concatenate([row_keys(0, "train", unit, 1_000) for unit in range(40)])
    assert len(np.unique(keys)) == len(keys)
    sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64) * 40 >> 32)
    assert len(sizes) == 40
    assert sizes.max() < 1_150
    assert sizes.min() > 850
