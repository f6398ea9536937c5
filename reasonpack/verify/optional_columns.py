"""One row → the faults in its optional columns: weights, values of calls, and the calls.

segment_call  −1   0   0  −1   1        the call whose completion a segment is
call_id            ↑           ↑        one entry a call, those of a sample together
loss_weights   0   ½   ½   0   1        above 0 where a token is trained, else 0
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reasonpack.rows.kind import Kind
from reasonpack.verify.row import IGNORE, OF_CALLS, OF_TOKENS, Fault, Row, first

MOST_LOGPROB = 0.01
"""Largest log probability that the format allows: 0, with a margin for rounding."""
REJECTED = 2
"""The role of a rejected answer; 1 is chosen, 0 none."""


def length_faults(row: Row) -> Iterator[Fault]:
    """Find columns whose length is not that of the row's tokens, segments or calls."""
    expected = dict.fromkeys(OF_TOKENS, row.length) | {"segment_call": len(row.segment_start)}
    expected |= dict.fromkeys(OF_CALLS, len(row.call_id or ()))
    for name, length in expected.items():
        column = getattr(row, name)
        if column is not None and len(column) != length:
            yield Fault("RP216", f"{name} has {len(column)} elements, expected {length}")


def value_faults(row: Row) -> Iterator[Fault]:
    """Find values that a token, segment or call cannot have; all lengths must be right."""
    yield from _token_faults(row)
    calls_fault = next(_call_faults(row), None)
    if calls_fault is not None:
        yield calls_fault
        return
    yield from _segment_faults(row)
    yield from _preference_faults(row)


def weight_faults(row: Row) -> Iterator[Fault]:
    """Find a token that weighs more than an earlier token of its message; not for calls.

    It may weigh less: where answers share their beginning, the weights of all add up there.
    """
    if row.loss_weights is None:
        return
    sizes = row.segment_stop - row.segment_start
    message, kind = (np.repeat(each, sizes) for each in (row.segment_message, row.segment_kind))
    written = np.isin(kind, (Kind.REASONING, Kind.R_OUT)) & np.greater_equal(message, 0)
    judged = row.trained & written & (row.call_of_tokens < 0)
    for start, stop in zip(row.sample_start, row.sample_stop, strict=True):
        tokens = np.flatnonzero(judged[start:stop]) + start
        tokens = tokens[np.argsort(message[tokens], kind="stable")]
        same = np.diff(message[tokens]) == 0
        if (bad := first(same & (np.diff(row.loss_weights[tokens]) > 0))) is not None:
            before, token = tokens[bad : bad + 2].tolist()
            found, expected = row.loss_weights[token], row.loss_weights[before]
            what = f"weight {found}, expected at most {expected} as before it in its message"
            yield Fault("RP223", what, token)
            return


def _token_faults(row: Row) -> Iterator[Fault]:
    weights, trained, target = row.loss_weights, row.trained, row.target
    if weights is not None:
        good = np.isfinite(weights) & np.where(trained, weights > 0, weights == 0)
        if (bad := first(~good)) is not None:
            expected = "a number above 0" if trained[bad] else "0, as it is not trained"
            yield Fault("RP217", f"weight {weights[bad]}, expected {expected}", bad)
    for name, values in (("logprob", row.logprobs), ("advantage", row.advantages)):
        if values is None:
            continue
        good = np.where(target, ~np.isinf(values), values == 0)
        if name == "logprob":
            good &= ~(values > MOST_LOGPROB)
        if (bad := first(~good)) is not None:
            most = f" of at most {MOST_LOGPROB}" if name == "logprob" else ""
            expected = f"a finite number{most}, or NaN for none"
            expected = expected if target[bad] else "0, as it is no target"
            yield Fault("RP218", f"{name} {values[bad]}, expected {expected}", bad)


def _call_faults(row: Row) -> Iterator[Fault]:
    samples, roles, rewards = row.call_sample, row.call_role, row.call_reward
    if samples is None or row.call_id is None:
        return
    count = len(row.sample_start)
    if (bad := first((samples < 0) | (samples >= count))) is not None:
        yield Fault("RP220", f"call {bad} is of sample {samples[bad]}, expected 0 to {count - 1}")
    if (bad := first(np.diff(samples) < 0)) is not None:
        what = f"call {bad + 1} is of sample {samples[bad + 1]} after one of {samples[bad]}"
        yield Fault("RP220", f"{what}, expected calls in the order of their samples")
    named = list(zip(samples.tolist(), row.call_id, strict=True))
    if len(set(named)) < len(named):
        sample, id_ = next(each for each in named if named.count(each) > 1)
        yield Fault("RP220", f"two calls {id_!r} of sample {sample}, expected ids that differ")
    if roles is not None and (bad := first(roles > REJECTED)) is not None:
        yield Fault("RP220", f"call {bad} has role {roles[bad]}, expected 0 to {REJECTED}")
    if rewards is not None and (bad := first(np.isinf(rewards))) is not None:
        what = f"call {bad} has reward {rewards[bad]}, expected a finite number, or NaN for none"
        yield Fault("RP220", what)


def _segment_faults(row: Row) -> Iterator[Fault]:
    calls, samples, starts = row.segment_call, row.call_sample, row.segment_start
    if calls is None or samples is None:
        return
    count = len(samples)
    if (bad := first((calls < -1) | (calls >= count))) is not None:
        what = f"segment {bad} is of call {calls[bad]}, expected -1 to {count - 1}"
        yield Fault("RP221", what, int(starts[bad]))
        return
    unsaid = np.isin(row.segment_kind, (Kind.CONTEXT, Kind.R_IN))
    if (bad := first((calls >= 0) & unsaid)) is not None:
        kind = Kind(int(row.segment_kind[bad])).label
        what = f"segment {bad} of kind {kind} is of call {calls[bad]}, expected -1 for context"
        yield Fault("RP221", what, int(starts[bad]))
        return
    own = np.searchsorted(row.sample_start, starts, "right") - 1
    of = np.append(samples, -1)[calls]
    if (bad := first((calls >= 0) & (of != own))) is not None:
        what = f"segment {bad} of sample {own[bad]} is of call {calls[bad]}, of sample {of[bad]}"
        yield Fault("RP221", f"{what}, expected one sample", int(starts[bad]))
    with_calls = np.isin(np.arange(len(row.sample_start)), samples)
    sample = np.repeat(own, row.segment_stop - starts)
    if (bad := first(row.target & with_calls[sample] & (row.call_of_tokens < 0))) is not None:
        yield Fault("RP221", "trained and of no call, expected the call that wrote it", bad)


def _preference_faults(row: Row) -> Iterator[Fault]:
    labels, roles = row.preference_labels, row.call_role
    if roles is None:
        return
    rejected = np.append(roles, 0)[row.call_of_tokens.clip(-1, len(roles))] == REJECTED
    if (bad := first(row.trained & rejected)) is not None:
        what = f"label {row.labels[bad]} in a rejected answer, expected {IGNORE}"
        yield Fault("RP219", what, bad)
    if labels is None:
        return
    given = labels != IGNORE
    if (bad := first(given & (labels != row.input_ids))) is not None:
        what = f"preference label {labels[bad]}, expected {IGNORE} or {row.input_ids[bad]}"
        yield Fault("RP219", what, bad)
    elif (bad := first(given & ~rejected)) is not None:
        what = f"preference label {labels[bad]} outside of a rejected answer, expected {IGNORE}"
        yield Fault("RP219", what, bad)
