"""Texts in pieces are encoded as they are as a whole, or as a whole."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
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
    encoder.encode("<|bos|>Two")  # a special token that parts no text is none to wait for
    whole = encoder._whole
    monkeypatch.setattr(encoder, "_whole", lambda text: (asked.append(text), whole(text))[1])
    text = "".join(f"<|im_start|>user\nTwo and {n}?<|im_end|>\n" for n in range(100))
    ends = [at for at in range(len(text)) if text.startswith("<|im_start|>", at)]
    for end in ends:
        encoder.encode(text[:end])
    assert len(text) / 2 < sum(map(len, asked)) < 2 * len(text)
    assert len([each for each in asked if each.count("<|im_start|>") > 1]) > 1  # tried as a whole


def numbered(text: str) -> Any:
    """Make another token of the first character of a text."""
    return TOKENIZER_.reference.encode(f"{len(text)}{text}", add_special_tokens=False)


def spread(text: str) -> Any:
    """Say of each token that it is all of the text."""
    ids = TOKENIZER_.reference.encode(text, add_special_tokens=False).ids
    return SimpleNamespace(ids=ids, offsets=[(0, len(text))] * len(ids))


@pytest.mark.parametrize("encode", [numbered, spread])
def test_a_tokenizer_that_parts_no_text_is_asked_for_whole_ones(
    encode: Callable[[str], Any],
) -> None:
    added = TOKENIZER_.reference.get_added_tokens_decoder
    odd = SimpleNamespace(encode=lambda text, **_: encode(text), get_added_tokens_decoder=added)
    encoder = Encoder(SimpleNamespace(reference=odd))  # type: ignore[arg-type]
    text = "<|im_start|>user\nTwo?<|im_end|>\n"
    for times in (2, 1, 3):
        found, expected = encoder.encode(text * times), encode(text * times)
        assert found.ids.tolist() == expected.ids
        assert list(zip(found.begins.tolist(), found.ends.tolist(), strict=True)) == (
            expected.offsets
        )
