"""What stands at the trained tokens of calls: in a row, and by what was logged.

    row      loss_weights, logprobs, advantages, and the call ─┐
                                                               ├─→ for each trained token: a weight,
    calls    weight, logprobs, advantages, and the call itself ┘   and three integers

A call is known by a number, for its id, its role and its reward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonpack.records.strict_json import quoted
from reasonpack.verify.calls import Call
from reasonpack.verify.chat import Refused
from reasonpack.verify.paths import U64, bits_of
from reasonpack.verify.row import F32, Row

VALUES = ("logprobs", "advantages")
ROLES = ("none", "chosen", "rejected")


def check_columns(call: Call, columns: Sequence[str], asked: Sequence[str]) -> None:
    """See that a trained call has the values that were asked for, and none without a column.

    Raises:
        Refused: it has not.
    """
    values = {name: getattr(call, name) is not None for name in VALUES}
    values["call_reward"] = call.reward is not None
    values["call_role"] = call.role != "none"
    values["preference_labels"] = call.role == "rejected"
    for name, is_there in values.items():
        if is_there and name not in columns:
            raise Refused(f"a value for {name}, which the dataset does not have")
        if name in VALUES and not is_there and name in asked:
            raise Refused(f"a trained call without {name}, which was asked for")


def cannot_add_up(call: Call) -> bool:
    """Tell whether a call has what cannot be added to that of another: both then stand apart."""
    values = (call.logprobs, call.advantages, call.reward)
    return call.role != "none" or any(each is not None for each in values)


class Known(NamedTuple):
    """What a call is known by: its id, its role and its reward; NaN for none."""

    id: str
    role: int
    reward: float

    @property
    def key(self) -> int:
        """A number that stands for it."""
        said = f"{self.role} {np.float32(self.reward).tobytes().hex()} {self.id}"
        return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")

    def __str__(self) -> str:
        """Say it in words."""
        more = [ROLES[self.role]] if 0 < self.role < len(ROLES) else []
        more += [] if np.isnan(self.reward) else [f"reward {np.float32(self.reward)}"]
        return quoted(self.id, limit=200) + f" ({', '.join(more)})" * bool(more)


def known(call: Call) -> Known:
    """Return what a call is known by that was logged."""
    return Known(call.id, ROLES.index(call.role), np.nan if call.reward is None else call.reward)


def known_in(row: Row) -> list[Known]:
    """Return what the calls of a row are known by."""
    ids = row.call_id or []
    roles = np.zeros(len(ids), np.uint8) if row.call_role is None else row.call_role
    rewards = np.full(len(ids), np.nan) if row.call_reward is None else row.call_reward
    return [*map(Known, ids, roles.tolist(), rewards.tolist())]


def of_row(row: Row, tokens: NDArray[np.int64]) -> tuple[F32, U64]:
    """Return weights f32[n] and values u64[n, 3] of some tokens, each of a call; NaN for none."""
    keys = np.array([*(each.key for each in known_in(row)), 0], np.uint64)
    weights, *values = (
        np.full(len(tokens), np.nan, np.float32) if column is None else column[tokens]
        for column in (row.loss_weights, row.logprobs, row.advantages)
    )
    words = [*map(bits_of, values), keys[row.call_of_tokens[tokens]]]
    return weights, np.stack(words, axis=1)


def of_call(call: Call, behind: NDArray[np.bool_]) -> tuple[float, U64]:
    """Return what a trained token of a call weighs, and values u64[n, 3] of all of them.

    `behind` bool[C] says which tokens of its completion are trained.
    """
    values = [bits_of(values_of(call, name, behind)) for name in VALUES]
    words = [*values, np.full(len(values[0]), known(call).key, np.uint64)]
    return 0.0 if call.role == "rejected" else call.weight, np.stack(words, axis=1)


def values_of(call: Call, name: str, behind: NDArray[np.bool_]) -> F32:
    """Return log probabilities or advantages of the trained tokens of a call; NaN without any."""
    said = getattr(call, name)
    one = np.array(np.nan if said is None else said, np.float32)
    return np.broadcast_to(one, behind.shape)[behind]
