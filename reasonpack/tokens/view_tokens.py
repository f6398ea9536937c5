"""Views as text → views as tokens, with each distinct piece of text encoded once.

    View ── cut at added tokens ──→ pieces ── one batch for many views ──→ EncodedViews

A conversation of N turns shows its beginning N times, so each view is cut only from where it
departs from the view before it: the cost is linear in the text of the conversation. The spans of a
view become runs of tokens. If a span ends inside a piece, the part of the piece before this border
is encoded too. The tokens with which part and piece both begin lie before the border, and so do the
next ones as long as their text ends before it; a token across the border belongs to the next span.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate, count
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import EncodedViews, Run, common_prefix, encoded_views
from reasonpack.views.spans import common_beginning
from reasonpack.views.view import View

I32 = NDArray[np.int32]
NO_PART = -1


class Border(NamedTuple):
    """The end of a span, or of the prompt within a span, found among the pieces of a view.

    Attributes:
        piece: index of the piece that it lies in or at whose start it lies; one past the
            last at the end of the view.
        part: number of the piece's text before the border; −1 at the start of the piece.
        kind: kind of the span.
        message: message of the span.
        trained: whether the tokens that end here are in the completion and trained.
    """

    piece: int
    part: int
    kind: int
    message: int
    trained: bool


class CutView(Struct, frozen=True):
    """A view cut into pieces.

    Attributes:
        shared: how many leading pieces are those of the view before it.
        prompt: how many pieces the prompt has, the shared ones included.
        pieces: numbers of the pieces after the shared ones.
        borders: the ends of spans after the shared pieces.
    """

    shared: int
    prompt: int
    pieces: tuple[int, ...]
    borders: tuple[Border, ...]


class Pieces:
    """The distinct pieces of text of many views, numbered, and then their ids.

    Args:
        cut: returns the pieces of a text; joined, they are the text.
        reach: how many characters after a cut can affect it, which is the length of the
            longest added token. None if unknown: then views share no pieces.
        decode: returns the text of tokens. If the part of a piece before a border has other
            tokens when encoded alone, it tells which tokens of the piece are before the border.
            Without it, they count as after the border.

    >>> from reasonpack.views.spans import Kind, Span
    >>> view = View(1, "a|b|", "c|", (Span(4, Kind.CONTEXT, 0), Span(6, Kind.R_OUT, 1)))
    >>> pieces = Pieces(lambda text: [part + "|" for part in text.split("|")[:-1]])
    >>> cut = Cutter(pieces).add(view)
    >>> pieces.encode(lambda texts: [np.array([ord(text[0]), 0], np.int32) for text in texts])
    >>> views = pieces.look_up([[cut]])
    >>> views.tokens.tolist(), views.trained.astype(int).tolist()
    ([97, 0, 98, 0, 99, 0], [0, 0, 0, 0, 1, 1])
    >>> views.run_start.tolist(), views.run_kind.tolist()
    ([0, 4], [0, 3])
    """

    def __init__(
        self,
        cut: Callable[[str], Sequence[str]],
        *,
        reach: int | None = None,
        decode: Callable[[I32], str] | None = None,
    ) -> None:
        self.cut = cut
        self.reach = reach
        self.characters = 0
        """Length of the views that were cut, without what each shares with the one before it."""
        self._decode = decode
        self._numbers = defaultdict[str, int](count().__next__)
        self._ids: list[bytes] = []  # of i32: to join bytes takes a tenth of the time
        self._counts: list[int] = []  # how many ids each piece has
        self._sizes = np.zeros(0, np.int64)  # the same
        self._last = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int64)

    def number(self, piece: str) -> int:
        """Return the number of a piece; equal texts have the same number."""
        return self._numbers[piece]

    def number_all(self, pieces: Sequence[str]) -> tuple[int, ...]:
        """Return the numbers of pieces."""
        return tuple(map(self._numbers.__getitem__, pieces))

    def encode(self, encode_batch: Callable[[Sequence[str]], Sequence[I32]]) -> None:
        """Encode the pieces added since the last call, in one batch."""
        new = list(self._numbers)[len(self._ids) :]
        encoded = encode_batch(new)
        if len(encoded) != len(new):
            raise ValueError(f"ids of {len(encoded)} pieces, expected those of {len(new)}")
        self._ids.extend(ids.astype(np.int32, copy=False).tobytes() for ids in encoded)
        self._counts += map(len, encoded)
        self._sizes = np.array(self._counts, np.int64)

    def look_up(self, conversations: Sequence[Sequence[CutView]]) -> EncodedViews:
        """Return the views of some conversations as tokens, in order."""
        assert len(self._ids) == len(self._numbers), "encode() comes before look_up()"
        tokens: list[bytes] = []
        runs: list[Run] = []
        shared: list[int] = []
        end: list[int] = []
        written = 0
        for views in conversations:
            stops = [0]  # how many tokens of the view are before each piece, and in all
            numbers: list[int] = []
            for view in views:
                del stops[view.shared + 1 :], numbers[view.shared :]
                shared.append(stops[-1])
                tokens += map(self._ids.__getitem__, view.pieces)
                numbers += view.pieces
                own = map(self._counts.__getitem__, view.pieces)
                stops += accumulate(own, initial=stops.pop())
                end.append(stops[-1])
                origin = written - shared[-1]
                for piece, part, kind, message, trained in view.borders:
                    before = self._tokens_before(part, numbers[piece]) if part != NO_PART else 0
                    runs.append((origin + stops[piece] + before, kind, message, trained))
                written = origin + end[-1]
        bounds = [0, *accumulate(map(len, conversations))]
        array = np.frombuffer(b"".join(tokens), np.int32)
        return encoded_views(array, runs, shared=shared, end=end, bounds=bounds)

    def tokens(self, pieces: I32) -> tuple[I32, NDArray[np.int64]]:
        """Return the tokens of a view, given the numbers of all its pieces.

        Returns:
            The tokens; and how many of them are before each piece, and in all.
        """
        before, tokens, stops = self._last
        same = common_prefix(before, pieces)
        own = np.frombuffer(b"".join(map(self._ids.__getitem__, pieces[same:].tolist())), np.int32)
        tokens = np.concatenate([tokens[: stops[same]], own])
        sizes = self._sizes[pieces[same:]]
        stops = np.concatenate([stops[: same + 1], stops[same] + np.cumsum(sizes)])
        self._last = pieces, tokens, stops
        return tokens, stops

    def runs(self, pieces: I32, stops: NDArray[np.int64], borders: Sequence[Border]) -> list[Run]:
        """Return the runs of a view's tokens that end at `borders`, given all its pieces."""
        return [
            (
                stops.item(piece)
                + (self._tokens_before(part, pieces.item(piece)) if part != NO_PART else 0),
                *(kind, message, trained),
            )
            for piece, part, kind, message, trained in borders
        ]

    def size(self, pieces: I32) -> int:
        """Return how many tokens some pieces have."""
        return int(self._sizes[pieces].sum())

    def _tokens_before(self, part: int, piece: int) -> int:
        """Count the tokens of a piece that lie within its beginning; both are given as numbers."""
        if self._ids[piece].startswith(self._ids[part]):
            return self._counts[part]
        before, whole = (np.frombuffer(self._ids[each], np.int32) for each in (part, piece))
        same = found = common_prefix(before, whole)
        if self._decode is None:
            return same
        rest = self._decode(before[same:])
        for stop in range(same + 1, len(whole) + 1):
            text = self._decode(whole[same:stop])
            if len(text) > len(rest):
                break
            found = stop if rest.startswith(text) else found
        return found


