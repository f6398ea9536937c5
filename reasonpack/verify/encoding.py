r"""A text → its tokens, with the characters that each covers.

    <|im_start|>user\nHi<|im_end|>\n      ─→ encoded before, looked up
    <|im_start|>assistant\n               ─→ encoded, and cached

A tokenizer splits a text at special tokens first. So a text is cut before each special token, and
each distinct piece is encoded once. Some texts are also encoded whole and compared: each that is
twice as long as any compared before, and others, together about as long as all pieces. If one
differs, texts are encoded whole from then on. The cache holds about `MOST` characters of pieces.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonpack.tokens.tokenizer import Tokenizer

I64 = NDArray[np.int64]
MOST = 1 << 25
"""Characters of cached pieces above which the cache is cleared."""


class Encoded(NamedTuple):
    """A text in T tokens.

    Attributes:
        ids: i64[T].
        begins: i64[T], first character of each token; the tokens of one character share it.
        ends: i64[T], one past the last character.
    """

    ids: I64
    begins: I64
    ends: I64

    def token_at(self, character: int) -> int | None:
        """Return the first token that covers a character; None if no token does."""
        at = int(np.searchsorted(self.ends, character, "right"))
        return at if at < len(self.ids) and self.begins[at] <= character else None


class Encoder:
    """Encodes texts that share pieces, such as the views of one conversation."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._reference = tokenizer.reference
        self._cut: re.Pattern[str] | None = None
        self._known: dict[str, Encoded] = {}
        self._size = self._untried = self._longest = 0

    def encode(self, text: str) -> Encoded:
        """Return the tokens of a text, the same as if it was encoded whole."""
        cut = self._cut or self._cuts(text)
        pieces = [piece for piece in cut.split(text) if piece] if cut else []
        if len(pieces) < 2:
            return self._whole(text)
        self._cut = cut
        if self._size > MOST:
            self._known.clear()
            self._size = 0
        for piece in pieces:
            if piece not in self._known:
                self._known[piece] = self._whole(piece)
                self._size += len(piece)
                self._untried += len(piece)
        made = _joined([self._known[piece] for piece in pieces], [*map(len, pieces)])
        if self._untried >= len(text) or len(text) >= 2 * self._longest:
            self._untried, self._longest = 0, max(self._longest, len(text))
            whole = self._whole(text)
            if not all(map(np.array_equal, whole, made)):
                self._cut = re.compile(r"(?!)")
                return whole
        return made

    def _whole(self, text: str) -> Encoded:
        encoding = self._reference.encode(text, add_special_tokens=False)
        places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return Encoded(np.array(encoding.ids, np.int64), places[:, 0], places[:, 1])

    def _cuts(self, text: str) -> re.Pattern[str] | None:
        """Return a pattern that matches before each special token that surely splits a text."""
        added = self._reference.get_added_tokens_decoder().values()
        names = [token.content for token in added]
        found = [
            re.escape(token.content)
            for token in added
            if token.special
            and not (token.lstrip or token.rstrip or token.single_word or token.normalized)
            and token.content in text
            and not any(token.content in name for name in names if name != token.content)
        ]
        return re.compile(f"(?={'|'.join(found)})") if found else None


def _joined(each: list[Encoded], sizes: list[int]) -> Encoded:
    tokens = [len(one.ids) for one in each]
    before = np.repeat(np.cumsum([0, *sizes[:-1]]), tokens)
    ids, begins, ends = map(np.concatenate, zip(*each, strict=True))
    return Encoded(ids, begins + before, ends + before)
