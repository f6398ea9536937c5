"""Names of the optional columns of a row: their fill values, and those a trainer must apply."""

from __future__ import annotations

from collections.abc import Mapping

FILLS: Mapping[str, float] = {
    "loss_weights": 0.0,
    "logprobs": 0.0,
    "advantages": 0.0,
    "preference_labels": -100,
}
"""Optional columns with a value for each token, and the value of tokens that are given none."""
OF_CALLS = ("segment_call", "call_id", "call_sample")
"""Columns that every dataset of calls has."""
APPLIED = ("loss_weights", "logprobs", "advantages", "call_role")
"""Columns that a trainer must apply to train the right loss; listed in `reasonpack.requires`."""
