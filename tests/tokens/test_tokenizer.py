"""A loaded tokenizer encodes and decodes exactly, or says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from kinds import joined, load, metaspace, saved, unigram
from tokenizers import models

from reasonpack.errors import TokenizerError
from reasonpack.tokens import cut_rule
from reasonpack.tokens.tokenizer import load_tokenizer
from tests.changed import replace


def test_load_checks_its_own_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metaspace("first", unigram).save(str(tmp_path / "tokenizer.json"))
    argued = cut_rule._argued_rule
    monkeypatch.setattr(
        cut_rule, "_argued_rule", lambda *given: replace(argued(*given), leads=False)
    )
    tokenizer = load_tokenizer(tmp_path)
    assert not tokenizer.rule.stages
    assert tokenizer.rule.reason.startswith("whole: cut and whole differ on")
    assert tokenizer.cut("<s>a<s>b") == ["<s>a<s>b"]


def word_level() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))


def test_each_of_two_tokenizers_is_loaded_once(tmp_path: Path) -> None:
    word_level().save(str(tmp_path / "tokenizer.json"))
    first, second = load_tokenizer(tmp_path), load("nfc")[0]
    kept = first.reference
    assert second.reference is not kept
    assert first.reference is kept


def test_encode_batch_gives_int32_arrays() -> None:
    arrays = load("nfc")[0].encode_batch(("ab", "", "<think>"))
    assert [array.dtype for array in arrays] == [np.int32] * 3
    assert [array.ndim for array in arrays] == [1, 1, 1]
    assert len(arrays[1]) == 0
    assert load("nfc")[0].encode_batch([]) == []


def test_lone_surrogate() -> None:
    with pytest.raises(TokenizerError, match=r"'\\ud800' at character 1 of a text, expected Unic"):
        load("nfc")[0].encode_batch(["fine", "a\ud800b"])


def test_id_beyond_int32(tmp_path: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"?": 0, "b": 3_000_000_000}, "unk_token": "?"}
    tokenizer = load_tokenizer(saved(tmp_path, word_level(), model=model))
    with pytest.raises(TokenizerError, match="OverflowError"):
        tokenizer.encode_batch(["b"])


def test_decode_keeps_special_tokens() -> None:
    tokenizer, _ = load("nfc")
    text = "<|im_start|>a b<think> 中文\n\n</think><|im_end|>"
    ids = joined(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(np.array(ids, np.int32)) == text
    assert tokenizer.decode([]) == ""


def test_token_text_is_that_of_the_vocabulary() -> None:
    tokenizer, reference = load("nfc")
    ids = joined(tokenizer, " a<think>")
    assert [tokenizer.token_text(token) for token in ids] == ["Ġa", "<think>"]
    assert tokenizer.token_text(np.int32(ids[0])) == "Ġa"
    assert (
        tokenizer.vocab_size == reference.get_vocab_size() == 256 + 14 + 6
    )  # "é" is a token of BPE as well


@pytest.mark.parametrize("token", [-1, 10**6, 2**32, 2**70])
def test_id_that_no_token_has(token: int) -> None:
    with pytest.raises(TokenizerError, match=f"no token has the id {token}, expected one of the 2"):
        load("nfc")[0].decode([token])


@pytest.mark.parametrize("changed", ["nothing", "truncation", "file"])
def test_other_programs_get_the_file_where_it_is_what_was_loaded(
    changed: str, tmp_path: Path
) -> None:
    limit = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    more = {"truncation": limit} if changed == "truncation" else {}
    file = saved(tmp_path, word_level(), **more)
    tokenizer = load_tokenizer(file)
    text = file.read_text("utf-8")
    if changed == "file":
        file.write_text("{}", "utf-8")
    given = tokenizer.as_json()
    assert (given == text) is (changed == "nothing")
    again = tokenizers.Tokenizer.from_str(given)
    assert again.truncation is None
    assert again.get_vocab() == tokenizer.reference.get_vocab()
