"""What is read of a file is what `tokenizers` makes of it, or nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from kinds import KINDS, saved

from reasonpack.errors import TokenizerError
from reasonpack.tokens.files import read_tokenizer
from reasonpack.tokens.tokenizer import _loaded, load_tokenizer
from reasonpack.tokens.vocabulary import read_added_tokens, read_texts
from tests import assets

Json = dict[str, Any]
NORMALIZED = {"bert", "legacy llama", "metaspace always", "metaspace first"}
NORMALIZED |= {"metaspace never"}
"""Kinds of which `tokenizers` may write added tokens otherwise than the file."""


def made_of(path: Path) -> tuple[Json, Json]:
    """Ask `tokenizers` for all tokens, and for those that are added."""
    loaded = tokenizers.Tokenizer.from_file(str(path))
    added = loaded.get_added_tokens_decoder().items()
    return (
        {each: loaded.id_to_token(each) for each in loaded.get_vocab().values()},
        {id_: (token.content, token.special) for id_, token in added},
    )


def read_of(path: Path) -> tuple[Json | None, Json | None]:
    file = read_tokenizer(path)[1]
    return read_texts(file), read_added_tokens(file)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, KINDS[kind]())
    texts, added = made_of(path)
    assert read_of(path) == (None if kind in NORMALIZED else texts, added)


@pytest.mark.network
@pytest.mark.parametrize("name", assets.TOKENIZERS)
def test_published_tokenizers_are_read(name: str) -> None:
    path = assets.tokenizer_dir(name) / "tokenizer.json"
    assert read_of(path) == made_of(path)


texts = st.sampled_from(["", "?", "a", "b", "<s>", "<e>"])
tokens = st.builds(
    lambda content, id_, special: {
        "content": content,
        "id": id_,
        "special": special,
        "normalized": False,
        **dict.fromkeys(("single_word", "lstrip", "rstrip"), False),
    },
    *(texts, st.integers(-1, 7), st.booleans()),
)
numbered = st.dictionaries(texts, st.integers(-1, 6)) | st.permutations(range(5)).map(
    lambda ids: dict(zip(["?", "a", "b", "<s>", "<e>"], ids[:4], strict=False))
)


@given(numbered, st.lists(tokens, max_size=4))
def test_any_file_is_read_as_it_is_loaded_or_not_at_all(vocab: Json, added: list[Json]) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    model = {"type": "WordLevel", "vocab": {"?": 0} | vocab, "unk_token": "?"}
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), words, model=model, added_tokens=added)
        found = read_of(path)
        if found[0] is None:
            return
        try:
            expected = made_of(path)
        except BaseException:  # noqa: BLE001 (what it refuses, or panics at)
            return
    assert found[0] == expected[0]
    assert found[1] in (None, expected[1])


@pytest.mark.parametrize("changed", [{"id": 7}, {"id": None}, {"content": ""}, {"content": "a"}])
def test_what_is_numbered_otherwise_is_not_read(changed: Json, tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    words.add_special_tokens(["<s>"])
    (added,) = json.loads(words.to_str())["added_tokens"]
    assert read_of(saved(tmp_path, words, added_tokens=[added | changed]))[0] is None


def test_a_file_is_loaded_for_the_first_text(tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    path = saved(tmp_path, words, model=json.loads(words.to_str())["model"] | {"unk_token": 5})
    _loaded.cache_clear()
    tokenizer = load_tokenizer(path)
    assert tokenizer.token_text(1) == "a"
    with pytest.raises(TokenizerError, match="refuses the file"):
        tokenizer.encode_batch(["a"])
