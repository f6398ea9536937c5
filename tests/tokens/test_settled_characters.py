"""Settled characters are those on which independent tables of Unicode agree; text is made of them.

The tables here are those of this Python and those of `tokenizers`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import pytest
import tokenizers
from tokenizers import normalizers

from reasonpack.tokens import fast_backends as backends
from reasonpack.tokens import settled_characters
from reasonpack.tokens.fast_backends import Encoder
from reasonpack.tokens.settled_characters import is_settled
from reasonpack.tokens.tokenizer import load_tokenizer
from tests.tokens.test_fast_backends import FIXTURE, TEXTS, install, same

pytestmark = pytest.mark.long

EVERY = "".join(filter(is_settled, map(chr, range(0x110000))))
CLASSES = {
    "folds": "\u017f\u212a",
    "changed": "\u0295",
    "marks": "\u1ac8\u089d\u1dfa\u08d3",
    "later": "\u1c8a\ua7dc\U0001fadf\u20c0",
    "unassigned": "\u0378\uffff\U0001fbff",
    "far": "\U00030000\U00033374\U0002a700\U000e0067\U000f0000",
    "rare": "\U00010f46\U00016ff2\U0001e131\U00012000",
}


@pytest.mark.parametrize("name", CLASSES)
def test_no_class_is_settled(name: str) -> None:
    assert not any(map(is_settled, CLASSES[name]))
    assert not any(is_settled(f"plain {one} text") for one in CLASSES[name])


def test_text_is_settled() -> None:
    texts = """
        plain Größe naïve don’t … „so“ Český Türkçe İıĞ Tiếng Việt e\u0302\u0301 Ελληνικά Українська
        ქართული Հայերեն עִבְרִית العَرَبِيَّة فارسی اردو پښتو हिन्दी বাংলা ਪੰਜਾਬੀ ગુજરાતી தமிழ் తెలుగు ಕನ್ನಡ മലയാളം ൽ
        සිංහල ไทย ลาว བོད་སྐད မြန်မာ ខ្មែរ አማርኛ 한국어 \u1112\u1161\u11ab 日本語 カタカナ 简体 繁體 ₹ € ₿
        ∑ ∀x∈ℝ: ⌈x⌉ → ⟨a|b⟩ 𝒳 𝔸 𝟙 ½ ² ─│┌ █ ▁ ✓ ★ \u200d \ufe0f \ufffd \ue000
        \U0001f600 \U0001f44d\U0001f3fd \U0001f929 \U0001f970 \U0001f1e9\U0001f1ea \U0001fa9f
    """
    assert [word for word in texts.split() if not is_settled(word)] == []


def test_every_python_knows_what_is_settled() -> None:
    assert 100_000 < len(EVERY) < 110_000
    assert [one for one in EVERY if unicodedata.category(one) in {"Cn", "Cs"}] == []


@pytest.mark.parametrize("kind", ["L", "M", "N", "P", "S", "Z", "Lu", "Ll", "Lt", "Lm", "Lo"])
def test_categories_agree(kind: str) -> None:
    without = normalizers.Replace(tokenizers.Regex(rf"\p{{{kind}}}"), "")
    members = {one for one in EVERY if unicodedata.category(one).startswith(kind)}
    assert set(EVERY) - set(without.normalize_str(EVERY)) == members
    assert members


def test_normal_forms_agree() -> None:
    reference = normalizers.NFC()
    beside = ["", "a", "\u0334", "\u0327", "\u0301", "\u0345", "\u05b0", "\u1161", "\u11a8"]
    for other in beside:
        texts = [text for one in EVERY for text in (f"a{one}{other}", f"{other}{one}.")]
        expected = unicodedata.normalize("NFC", "\0".join(texts))
        assert reference.normalize_str("\0".join(texts)) == expected, ascii(other)


def test_nothing_folds_to_a_letter_of_ascii() -> None:
    without = normalizers.Replace(tokenizers.Regex("(?i:[a-z])"), "")
    assert all(one.isascii() for one in set(EVERY) - set(without.normalize_str(EVERY)))
    assert [one for one in EVERY if not one.isascii() and one.casefold().isascii()] == [
        *"ßẞﬀﬁﬂﬃﬄﬅﬆ"  # to several letters, which no pre-tokenizer asks for
    ]


def wrong_on(is_wrong: Callable[[str], bool]) -> Callable[[Sequence[str], list[list[int]]], None]:
    def spoil(pieces: Sequence[str], ids: list[list[int]]) -> None:
        for piece, each in zip(pieces, ids, strict=True):
            if is_wrong(piece) and each:
                each.reverse()
                each[-1] ^= 1

    return spoil


@pytest.mark.parametrize("name", CLASSES)
def test_a_backend_that_is_wrong_on_a_class_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = frozenset(CLASSES[name])
    install(monkeypatch, gigatoken=wrong_on(lambda piece: not wrong.isdisjoint(piece)))
    tokenizer = load_tokenizer(FIXTURE)
    texts = [f"{text} {one}'s" for text in TEXTS for one in ("", *CLASSES[name])]
    encoder = Encoder(tokenizer, ["gigatoken"], check_rate=1e-9)
    assert same(encoder.encode(texts), tokenizer, texts)
    assert (encoder.used, encoder.fault) == ("gigatoken 1", None)


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_refused_if_it_is_given_the_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a rule that lacks one of its classes."""
    wrong = frozenset(CLASSES[name])
    without = str.maketrans("", "", CLASSES[name])
    install(monkeypatch, gigatoken=wrong_on(lambda piece: not wrong.isdisjoint(piece)))
    monkeypatch.setattr(backends, "is_settled", lambda text: is_settled(text.translate(without)))
    tokenizer = load_tokenizer(FIXTURE)
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"
    assert "differs from tokenizers on a hard text" in str(encoder.fault)


def moves(mark: str, other: str) -> bool:
    return unicodedata.combining(mark) > unicodedata.combining(other) > 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda piece: any(map(moves, piece, piece[1:])),
        lambda piece: any(one > "\x7f" and f"{one}'s" in piece for one in piece),
        lambda piece: any(0x4E00 <= ord(one) < 0xA000 and f'{one}"' in piece for one in piece),
        lambda piece: any(one > "\U0001f000" and f" {one}" in piece for one in piece),
        lambda piece: any(
            unicodedata.category(one) == "Nl" and f"1{one}" in piece for one in piece
        ),
    ],
)
def test_a_backend_that_is_wrong_on_settled_text_is_refused(
    wrong: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=wrong_on(lambda piece: is_settled(piece) and wrong(piece)))
    tokenizer = load_tokenizer(FIXTURE)
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"
    assert "differs from tokenizers on a hard text" in str(encoder.fault)


def test_the_pattern_is_not_made_for_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled_characters, "_unsettled_pattern", lambda: pytest.fail("made"))
    assert is_settled("plain text\n")
