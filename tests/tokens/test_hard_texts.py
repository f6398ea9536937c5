"""The texts by which a fast backend has to prove itself."""

from __future__ import annotations

from reasonpack.tokens.hard_texts import hard_texts
from reasonpack.tokens.tokenizer import Tokenizer


def test_hard_texts_have_what_is_hard(tokenizer: Tokenizer) -> None:
    texts = hard_texts(tokenizer.added_tokens)
    joined = "\0".join(texts)
    assert all(token in joined for token in tokenizer.added_tokens[:20])
    assert all(
        hard in joined for hard in ("\r\n", "\u3000", "’s", "汉", "\u0301", "\u200d", "1234")
    )
    assert len({*joined}) > 800
    assert texts == hard_texts(tokenizer.added_tokens)
    joined.encode()
