"""The values of each trained token of a call, from a row and from the log, in one form.

    row      loss_weights, logprobs, advantages, and the call ─┐
                                                               ├─→ for each trained token: a weight,
    calls    weight, logprobs, advantages, and the call itself ┘   and three integers

The integers are the bits of logprob and advantage, and a hash of the call's id, role and reward.
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
    """Check that a trained call has a column for each of its values, and all values in `asked`.

    Raises:
        Refused: it lacks one.
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


def is_kept_apart(call: Call | None) -> bool:
    """Return whether a call has values that forbid to merge its tokens with those of others."""
    if call is None:
        return False
    values = (call.logprobs, call.advantages, call.reward)
    return call.role != "none" or any(each is not None for each in values)


class Identity(NamedTuple):
    """What identifies a call: id, role, and reward, NaN without one."""

    id: str
    role: int
    reward: float

    @property
    def key(self) -> int:
        """A 64-bit hash of it."""
        said = f"{self.role} {np.float32(self.reward).tobytes().hex()} {self.id}"
        return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")

    def __str__(self) -> str:
        """Describe the call for a message: its id, with role and reward if it has them."""
        more = [ROLES[self.role]] if 0 < self.role < len(ROLES) else []
        more += [] if np.isnan(self.reward) else [f"reward {np.float32(self.reward)}"]
        return quoted(self.id, limit=200) + f" ({', '.join(more)})" * bool(more)


def identity_of(call: Call) -> Identity:
    """Return what identifies a logged call."""
    return Identity(call.id, ROLES.index(call.role), np.nan if call.reward is None else call.reward)


def identities_in(row: Row) -> list[tuple[int, Identity]]:
    """Return for each call of a row the number of its sample, and what identifies the call."""
    ids, samples = row.call_id or [], [] if row.call_sample is None else row.call_sample.tolist()
    roles = np.zeros(len(ids), np.uint8) if row.call_role is None else row.call_role
    rewards = np.full(len(ids), np.nan) if row.call_reward is None else row.call_reward
    return [*zip(samples, map(Identity, ids, roles.tolist(), rewards.tolist()), strict=True)]


def of_row(row: Row) -> tuple[F32, U64]:
    """Return weights f32[T] and values u64[T, 3] of the tokens of a row.

    A column that the row lacks counts as NaN; the key of a token without a call is 0.
    """
    keys = np.array([*(call.key for _, call in identities_in(row)), 0], np.uint64)
    weights, *values = (
        np.full(row.length, np.nan, np.float32) if column is None else column
        for column in (row.loss_weights, row.logprobs, row.advantages)
    )
    return weights, np.stack([*map(bits_of, values), keys[row.call_of_tokens]], axis=1)


def of_call(call: Call | None, trained: NDArray[np.bool_]) -> U64:
    """Return values u64[n, 3] of the n tokens of a completion that `trained` bool[C] marks.

    A value that the call lacks counts as NaN; without a call the key is 0, as in `of_row`.
    """
    said = [None if call is None else getattr(call, name) for name in VALUES]
    each = [np.array(np.nan if one is None else one, np.float32) for one in said]
    words = [bits_of(np.broadcast_to(one, trained.shape)[trained]) for one in each]
    key = 0 if call is None else identity_of(call).key
    return np.stack([*words, np.full(len(words[0]), key, np.uint64)], axis=1)
