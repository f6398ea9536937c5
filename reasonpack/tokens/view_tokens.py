"""Views in text → views in tokens, each distinct piece of text encoded once.

    View ── cut at added tokens ──→ pieces ── one batch for many views ──→ EncodedView

A conversation of N turns shows its beginning N times, so a view is cut only where it parts
from the one before, and what both begin with is not looked at again: the cost is linear in
the text of the conversation. The spans of a view become runs of tokens: where a span ends
inside a piece, the part before it is encoded too, and the tokens on which both agree are the
ones that lie before the border; a token that straddles it counts to what follows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.forest import EncodedView, Run, common_prefix
from reasonpack.views.view import View

__all__ = ["Border", "CutView", "Cutter", "Pieces"]

I32 = NDArray[np.int32]
NO_PART = -1


class Border(NamedTuple):
    """The end of a span, found among the pieces of a view.

    Attributes:
        piece: index of the piece it lies in, or after which it lies.
        part: number of the text of that piece before the border; −1 if it lies at the
            piece's start.
        kind: of the span that ends here.
        message: of the span that ends here.
    """

    piece: int
    part: int
    kind: int
    message: int


@dataclass(frozen=True, slots=True)
class CutView:
    """A view cut into pieces.

    Attributes:
        shared: how many pieces it begins with as the view before it did.
        pieces: numbers of the pieces after those.
        prompt_pieces: how many pieces, the shared ones included, are the prompt's.
        borders: the ends of spans behind the shared pieces.
    """

    shared: int
    pieces: tuple[int, ...]
    prompt_pieces: int
    borders: tuple[Border, ...]


class Pieces:
    """The distinct pieces of text of many views, and then their ids.

    Args:
        cut: gives the pieces of a text; joined, they are the text.
        reach: how many characters behind a cut can have to do with it, which is the
            length of the longest added token. None where that is not known: then no
            view shares pieces with the one before.

    Attributes:
        cut: gives the pieces of a text.
        reach: see above.

    >>> from reasonpack.views.spans import Kind, Span
    >>> view = View(1, "a|b|", "c|", (Span(4, Kind.CONTEXT, 0), Span(6, Kind.R_OUT, 1)))
    >>> pieces = Pieces(lambda text: [part + "|" for part in text.split("|")[:-1]])
    >>> cut = pieces.add(view)
    >>> pieces.encode(lambda texts: [np.array([ord(text[0]), 0], np.int32) for text in texts])
    >>> encoded = pieces.look_up(cut)
    >>> encoded.tokens.tolist(), encoded.prompt_length
    ([97, 0, 98, 0, 99, 0], 4)
    >>> encoded.runs
    [Run(stop=4, kind=0, message=0), Run(stop=6, kind=3, message=1)]
    """

    def __init__(self, cut: Callable[[str], Sequence[str]], *, reach: int | None = None) -> None:
        self.cut = cut
        self.reach = reach
        self._numbers: dict[str, int] = {}
        self._ids: list[I32] = []

    def add(self, view: View) -> CutView:
        """Cut a view by itself, and remember its pieces for `encode`."""
        return Cutter(self).add(view)

    def number(self, piece: str) -> int:
        """Return the number of a piece; the same text has the same."""
        return self._numbers.setdefault(piece, len(self._numbers))

    def encode(self, encode_batch: Callable[[Sequence[str]], Sequence[I32]]) -> None:
        """Encode what was added since the last call, in one batch."""
        new = list(self._numbers)[len(self._ids) :]
        encoded = encode_batch(new)
        if len(encoded) != len(new):
            raise ValueError(f"ids of {len(encoded)} pieces, expected those of {len(new)}")
        self._ids.extend(encoded)

    def look_up(self, view: CutView) -> EncodedView:
        """Put the tokens of a view together that shares nothing with another, L of them."""
        assert view.shared == 0
        return self.look_up_all([view])[0]

    def look_up_all(self, views: Sequence[CutView]) -> list[EncodedView]:
        """Put the tokens of the views of one conversation together, in their order."""
        assert len(self._ids) == len(self._numbers), "encode() comes before look_up()"
        encoded = []
        stops = [0]  # the tokens before each piece, and in all
        numbers: list[int] = []
        for view in views:
            del stops[view.shared + 1 :], numbers[view.shared :]
            first = stops[-1]
            arrays = [self._ids[number] for number in view.pieces]
            numbers += view.pieces
            stops += accumulate(map(len, arrays), initial=stops.pop())
            encoded.append(
                EncodedView(
                    tokens=np.concatenate(arrays) if arrays else np.zeros(0, np.int32),
                    prompt_length=stops[view.prompt_pieces],
                    runs=list(self._runs(view, stops, numbers)),
                    shared=first,
                )
            )
        return encoded

    def _runs(self, view: CutView, stops: Sequence[int], numbers: Sequence[int]) -> Iterator[Run]:
        """Yield what is between the borders of a view, if there are tokens."""
        at = stops[view.shared]
        for piece, part, kind, message in view.borders:
            stop = stops[piece]
            if part != NO_PART:
                stop += self._tokens_before(part, numbers[piece])
            if stop > at:
                yield Run(stop, kind, message)
                at = stop

    def _tokens_before(self, part: int, piece: int) -> int:
        """Count the tokens of a piece that are those of its beginning, encoded alone."""
        before, whole = self._ids[part], self._ids[piece]
        if before.tobytes() == whole[: len(before)].tobytes():  # nearly always, and quicker to see
            return len(before)
        return common_prefix(before, whole)


class Cutter:
    """Cuts the views of one conversation, in their order; remembers their pieces."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._starts: list[int] = []  # where each piece of the prompt before begins

    def add(self, view: View) -> CutView:
        """Cut the next view."""
        cut, starts = self._pieces.cut, self._starts
        shared = self._shared(view.shared)
        at = starts[shared] if shared else 0
        del starts[shared:]
        prompt = cut(view.prompt[at:])
        pieces = [*prompt, *cut(view.completion)]
        starts += accumulate(map(len, prompt[:-1]), initial=at)
        return CutView(
            shared,
            tuple(map(self._pieces.number, pieces)),
            shared + len(prompt),
            tuple(self._borders(view, pieces, at, shared)),
        )

    def _shared(self, same: int) -> int:
        """Count the pieces of the prompt before that one must begin with that shares characters.

        A cut stays where it is if the characters behind it do that could belong to an
        added token which lies across it.
        """
        reach = self._pieces.reach
        return 0 if reach is None else max(0, bisect_right(self._starts, same - reach) - 1)

    def _borders(self, view: View, pieces: Sequence[str], at: int, shared: int) -> Iterator[Border]:
        """Find the ends of spans in `pieces`, which begin at the character `at`."""
        number = 0
        behind = bisect_right(view.spans, at, key=lambda span: span.stop) if at else 0
        for span in view.spans[behind:]:
            while number < len(pieces) and at + len(pieces[number]) <= span.stop:
                at += len(pieces[number])
                number += 1
            part = pieces[number][: span.stop - at] if number < len(pieces) else ""
            part_number = self._pieces.number(part) if part else NO_PART
            yield Border(shared + number, part_number, int(span.kind), span.message)
