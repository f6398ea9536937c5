"""Views of the calls of a group → pieces of text, those that calls share cut once.

    call 1   h1                     cutter 1   h1 │ h2 …
    call 2   h1 a1 h2                          └ 1 ┘ 2
    call 3   h1'                    cutter 2   h1'            a sub-agent's, logged between
    call 4   h1 a1 h2 a2 h3         cutter 1

The calls of one agent extend each other, so that of each only the part is cut that differs from
the call before. Several agents may log in turn: each prompt goes to the cutter with the longest
prefix in common.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.records.repeated_items import AGENTS
from reasonpack.tokens.view_tokens import NO_PART, Border, Cutter, Pieces
from reasonpack.views.spans import common_beginning
from reasonpack.views.view import View


class CutCall(Struct, frozen=True, eq=False):
    """The view of a call, cut into pieces.

    Attributes:
        pieces: i32[P], the numbers of its pieces.
        prompt: number of pieces of the prompt.
        header: number of pieces of the prompt before the header of the answer's message.
        borders: ends of spans after the `shared` pieces; messages are those of the conversation.
        sources: for each message, its index in the record; empty if it is the same.
        shared: number of leading pieces in common with the prompt of `before`, the previous call.
    """

    pieces: NDArray[np.int32]
    prompt: int
    header: int
    borders: tuple[Border, ...]
    sources: Sequence[int] = ()
    shared: int = 0
    before: CutCall | None = None

    def with_shared_borders(self, written: Container[CutCall]) -> CutCall:
        """Return it with borders in shared pieces too, up to those shared with a `written` call."""
        at, borders, shared = self.before, self.borders, self.shared
        while at is not None and shared and at not in written:
            inside = (each for each in at.borders if each[:2] < (shared, NO_PART + 1))
            borders, shared, at = (*inside, *borders), min(shared, at.shared), at.before
        return self if at is self.before else replace(self, borders=borders)


class _Chain(Struct):
    """The cutter of calls that extend each other, the last call, and when it was added."""

    cutter: Cutter
    last: CutCall | None = None
    used: int = 0


class CallCutter:
    """Cuts the views of the calls of a group, in their order."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._chains: list[_Chain] = []
        self._count = 0

    def add(self, view: View, sources: Sequence[int]) -> CutCall:
        """Cut the view of the next call."""
        chain = self._chain(view.prompt)
        cut = chain.cutter.add(view)
        self._count += 1
        chain.used = self._count
        pieces = np.array(cut.pieces, np.int32)
        if chain.last is not None:
            pieces = np.concatenate([chain.last.pieces[: cut.shared], pieces])
        others = (span.stop for span in reversed(view.spans) if span.message != view.message)
        header = min(cut.prompt, chain.cutter.pieces_before(next(others, 0)))
        own = (header, cut.borders, sources, cut.shared, chain.last)
        chain.last = CutCall(pieces, cut.prompt, *own)
        return chain.last

    def _chain(self, prompt: str) -> _Chain:
        """Return the chain that a prompt extends."""
        found: list[tuple[int, _Chain]] = []
        for chain in self._chains:
            same = common_beginning(chain.cutter.prompt, prompt)
            found.append((same, chain))
            if same == len(chain.cutter.prompt):
                break
        same, best = max(found, key=lambda each: each[0], default=(0, None))
        if best is not None and 2 * same >= min(len(best.cutter.prompt), len(prompt)):
            return best
        if len(self._chains) < AGENTS:
            self._chains.append(_Chain(Cutter(self._pieces)))
            return self._chains[-1]
        return min(self._chains, key=lambda chain: chain.used)
