"""Texts in pieces are encoded as they are as a whole, or as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_twice import TOKENIZER

from reasonpack.tokens.tokenizer import load_tokenizer
from reasonpack.verify.encoding import Encoder

TOKENIZER_ = load_tokenizer(TOKENIZER)
PIECES = ("<|im_start|>", "<|im_end|>", "\n", " ", "user", "héé", "日本", "<|im", "<think>", "two")


@given(st.lists(st.lists(st.sampled_from(PIECES)).map("".join), min_size=1))
def test_texts_are_encoded_as_they_are_as_a_whole(texts: list[str]) -> None:
    encoder = Encoder(TOKENIZER_)
    for text in (*texts, *texts):
        whole = TOKENIZER_.reference.encode(text, add_special_tokens=False)
        found = encoder.encode(text)
        assert found.ids.tolist() == whole.ids
        assert list(zip(found.begins.tolist(), found.ends.tolist(), strict=True)) == whole.offsets
        expected = [whole.char_to_token(at) for at in range(len(text))]
        assert [found.token_at(at) for at in range(len(text))] == expected


def test_each_piece_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    encoder = Encoder(TOKENIZER_)
    whole = encoder._whole
    monkeypatch.setattr(encoder, "_whole", lambda text: (asked.append(text), whole(text))[1])
    text = "".join(f"<|im_start|>user\nTwo and {n}?<|im_end|>\n" for n in range(100))
    ends = [at for at in range(len(text)) if text.startswith("<|im_start|>", at)]
    for end in ends:
        encoder.encode(text[:end])
    assert len(text) / 2 < sum(map(len, asked)) < 2 * len(text)
    assert len([each for each in asked if each.count("<|im_start|>") > 1]) > 1  # tried as a whole


def test_a_tokenizer_that_parts_no_text_is_asked_for_whole_ones() -> None:
    class Odd:
        """One that makes another token of the first character of a text."""

        def __getattr__(self, name: str) -> Any:
            return getattr(TOKENIZER_.reference, name)

        def encode(self, text: str, **options: Any) -> Any:
            return TOKENIZER_.reference.encode(f"{len(text)}{text}", **options)

    encoder = Encoder(type("Tokenizer", (), {"reference": Odd()})())  # type: ignore[arg-type]
    text = "<|im_start|>user\nTwo?<|im_end|>\n"
    for times in (2, 1, 3):
        expected = TOKENIZER_.reference.encode(f"{len(text) * times}{text * times}")
        assert encoder.encode(text * times).ids.tolist() == expected.ids
