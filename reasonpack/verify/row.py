"""The types of a row, as read from a shard, and of a rule that it breaks."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

I32 = NDArray[np.int32]
F32 = NDArray[np.float32]
OF_TOKENS = ("loss_weights", "logprobs", "advantages", "preference_labels")
OF_CALLS = ("call_id", "call_sample", "call_role", "call_reward")
IGNORE = -100
"""Label of a token that is not trained."""


class Row(Struct, frozen=True):
    """The columns of one row as read from a shard; their lengths are not checked yet.

    Optional columns that the dataset does not have are None.
    """

    input_ids: I32
    position_ids: I32
    labels: I32
    length: int
    segment_start: I32
    segment_visible_until: I32
    segment_kind: NDArray[np.uint8]
    segment_message: I32
    sample_start: I32
    sample_id: list[str]
    loss_weights: F32 | None = None
    logprobs: F32 | None = None
    advantages: F32 | None = None
    preference_labels: I32 | None = None
    segment_call: I32 | None = None
    call_id: list[str] | None = None
    call_sample: I32 | None = None
    call_role: NDArray[np.uint8] | None = None
    call_reward: F32 | None = None

    @property
    def segment_stop(self) -> NDArray[np.int64]:
        """i64[S], where each segment ends."""
        return np.append(self.segment_start[1:], self.length).astype(np.int64)

    @property
    def sample_stop(self) -> NDArray[np.int64]:
        """i64[N], where each sample ends."""
        return np.append(self.sample_start[1:], self.length).astype(np.int64)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """bool[T], which tokens are trained."""
        return np.not_equal(self.labels, IGNORE)

    @property
    def target(self) -> NDArray[np.bool_]:
        """bool[T], which tokens are trained, or are targets of rejected answers."""
        if self.preference_labels is None:
            return self.trained
        return self.trained | np.not_equal(self.preference_labels, IGNORE)

    @property
    def call_of_tokens(self) -> NDArray[np.int64]:
        """i64[T], the call of each token's segment; −1 for none."""
        if self.segment_call is None:
            return np.full(self.length, -1)
        return np.repeat(self.segment_call, self.segment_stop - self.segment_start).astype(np.int64)

    def sample_of(self, token: int) -> int:
        """Return the number of a token's sample within the row."""
        return int(np.searchsorted(self.sample_start, token, "right")) - 1

    def message_of(self, token: int) -> int:
        """Return the index of a token's message, −1 for none."""
        segment = int(np.searchsorted(self.segment_start, token, "right")) - 1
        return int(self.segment_message[segment])


class Fault(Struct, frozen=True):
    """A rule that a row breaks; `token` is the first token that breaks it, or None."""

    code: str
    what: str
    token: int | None = None


def first(bad: NDArray[np.bool_]) -> int | None:
    """Return the index of the first True; None without one.

    >>> first(np.array([False, True, True])), first(np.array([False]))
    (1, None)
    """
    at = int(bad.argmax()) if len(bad) else 0
    return at if len(bad) and bad[at] else None
