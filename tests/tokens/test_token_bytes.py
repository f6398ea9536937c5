"""The bytes of tokens, joined, are those of the text."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import tokenizers
from runs import FIXTURES

from reasonpack.errors import TokenizerError
from reasonpack.tokens.token_bytes import bytes_of_tokens
from reasonpack.tokens.tokenizer import load_tokenizer

TEXTS = (
    "plain text",
    "  two\tspaces\n\n",
    "Straße für »alle«",
    "日本語 👩‍👩‍👧 e\u0301",
    "\x00\x1b[1m\u202e",
)


def test_bytes_of_a_byte_level_tokenizer_are_those_of_the_text() -> None:
    tokenizer = load_tokenizer(FIXTURES / "tokenizer")
    piece = bytes_of_tokens(tokenizer)
    for text in (*TEXTS, "<think>\nso</think><|im_end|>"):
        (ids,) = tokenizer.encode_batch([text])
        assert b"".join(map(piece, ids.tolist())) == unicodedata.normalize("NFC", text).encode()


def test_parts_of_a_character_are_bytes_and_no_replacement() -> None:
    tokenizer = load_tokenizer(FIXTURES / "tokenizer")
    piece = bytes_of_tokens(tokenizer)
    (ids,) = tokenizer.encode_batch(["👩"])
    assert len(ids) > 1
    assert all(not piece(token).isascii() for token in ids.tolist())


def saved(tokenizer: tokenizers.Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_an_added_token_is_its_text_even_where_its_letters_stand_for_bytes(tmp_path: Path) -> None:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    bytewise = tokenizers.Tokenizer(model)
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    bytewise.add_special_tokens(["<é>"])
    tokenizer = load_tokenizer(saved(bytewise, tmp_path))
    (ids,) = tokenizer.encode_batch(["é<é>"])
    assert list(map(bytes_of_tokens(tokenizer), ids.tolist())) == [b"\xc3", b"\xa9", "<é>".encode()]


def test_sentencepiece_writes_spaces_and_bytes(tmp_path: Path) -> None:
    vocab = {"▁the": 0, "<0xE2>": 1, "▁": 2, "a": 3}
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    pieces.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
        ]
    )
    piece = bytes_of_tokens(load_tokenizer(saved(pieces, tmp_path)))
    assert [piece(token) for token in range(4)] == [b" the", b"\xe2", b" ", b"a"]
    pieces.decoder = tokenizers.decoders.Metaspace()
    piece = bytes_of_tokens(load_tokenizer(saved(pieces, tmp_path)))
    assert [piece(token) for token in range(4)] == [b" the", b"<0xE2>", b" ", b"a"]


def test_others_are_what_the_vocabulary_writes(tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"hello": 0, "?": 1}, unk_token="?"))
    piece = bytes_of_tokens(load_tokenizer(saved(words, tmp_path)))
    assert piece(0) == b"hello"
    with pytest.raises(TokenizerError, match="no token has the id 7"):
        piece(7)
