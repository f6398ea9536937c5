"""A call with messages → the pieces of its view, what it shares with an earlier one looked up.

    call 1   h1                     cutter 1   h1 │ h2 …
    call 2   h1 a1 h2                          └ 1 ┘ 2
    call 3   h1'                    cutter 2   h1'            a sub-agent's, logged between
    call 4   h1 a1 h2 a2 h3         cutter 1

The calls of one agent extend each other, so that each is cut only where it parts from the one
before. Several agents may log in turn: each prompt goes to the cutter that has the most of it.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.repeated_items import AGENTS
from reasonpack.run.context import Context
from reasonpack.tokens.view_tokens import NO_PART, Border, Cutter, Pieces
from reasonpack.views.past import Pasts
from reasonpack.views.spans import common_beginning
from reasonpack.views.view import Untrained, View, each_view


class CutCall(Struct, frozen=True, eq=False):
    """The view of a call, cut.

    Attributes:
        pieces: i32[P], the numbers of all of its pieces.
        prompt: how many of them are the prompt's.
        header: how many of these stand before the message that the answer goes on with.
        borders: the ends of spans among them, behind the `shared` ones.
        shared: how many it has in common with the prompt of the call `before`.
    """

    pieces: NDArray[np.int32]
    prompt: int
    header: int
    borders: tuple[Border, ...]
    shared: int = 0
    before: CutCall | None = None

    def beside(self, written: Container[CutCall]) -> CutCall:
        """Return it with the borders of what it has in common with no call that is `written`."""
        at, borders, shared = self.before, self.borders, self.shared
        while at is not None and shared and at not in written:
            inside = (each for each in at.borders if each[:2] < (shared, NO_PART + 1))
            borders, shared, at = (*inside, *borders), min(shared, at.shared), at.before
        return self if at is self.before else replace(self, borders=borders)


class _Chain(Struct):
    """Prompts that extend each other, the last of them, and how it was cut."""

    cutter: Cutter
    last: CutCall | None = None
    used: int = 0


class CallCutter:
    """Cuts the views of the calls of a group, in their order."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._chains: list[_Chain] = []
        self._count = 0
        self.characters = 0
        """Of the views, without what each has in common with the one before it."""

    def add(self, view: View) -> CutCall:
        """Cut the view of the next call."""
        chain, same = self._chain(view.prompt)
        cut = chain.cutter.add(view)
        self._count += 1
        chain.used = self._count
        pieces = np.array(cut.pieces, np.int32)
        if chain.last is not None:
            pieces = np.concatenate([chain.last.pieces[: cut.shared], pieces])
        self.characters += len(view.prompt) + len(view.completion) - same
        others = (span.stop for span in reversed(view.spans) if span.message != view.message)
        header = min(cut.prompt, chain.cutter.pieces_before(next(others, 0)))
        chain.last = CutCall(pieces, cut.prompt, header, cut.borders, cut.shared, chain.last)
        return chain.last

    def _chain(self, prompt: str) -> tuple[_Chain, int]:
        """Return the chain that a prompt goes on with, and how many characters they share."""
        found: list[tuple[int, _Chain]] = []
        for chain in self._chains:
            same = common_beginning(chain.cutter.prompt, prompt)
            found.append((same, chain))
            if same == len(chain.cutter.prompt):
                break
        same, best = max(found, key=lambda each: each[0], default=(0, None))
        if best is not None and 2 * same >= min(len(best.cutter.prompt), len(prompt)):
            return best, same
        if len(self._chains) < AGENTS:
            self._chains.append(_Chain(Cutter(self._pieces)))
            return self._chains[-1], 0
        oldest = min(self._chains, key=lambda chain: chain.used)
        return oldest, common_beginning(oldest.cutter.prompt, prompt)


def view_of_call(
    conversation: Conversation, context: Context, train_on: str, pasts: Pasts
) -> View | Untrained:
    """Render the view of a call, whose answer is the last message and alone is to be trained.

    `pasts` are of the calls of its group before it.

    Raises:
        RecordError: it cannot be had exactly from the template.
    """
    rendering, past = context.rendering(conversation), pasts.of(conversation)
    views = each_view(conversation, rendering, train_on=train_on, past=past)
    try:
        return next(views)  # of the only message that is trained
    except RecordError as error:
        if error.reason != "nothing-to-train":
            raise
        return Untrained(len(conversation.messages) - 1, error.reason)
