"""Views in text → views in tokens, each distinct piece of text encoded once.

    View ── cut at added tokens ──→ pieces ── one batch for many views ──→ EncodedView

A conversation of N turns shows its beginning N times, so most pieces of a view were
met before. The spans of a view become runs of tokens: where a span ends inside a
piece, the part before it is encoded too, and the tokens on which both agree are the
ones that lie before the border; a token that straddles it counts to what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonpack.layout import EncodedView, common_prefix
from reasonpack.views import View

__all__ = ["Border", "CutView", "Pieces"]

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Border:
    """The end of a span, found among the pieces of a view.

    Attributes:
        piece: index of the piece it lies in, or after which it lies.
        part: text of that piece before the border; empty if it lies at the piece's start.
        kind: of the span that ends here.
        message: of the span that ends here.
    """

    piece: int
    part: str
    kind: int
    message: int


@dataclass(frozen=True, slots=True)
class CutView:
    """A view cut into pieces: `prompt_pieces` of them are the prompt's."""

    pieces: tuple[str, ...]
    prompt_pieces: int
    borders: tuple[Border, ...]


class Pieces:
    """The distinct pieces of text of many views, and then their ids.

    >>> from reasonpack.spans import Kind, Span
    >>> view = View(1, "a|b|", "c|", (Span(4, Kind.CONTEXT, 0), Span(6, Kind.R_OUT, 1)))
    >>> pieces = Pieces(lambda text: [part + "|" for part in text.split("|")[:-1]])
    >>> cut = pieces.add(view)
    >>> pieces.encode(lambda texts: [np.array([ord(text[0]), 0], np.int32) for text in texts])
    >>> encoded = pieces.look_up(cut)
    >>> encoded.tokens.tolist(), encoded.prompt_length, encoded.messages.tolist()
    ([97, 0, 98, 0, 99, 0], 4, [0, 0, 0, 0, 1, 1])
    """

    def __init__(self, cut: Callable[[str], Sequence[str]]) -> None:
        self._cut = cut
        self._ids: dict[str, I32 | None] = {}
        self._texts: dict[str, str] = {}

    def add(self, view: View) -> CutView:
        """Cut a view, and remember its pieces for `encode`."""
        prompt = [self._intern(piece) for piece in self._cut(view.prompt)]
        completion = [self._intern(piece) for piece in self._cut(view.completion)]
        pieces = (*prompt, *completion)
        borders = tuple(self._borders(view, pieces))
        return CutView(pieces, len(prompt), borders)

    def encode(self, encode_batch: Callable[[Sequence[str]], Sequence[I32]]) -> None:
        """Encode what was added since the last call, in one batch."""
        new = [text for text, ids in self._ids.items() if ids is None]
        self._ids.update(zip(new, encode_batch(new), strict=True))

    def look_up(self, view: CutView) -> EncodedView:
        """Put the tokens of a view together, L of them."""
        arrays = [self._known(piece) for piece in view.pieces]
        stops = np.cumsum([0] + [len(array) for array in arrays])
        ends = np.array(
            [stops[border.piece] + self._tokens_before(border, view) for border in view.borders],
            np.int64,
        )
        lengths = np.diff(np.maximum.accumulate(ends), prepend=0)
        return EncodedView(
            tokens=np.concatenate(arrays) if arrays else np.zeros(0, np.int32),
            prompt_length=int(stops[view.prompt_pieces]),
            kinds=np.repeat(np.array([b.kind for b in view.borders], np.uint8), lengths),
            messages=np.repeat(np.array([b.message for b in view.borders], np.int32), lengths),
        )

    def _intern(self, piece: str) -> str:
        self._ids.setdefault(piece)
        return self._texts.setdefault(piece, piece)

    def _borders(self, view: View, pieces: Sequence[str]) -> Iterator[Border]:
        at = number = 0
        for span in view.spans:
            while number < len(pieces) and at + len(pieces[number]) <= span.stop:
                at += len(pieces[number])
                number += 1
            part = pieces[number][: span.stop - at] if number < len(pieces) else ""
            yield Border(number, self._intern(part) if part else "", int(span.kind), span.message)

    def _tokens_before(self, border: Border, view: CutView) -> int:
        if not border.part:
            return 0
        return common_prefix(self._known(border.part), self._known(view.pieces[border.piece]))

    def _known(self, piece: str) -> I32:
        ids = self._ids[piece]
        assert ids is not None, "encode() comes before look_up()"
        return ids
