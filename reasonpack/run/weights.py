"""Loss weights of conversations: those of their records, divided as `--loss-weights` says.

    --loss-weights turn        view 1, 3 tokens     view 2, 5 tokens    of one turn
                               0.125 each           0.125 each          1 together, times the data's

`schemas/FORMAT.md` has the formulas; `run.calls` weighs calls. Tokens are counted over the whole
conversation, before views are left out or samples divided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reasonpack.choices import LossWeights
from reasonpack.records.conversation import Conversation
from reasonpack.rows.encoded_views import EncodedViews
from reasonpack.rows.sample import IGNORE, Sample


def weighed(
    views: EncodedViews,
    conversations: Sequence[tuple[Conversation, Sequence[int]]],
    scheme: LossWeights,
) -> EncodedViews:
    """Return views with the column `loss_weights`.

    Each conversation comes with the message of each of its views, by its index in the record.
    """
    sizes = np.array(views.end, np.int64) - views.shared
    stops = np.cumsum(sizes)
    trained = np.append(0, np.cumsum(views.trained))
    counts = trained[stops] - trained[stops - sizes]
    given: list[float] = []
    groups: list[int] = []
    for number, (conversation, messages) in enumerate(conversations):
        weights, turns = of_answers(conversation)
        given += (conversation.weight * weights[message] for message in messages)
        within = {"message": {message: message for message in messages}, "turn": turns}.get(scheme)
        groups += ((number << 32) + (within[each] if within else 0) for each in messages)
    shares = np.array(given, np.float64)
    if scheme not in ("auto", "data"):
        # Divided by the number of trained tokens in all views of the same group.
        _, of = np.unique(np.array(groups, np.int64), return_inverse=True)
        shares = shares / np.maximum(np.bincount(of, counts).astype(np.int64)[of], 1)
    return replace(views, extra={**views.extra, "loss_weights": np.repeat(shares, sizes)})


def weighed_again(
    conversations: Sequence[Sequence[Sample]],
    samples: Sequence[Sample],
    scheme: LossWeights,
    turns: Mapping[str, Mapping[int, int]],
) -> list[Sample]:
    """Return `samples`, which have no weights, with the column `loss_weights`.

    `conversations` are their samples as they were, each conversation with an id of its own;
    `samples` may be divided differently. The scheme is `message`, `conversation` or `turn`; for the
    last, `turns` has the turn of each answer, by id and message, which samples do not tell.
    """

    def groups(sample: Sample) -> NDArray[np.int32]:
        of = sample.segments.message
        if scheme == "turn":
            own = turns[sample.id]
            of = np.array([own.get(message, -1) for message in of.tolist()], np.int32)
        elif scheme == "conversation":
            of = np.zeros_like(of)
        return np.repeat(of, np.diff(sample.segments.start, append=sample.length))

    counts: Counter[tuple[str, int]] = Counter()
    for sample in (sample for each in conversations for sample in each):
        for group in groups(sample)[sample.labels != IGNORE].tolist():
            counts[sample.id, group] += 1
    found = []
    for sample in samples:
        trained, own = sample.labels != IGNORE, groups(sample)
        shares = np.zeros(sample.length)
        for group in np.unique(own[trained]).tolist():
            shares[trained & (own == group)] = 1 / counts[sample.id, group]
        found.append(replace(sample, extra={**sample.extra, "loss_weights": shares}))
    return found


def of_answers(conversation: Conversation) -> tuple[dict[int, float], dict[int, int]]:
    """Return the weight and the turn of each answer, by its index in the record."""
    weights: dict[int, float] = {}
    turns: dict[int, int] = {}
    turn = 0
    for number, message in enumerate(conversation.messages):
        turn += message.role == "user"
        if message.role == "assistant":
            source = conversation.sources[number] if conversation.sources else number
            weights.setdefault(source, message.weight)
            turns.setdefault(source, turn)
    return weights, turns
