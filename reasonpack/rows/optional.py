"""Optional columns of a row by their names: what fills them, and what a trainer must apply."""

from __future__ import annotations

from collections.abc import Mapping

FILLS: Mapping[str, float] = {
    "loss_weights": 0.0,
    "logprobs": 0.0,
    "advantages": 0.0,
    "preference_labels": -100,
}
"""Optional columns with a value for each token, and what stands there for one that has none."""
OF_CALLS = ("segment_call", "call_id", "call_sample")
"""Columns that a dataset of calls has, all of them."""
APPLIED = ("loss_weights", "logprobs", "advantages", "call_role")
"""Columns without which a trainer would train something else: `reasonpack.requires`."""
