"""A text is encoded with the characters that each token covers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packed_twice import TOKENIZER

from reasonpack.tokens.tokenizer import load_tokenizer
from reasonpack.verify.encoding import encode_text

TOKENIZER_ = load_tokenizer(TOKENIZER)
PIECES = ("<|im_start|>", "<|im_end|>", "\n", " ", "user", "héé", "日本", "<|im", "<think>", "two")


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_each_character_leads_to_its_token(text: str) -> None:
    whole = TOKENIZER_.reference.encode(text, add_special_tokens=False)
    found = encode_text(text, TOKENIZER_)
    assert found.ids.tolist() == whole.ids
    assert list(zip(found.begins.tolist(), found.ends.tolist(), strict=True)) == whole.offsets
    expected = [whole.char_to_token(at) for at in range(len(text))]
    assert [found.token_at(at) for at in range(len(text))] == expected
