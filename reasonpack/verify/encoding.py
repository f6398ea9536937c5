"""A text → its tokens, with the characters that each covers.

The text is encoded whole, as at inference, although the views of a conversation share most of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonpack.tokens.tokenizer import Tokenizer

I64 = NDArray[np.int64]


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


def encode_text(text: str, tokenizer: Tokenizer) -> Encoded:
    """Return the tokens of a text."""
    encoding = tokenizer.reference.encode(text, add_special_tokens=False)
    places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return Encoded(np.array(encoding.ids, np.int64), places[:, 0], places[:, 1])