class Cutter:
    """Cuts the views of one conversation, in order; remembers the pieces of the last prompt."""

    def __init__(self, pieces: Pieces) -> None:
        self.prompt = ""
        """The prompt of the last view."""
        self._pieces = pieces
        self._starts: list[int] = []  # where each piece of that prompt begins

    def add(self, view: View) -> CutView:
        """Cut the next view."""
        cut, starts = self._pieces.cut, self._starts
        shared = self._shared(common_beginning(self.prompt, view.prompt))
        self.prompt = view.prompt
        at = starts[shared] if shared else 0
        del starts[shared:]
        prompt = cut(view.prompt[at:])
        pieces = [*prompt, *cut(view.completion)]
        ends = [*accumulate(map(len, pieces), initial=at)]
        starts += ends[: len(prompt) or 1]
        self._pieces.characters += ends[-1] - at
        numbers = self._pieces.number_all(pieces)
        borders = self._borders(view, pieces, ends, shared, len(prompt))
        return CutView(shared, shared + len(prompt), numbers, borders)

    def pieces_before(self, character: int) -> int:
        """Count the pieces of the last prompt that begin before the given character."""
        return bisect_left(self._starts, character)

    def _shared(self, same: int) -> int:
        """Return how many pieces of the last prompt the next one has, if `same` characters agree.

        A cut stays if the `reach` characters after it agree, which could belong to an added token
        across it.
        """
        reach = self._pieces.reach
        return 0 if reach is None else max(0, bisect_right(self._starts, same - reach) - 1)

    def _borders(
        self, view: View, pieces: Sequence[str], ends: Sequence[int], shared: int, prompt: int
    ) -> tuple[Border, ...]:
        """Return the ends of spans in `pieces`, the first `prompt` of which are the prompt's.

        The pieces follow `shared` others; `ends` are the character of the view at which they begin,
        and those at which they end.
        """
        borders: list[Border] = []
        before, done, trained = len(view.prompt), ends[0], False
        behind = bisect_right(view.spans, done, key=lambda span: span.stop) if done else 0
        for stop, kind, message, is_trained in view.spans[behind:]:
            if stop > before and not trained:
                trained = True
                borders.append(Border(shared + prompt, NO_PART, int(kind), message, False))
            assert stop >= done, "spans tile a view"
            done = stop
            number, part = bisect_right(ends, stop) - 1, NO_PART
            if number < len(pieces) and stop > ends[number]:
                part = self._pieces.number(pieces[number][: stop - ends[number]])
            own = Border(shared + number, part, int(kind), message, trained and is_trained)
            borders.append(own)
        return tuple(borders)
