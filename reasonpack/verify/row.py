"""The types of a row, as read from a shard, and of a rule that it breaks."""

from __future__ import annotations

from typing import Any

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

    def alone(self, number: int) -> Row:
        """Return one of the samples as a row of its own; the row must have no fault."""
        start, stop = int(self.sample_start[number]), int(self.sample_stop[number])
        segments = slice(*np.searchsorted(self.segment_start, (start, stop)).tolist())
        columns: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[start:stop]
            for name in ("input_ids", "position_ids", "labels", *OF_TOKENS)
        }
        calls, of_calls = None, dict[str, Any]()
        if self.call_sample is not None and self.segment_call is not None:
            first, last = np.searchsorted(self.call_sample, (number, number + 1)).tolist()
            own = self.segment_call[segments]
            calls = np.where(own < 0, own, own - np.int32(first))
            of_calls = {
                name: None if (column := getattr(self, name)) is None else column[first:last]
                for name in OF_CALLS
            }
            of_calls["call_sample"] = self.call_sample[first:last] - np.int32(number)
        return Row(
            **columns,
            **of_calls,
            length=stop - start,
            segment_start=self.segment_start[segments] - np.int32(start),
            segment_visible_until=self.segment_visible_until[segments] - np.int32(start),
            segment_kind=self.segment_kind[segments],
            segment_message=self.segment_message[segments],
            segment_call=calls,
            sample_start=np.zeros(1, np.int32),
            sample_id=[self.sample_id[number]],
        )


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
