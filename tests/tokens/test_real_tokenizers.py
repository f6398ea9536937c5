"""The law of the tokenizer module, on published tokenizers: pieces encode as the whole text."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import assets
import pytest
import tokenizers
from kinds import FILLER, fragments

from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.network

HARD_TEXTS = 4000
ANY_CHARACTER = [*range(0x20, 0xD800), *range(0xE000, 0x2FA20)]


@dataclass(frozen=True)
class Published:
    """A tokenizer, and the reference: `tokenizers` alone, on the same file."""

    name: str
    tokenizer: Tokenizer
    reference: tokenizers.Tokenizer

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self.reference.encode_batch(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def hard_texts(self, count: int = HARD_TEXTS) -> list[str]:
        """Mix added tokens, what is nearly one, and whatever may change beside one."""
        rng = random.Random(self.name)
        added = self.tokenizer.added_tokens
        nearly = fragments(added)
        sources = [
            lambda: rng.choice(added),
            lambda: rng.choice(nearly),
            lambda: rng.choice(FILLER),
            lambda: rng.choice(" \n\t\r") * rng.randrange(1, 40),
            lambda: str(rng.randrange(10**12)),
            lambda: chr(rng.choice(ANY_CHARACTER)) * rng.randrange(1, 3),
            lambda: "".join(chr(rng.choice(ANY_CHARACTER)) for _ in range(rng.randrange(6))),
        ]
        return [
            "".join(rng.choice(sources)() for _ in range(rng.randrange(1, 16)))
            for _ in range(count)
        ]


@pytest.fixture(scope="module", params=assets.TOKENIZERS)
def published(request: pytest.FixtureRequest) -> Published:
    directory = assets.tokenizer_dir(request.param)
    reference = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    return Published(request.param, load_tokenizer(directory), reference)


def joined(tokenizer: Tokenizer, cuts: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    arrays = iter(tokenizer.encode_batch([piece for pieces in cuts for piece in pieces]))
    for pieces in cuts:
        yield [token for _ in pieces for token in next(arrays).tolist()]


def test_hard_texts(published: Published) -> None:
    tokenizer = published.tokenizer
    assert tokenizer.rule.stages, tokenizer.rule.reason
    texts = published.hard_texts()
    cuts = [tokenizer.cut(text) for text in texts]
    assert ["".join(pieces) for pieces in cuts] == texts
    assert sum(map(len, cuts)) > 3 * HARD_TEXTS
    for text, ids, expected in zip(
        texts, joined(tokenizer, cuts), published.whole(texts), strict=True
    ):
        assert ids == expected, text


def test_every_added_token(published: Published) -> None:
    tokenizer = published.tokenizer
    texts = [
        f"e{token}\u0301{other} {token[:-1]}{token}\n{other}{other[1:]} a"
        for token, other in itertools.pairwise(tokenizer.added_tokens)
    ]
    cuts = [tokenizer.cut(text) for text in texts]
    for text, ids, expected in zip(
        texts, joined(tokenizer, cuts), published.whole(texts), strict=True
    ):
        assert ids == expected, text


def test_a_cut_elsewhere_is_noticed(published: Published) -> None:
    """The planted fault, to see that these texts can tell."""
    texts = published.hard_texts(300)
    halves = [[text[: len(text) // 2], text[len(text) // 2 :]] for text in texts]
    assert list(joined(published.tokenizer, halves)) != published.whole(texts)


def test_an_added_token_is_a_piece_of_its_own(published: Published) -> None:
    tokenizer = published.tokenizer
    for token in tokenizer.added_tokens:
        assert tokenizer.cut(f"a{token}b") == ["a", token, "b"]
        (ids,) = tokenizer.encode_batch([token])
        assert ids.tolist() == [published.reference.token_to_id(token)]


def test_round_trip(published: Published) -> None:
    """Text in normal form comes back, special tokens included."""
    tokenizer = published.tokenizer
    text = " ".join(["Grüße", *tokenizer.added_tokens[:20], "中文", "f(x) = 1\n\n"])
    (ids,) = joined(tokenizer, [tokenizer.cut(text)])
    assert tokenizer.decode(ids) == text
    assert {tokenizer.token_text(token) for token in ids} >= set(tokenizer.added_tokens[:20])


CONFIGURATION = {
    "qwen3": (131072, "<|im_end|>"),
    "gptoss": (None, "<|return|>"),
    "gemma3": (32768, "<end_of_turn>"),
    "llama3_1": (None, "<|eot_id|>"),
    "deepseek_v3": (131072, "<｜end▁of▁sentence｜>"),
    "deepseek_v4": (1048576, "<｜end▁of▁sentence｜>"),
}


def test_configuration(published: Published) -> None:
    tokenizer = published.tokenizer
    found = (tokenizer.model_max_length, tokenizer.special_tokens["eos_token"])
    assert found == CONFIGURATION[published.name]
    assert tokenizer.directory == assets.tokenizer_dir(published.name)


def test_truncation_and_padding_in_the_file(tmp_path: Path) -> None:
    file = json.loads((assets.tokenizer_dir("qwen3") / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    as_published = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    changed = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    changed.enable_truncation(4)
    changed.enable_padding(length=16, direction="left")
    changed.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    published = Published("qwen3", tokenizer, as_published)
    texts = published.hard_texts(300)
    cuts = [tokenizer.cut(text) for text in texts]
    assert list(joined(tokenizer, cuts)) == published.whole(texts)


def test_templates_can_be_had() -> None:
    assert {"trl/qwen3", "llama.cpp/GLM-4.6"} <= set(assets.template_names())
    assert "enable_thinking" in assets.template("trl/qwen3")
