"""Where messages stand in a prompt → which kind and message their tokens must be of.

    prompt   <|user|>Ask one.<|end|><|bot|>Answer one.<|end|><|user|>…
                     └─ h, 0 ──┘           └── r_in, 1 ──┘

Only what is sure is told: tokens wholly within the text of a message, of messages that stand in
the prompt as they are, with all of their calls, once, and one after another. The first that does
not ends the search. What the template writes between them belongs to no message for sure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.kind import Kind
from reasonpack.verify.chat import Message
from reasonpack.verify.encoding import Encoded
from reasonpack.verify.marks import SHORT

Stretch = tuple[int, int, int, int]
"""A message, a kind, and from where to where it goes, in characters or tokens."""
Contexts = Counter[tuple[int, int]]
"""How many tokens of the history there are, by message and kind."""


def find_messages(prompt: str, messages: Sequence[Message]) -> tuple[Stretch, ...]:
    """Find the texts of messages in a prompt.

    >>> find_messages("<u>What is two and two?<a>4", [Message("user", "What is two and two?")])
    ((0, <Kind.CONTEXT: 0>, 3, 23),)
    """
    found: list[Stretch] = []
    called: list[str] = []
    at = 0
    for message in messages:
        text = message.content.strip()
        place = prompt.find(text, at)
        if place < 0 or not _all_in(prompt[at:place], called):
            break
        at = place + len(text)
        called = [call["function"]["name"] for call in message.calls]
        if len(text) > SHORT and prompt.count(text) == 1:
            kind = Kind.R_IN if message.role == "assistant" else Kind.CONTEXT
            found.append((message.source, kind, place, at))
    return tuple(found)


def _all_in(text: str, names: Sequence[str]) -> bool:
    """Tell whether names stand in a text, one behind the other."""
    at = 0
    return all((at := text.find(name, at) + len(name)) >= len(name) for name in names)


def in_tokens(stretches: Sequence[Stretch], encoded: Encoded) -> tuple[Stretch, ...]:
    """Give the tokens that lie within stretches of a text, but for the first and the last."""
    made = []
    for message, kind, start, stop in stretches:
        first, last = encoded.token_at(start), encoded.token_at(stop - 1)
        if first is not None and last is not None and first + 1 < last:
            made.append((message, kind, first + 1, last))
    return tuple(made)


class Prefixes:
    """The paths of all tokens of some views, to tell how far a further one goes along them.

    They are in sorted arrays, of which each is more than half as long as the one before it.
    """

    def __init__(self) -> None:
        self._sorted: list[NDArray[np.uint64]] = []

    def add(self, paths: NDArray[np.uint64]) -> int:
        """Add the paths u64[T] of a view; return how many tokens it has in common with others.

        >>> known = Prefixes()
        >>> [known.add(np.array(paths, np.uint64)) for paths in ([5, 3, 9], [5, 3, 7], [5, 3])]
        [0, 2, 2]
        """
        common = bisect_left(range(len(paths)), True, key=lambda at: not self._hold(paths[at:][:1]))
        new = np.sort(paths[common:])
        while self._sorted and len(new) and len(self._sorted[-1]) <= 2 * len(new):
            new = np.sort(np.concatenate([self._sorted.pop(), new]))
        self._sorted += [new] if len(new) else []
        return common

    def _hold(self, path: NDArray[np.uint64]) -> bool:
        places = ((each, np.searchsorted(each, path)) for each in self._sorted)
        return any((each[at.clip(max=len(each) - 1)] == path).all() for each, at in places)
