"""What a chat says of the weights of its views, and how views share theirs: FORMAT.md's formulas.

weight of the record × weight of the message ÷ trained tokens of what weighs the same
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from reasonpack.verify.chat import Chat

NOTHING: Mapping[int | None, int] = MappingProxyType({})


def view_weights(
    chat: Chat, numbers: Sequence[int], scheme: str
) -> Iterator[tuple[float, int | None]]:
    """Yield of each view what the data says that it weighs, and what it shares that with.

    >>> from reasonpack.verify.chat import Message
    >>> said = [Message("user"), Message("assistant", weight=0.5), Message("assistant")]
    >>> list(view_weights(Chat((*said, *said), [], {}, 3.0), [1, 2, 4], "turn"))
    [(1.5, 1), (3.0, 1), (1.5, 2)]
    """
    turns = list(itertools.accumulate(each.role == "user" for each in chat.messages))
    for number in numbers:
        group = {"message": number, "turn": turns[number], "conversation": 0}.get(scheme)
        yield chat.weight * chat.messages[number].weight, group


def shares(
    views: Sequence[tuple[float, int | None, int]], more: Mapping[int | None, int] = NOTHING
) -> NDArray[np.float64]:
    """Return what each trained token of views weighs, one view behind the other.

    Args:
        views: of each, what the data says, what it shares that with, and its trained tokens.
        more: trained tokens of other views, by what they share their weight with.

    >>> shares([(1.0, 7, 1), (3.0, 7, 3), (2.0, None, 1)]).tolist()
    [0.25, 0.75, 0.75, 0.75, 2.0]
    """
    tokens = Counter(more)
    for _, group, count in views:
        tokens[group] += count
    each = [given if group is None else given / max(1, tokens[group]) for given, group, _ in views]
    return np.repeat(np.array(each), [count for *_, count in views])
