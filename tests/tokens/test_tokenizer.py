"""The ids of the pieces, joined, are the ids of the whole text: for every kind of tokenizer.

The slow reference is `tokenizers` itself on the whole text. Each kind below has one property of
real tokenizers by which a careless cut changes ids, and each planted fault is such a cut.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from reasonpack.errors import TokenizerError, UsageError
from reasonpack.tokens import cut, cut_rule, files
from reasonpack.tokens import tokenizer as module
from reasonpack.tokens.cut import CutRule
from reasonpack.tokens.cut_rule import longest_first
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Merges that reach across whatever may stand beside an added token.
MERGED = ["Ġa", "Ġb", "ĠĠ", "ĊĊ", "aa", "ab", "eÌ", "eÌģ", "Ã©", "<|", "|>", "><", "a>", "Ġ<"]
CHAT = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|im_", "\n\n", "é"]
FILLER = [
    *("a", "b", "e", "é", "e\u0301", "\u0301", "\u0327\u0301", "A'", "'s", "don't", "_", "-", "x1"),
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u200b", "\u200d", "\u3000", "▁"),
    *("0", "42", "123456", "٣", "<", ">", "<|", "|>", "</", "[", "]", "`", "\\", "\x00", "\ufeff"),
    *(
        "中文",
        "。",
        "ー",
        "한",
        "\u1112\u1161\u11ab",
        "日本",
        "שלום",
        "مرحبا",
        "\u202e",
        "👩‍👩‍👧",
        "🇩🇪",
        "ﬁ",
        "ﷺ",
    ),
]


def byte_bpe(merged: Sequence[str] = MERGED, **options: object) -> tokenizers.Tokenizer:
    """Byte-level BPE with some merged words, each made of the one before its last byte."""
    vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {word: len(vocab) + i for i, word in enumerate(merged)}
    merges = [(word[:-1], word[-1]) for word in merged]
    return tokenizers.Tokenizer(models.BPE(vocab, merges, **options))


def sentence_bpe(*, byte_fallback: bool = True) -> tokenizers.Tokenizer:
    """BPE over characters in the manner of SentencePiece, with bytes to fall back on."""
    vocab = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for character in "▁abe<>|/ské":
        vocab[character] = len(vocab)
    merges = [("▁", "a"), ("▁", "▁"), ("▁", "<"), ("a", "b"), ("<", "/")]
    vocab |= {left + right: len(vocab) + i for i, (left, right) in enumerate(merges)}
    return tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=byte_fallback)
    )


def unigram() -> tokenizers.Tokenizer:
    scores = {"<unk>": 0.0, "▁": -2.0, "▁a": -1.5, "a": -2.0, "b": -2.1, "ab": -3.0, "▁▁": -3.5}
    scores |= {"e": -2.5, "s": -2.6, "<": -2.7, ">": -2.8, "</": -3.0, "▁<": -3.1}
    return tokenizers.Tokenizer(models.Unigram(list(scores.items()), unk_id=0))


def add(tokenizer: tokenizers.Tokenizer, *contents: str, **flags: bool) -> None:
    flags = {"normalized": False, "special": True} | flags
    tokenizer.add_tokens([AddedToken(content, **flags) for content in contents])


def nfc() -> tokenizers.Tokenizer:
    tokenizer = byte_bpe()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    add(tokenizer, *CHAT)
    return tokenizer


def truncated() -> tokenizers.Tokenizer:
    tokenizer = nfc()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    return tokenizer


def overlapping() -> tokenizers.Tokenizer:
    tokenizer = byte_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    add(tokenizer, "<a", "<a>", "<a><b>", "a>", "<b>", "><", "aa", "aaa", "aab", " <", "[x]", "]-^")
    return tokenizer


def flags() -> tokenizers.Tokenizer:
    tokenizer = byte_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    add(tokenizer, "<s>", "</s>", "word", "\n", " |", "_>")
    add(tokenizer, "<mask>", lstrip=True)
    add(tokenizer, "<r>", rstrip=True)
    add(tokenizer, "tok", "<s>tok", single_word=True)
    add(tokenizer, "<n>", "s>", "b ", normalized=True)
    return tokenizer


def two_stages() -> tokenizers.Tokenizer:
    """As DeepSeek: what is not special is `normalized`, and nothing is normalized."""
    tokenizer = byte_bpe()
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    add(tokenizer, "<a>", "<a><b>", "|>", "aa")
    add(tokenizer, "x<a", "<think>", "</think>", "b<", "><", "a", "aab", "e", normalized=True)
    return tokenizer


def only_normalized() -> tokenizers.Tokenizer:
    tokenizer = byte_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    add(tokenizer, "<think>", "</think>", normalized=True)
    return tokenizer


def metaspace(scheme: str, model: Callable[[], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    tokenizer = model()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    add(tokenizer, "<s>", "</s>", "▁▁", "▁x")
    add(tokenizer, "<n>", normalized=True)
    return tokenizer


def metaspace_first_two_stages() -> tokenizers.Tokenizer:
    tokenizer = sentence_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)]
    )
    add(tokenizer, "<s>", "</s>")
    add(tokenizer, "<n>", "s><", normalized=True)
    return tokenizer


def legacy_llama() -> tokenizers.Tokenizer:
    tokenizer = sentence_bpe()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    add(tokenizer, "<s>", "</s>", "\n\n")
    add(tokenizer, "<n>", "▁a", "<s", normalized=True)
    return tokenizer


def bert() -> tokenizers.Tokenizer:
    words = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "a",
        "##b",
        "b",
        "##a",
        "e",
        "1",
        "<",
        ">",
        "mask",
        "##s",
        "s",
    ]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.BertNormalizer(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.UnicodeScripts()]
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    add(tokenizer, "[CLS]", "[SEP]", "[UNK]")
    add(tokenizer, "[MASK]", lstrip=True)
    add(tokenizer, "Day", normalized=True)
    return tokenizer


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "nfc": nfc,
    "truncated": truncated,
    "overlapping": overlapping,
    "flags": flags,
    "two stages": two_stages,
    "only normalized": only_normalized,
    "metaspace always": functools.partial(metaspace, "always", unigram),
    "metaspace first": functools.partial(metaspace, "first", unigram),
    "metaspace never": functools.partial(metaspace, "never", sentence_bpe),
    "metaspace first, two stages": metaspace_first_two_stages,
    "legacy llama": legacy_llama,
    "bert": bert,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Waking a pool of threads costs more than these short texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield


@functools.lru_cache
def load(kind: str) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """Load a kind from a file, with the reference: `tokenizers` alone, on the same file."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/tokenizer.json"
        KINDS[kind]().save(path)
        reference = tokenizers.Tokenizer.from_file(path)
        reference.no_truncation()
        reference.no_padding()
        return load_tokenizer(folder), reference


def joined(tokenizer: Tokenizer, text: str) -> list[int]:
    pieces = tokenizer.cut(text)
    assert "".join(pieces) == text
    assert all(pieces)
    return [token for ids in tokenizer.encode_batch(pieces) for token in ids.tolist()]


def whole(reference: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(reference.encode(text, add_special_tokens=False).ids)


def fragments(added_tokens: tuple[str, ...]) -> list[str]:
    """What texts are made of: added tokens, what is nearly one, and what changes beside one."""
    nearly = {part for token in added_tokens for part in (token[:-1], token[1:], token[1:-1])}
    return [*added_tokens, *sorted(nearly - {""}), *FILLER]


def texts(kind: str) -> st.SearchStrategy[str]:
    added = load(kind)[0].added_tokens
    token, fragment = st.sampled_from(added), st.sampled_from(fragments(added))
    return st.lists(token | fragment | st.text(max_size=3), max_size=12).map("".join)


# --- The law ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.data())
def test_pieces_encode_as_the_whole(kind: str, data: st.DataObject) -> None:
    tokenizer, reference = load(kind)
    text = data.draw(texts(kind))
    assert joined(tokenizer, text) == whole(reference, text)


CUTS = {
    "nfc": ("e<think>\u0301<|im_", ["e", "<think>", "\u0301", "<|im_"]),
    "truncated": ("a<think>b", ["a", "<think>", "b"]),
    "overlapping": ("<a<a><b>aaaa", ["<a", "<a><b>", "aaa", "a"]),
    "flags": ("<s> <mask> </s>a <r> word_>\n<n>", ["<s>", " <mask> ", "</s>", "a <r> word_>\n<n>"]),
    "two stages": ("x<a><think>b<", ["x", "<a>", "<think>", "b<"]),
    "only normalized": ("a<think>b", ["a", "<think>", "b"]),
    "metaspace always": ("a<s>b<n>", ["a", "<s>", "b<n>"]),
    "metaspace first": ("<s>a<s>b<n>", ["<s>a", "<s>b<n>"]),
    "metaspace never": ("a<s>b<n>", ["a", "<s>", "b<n>"]),
    "metaspace first, two stages": ("a<s>b<n>", ["a", "<s>b", "<n>"]),
    "legacy llama": ("<s>a<n>\n\nb", ["<s>", "a<n>", "\n\n", "b"]),
    "bert": ("a [MASK] b[SEP]Day", ["a [MASK] b", "[SEP]", "Day"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_really_cut(kind: str) -> None:
    tokenizer, _ = load(kind)
    text, pieces = CUTS[kind]
    assert tokenizer.cuts, tokenizer.cut_reason
    assert tokenizer.cut(text) == pieces
    assert tokenizer.cut("") == []


# --- Planted faults --------------------------------------------------------------------


def with_rule(kind: str, **changes: object) -> Tokenizer:
    tokenizer, _ = load(kind)
    return dataclasses.replace(tokenizer, rule=dataclasses.replace(tokenizer.rule, **changes))


def contents(kind: str, keep: Callable[[AddedToken], bool] = lambda token: True) -> list[str]:
    added = load(kind)[0].reference.get_added_tokens_decoder().values()
    return [token.content for token in added if keep(token)]


def cut_at_flagged(flag: str) -> Tokenizer:
    safe = contents("flags", lambda token: getattr(token, flag))
    return with_rule("flags", opaque=load("flags")[0].rule.opaque - set(safe))


def cut_beside_flagged(token: str) -> Tokenizer:
    return with_rule("flags", opaque=load("flags")[0].rule.opaque - {token})


def shortest_first() -> Tokenizer:
    tokens = sorted(contents("overlapping"), key=len)
    return with_rule("overlapping", stages=(re.compile(f"({'|'.join(map(re.escape, tokens))})"),))


def in_one_stage() -> Tokenizer:
    return with_rule("two stages", stages=(longest_first(contents("two stages")),))


def in_wrong_order() -> Tokenizer:
    return with_rule("two stages", stages=load("two stages")[0].rule.stages[::-1])


def cut_at_normalized(kind: str) -> Tokenizer:
    return with_rule(kind, stages=(longest_first(contents(kind)),))


def second_stage_beside_flags() -> Tokenizer:
    normalized = contents("flags", lambda token: token.normalized)
    stages = (*load("flags")[0].rule.stages, longest_first(normalized))
    return with_rule("flags", stages=stages)


def left_truncated() -> Tokenizer:
    return dataclasses.replace(load("truncated")[0], reference=truncated())


FAULTS: dict[str, tuple[str, Callable[[], Tokenizer]]] = {
    "cut at lstrip": ("flags", lambda: cut_at_flagged("lstrip")),
    "cut at rstrip": ("flags", lambda: cut_at_flagged("rstrip")),
    "cut at single_word": ("flags", lambda: cut_at_flagged("single_word")),
    "cut at a word beside single_word": ("flags", lambda: cut_beside_flagged("word")),
    "cut at _ beside single_word": ("flags", lambda: cut_beside_flagged("_>")),
    "shortest first": ("overlapping", shortest_first),
    "both stages in one": ("two stages", in_one_stage),
    "second stage first": ("two stages", in_wrong_order),
    "prepended to every piece": (
        "metaspace first",
        lambda: with_rule("metaspace first", leads=False),
    ),
    "cut at normalized, prepended": ("legacy llama", lambda: cut_at_normalized("legacy llama")),
    "second stage beside flags": ("flags", second_stage_beside_flags),
    "truncation left on": ("truncated", left_truncated),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault: str) -> None:
    kind, plant = FAULTS[fault]
    faulty, reference = plant(), load(kind)[1]

    def differs(text: str) -> bool:
        return joined(faulty, text) != whole(reference, text)

    options = settings(
        max_examples=5000,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    assert find(texts(kind), differs, settings=options)


def test_load_checks_its_own_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metaspace("first", unigram).save(str(tmp_path / "tokenizer.json"))
    argued = cut_rule._argued_rule
    monkeypatch.setattr(
        cut_rule, "_argued_rule", lambda *given: dataclasses.replace(argued(*given), leads=False)
    )
    tokenizer = load_tokenizer(tmp_path)
    assert not tokenizer.cuts
    assert tokenizer.cut_reason.startswith("whole: cut and whole differ on")
    assert tokenizer.cut("<s>a<s>b") == ["<s>a<s>b"]


# --- Cuts after lines --------------------------------------------------------------------

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
QWEN2 += r"\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
    "\r\n"  # the file has the characters themselves
    r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {
    "qwen2": [QWEN2],
    "qwen3.5": [
        QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"^\s\p{L}", r"^\s\p{L}\p{M}")
    ],
    "llama3": [QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")],
    "o200k": [O200K],
    "deepseek": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK],
}
LINE_MERGES = [
    "ĊĊ",
    "Ċa",
    "Ċ/",
    "Ċ!",
    "Ċ1",
    "!Ċ",
    "/Ċ",
    "ĠĊ",
    "ĊĠ",
    "ĠĠ",
    "aa",
    "a1",
    "čĊ",
    "Ċč",
    "/a",
]


def split_by(patterns: Sequence[str]) -> tokenizers.Tokenizer:
    tokenizer = byte_bpe(LINE_MERGES)
    tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(tokenizers.Regex(each), "isolated") for each in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    add(tokenizer, "<s>", "<think>")
    return tokenizer


@functools.lru_cache
def load_split_by(name: str) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        split_by(PATTERNS[name]).save(f"{folder}/tokenizer.json")
        return load_tokenizer(folder)


lines = st.lists(
    st.sampled_from(
        ["\n", "\n", "\n\n", " ", "  ", "a", "A", "it's", "1", "12345", "/", "!", "?/", "#"]
    )
    | st.sampled_from(
        ["\r", "\t", "\u3000", "\x85", "汉", "é", "\u0301", "'s", "<s>", "<think>", "user"]
    )
    | st.characters(codec="utf-8"),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=150)
@given(text=lines)
def test_a_line_ends_a_word(name: str, text: str) -> None:
    tokenizer = load_split_by(name)
    assert tokenizer.rule.lines
    assert joined(tokenizer, text) == whole(tokenizer.reference, text)
    assert tokenizer.cut(f"user\n{text}<s>\n\nHello")[-2:] == ["\n\n", "Hello"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("o200k", r"[^\n]{0,15}\n+(?=[!-~])"),  # a slash goes with the break before it
        ("qwen2", r"[^\n]{0,15}\n+(?=\s)"),
        ("qwen2", r"[^\n]{0,15}\n(?=\n)"),
        ("qwen2", r"[^\n]{0,15}(?=\n)"),
        ("qwen2", r"\w+(?=\w)"),
    ],
)
def test_another_place_to_cut_is_found(
    name: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_split_by(name)
    monkeypatch.setattr(cut, "_LINE", re.compile(fault))
    options = settings(max_examples=5000, database=None, derandomize=True, phases=[Phase.generate])
    assert find(
        lines,
        lambda text: joined(tokenizer, text) != whole(tokenizer.reference, text),
        settings=options,
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unknown alternative", lambda t: split_by([r"\n\w+|" + QWEN2])),
        ("other order", lambda t: split_by([QWEN2.replace(r"|\s+(?!\S)|\s+", r"|\s+|\s+(?!\S)")])),
        ("GPT-2", lambda t: split_by([r" ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"])),
        (
            "prefix space",
            lambda t: setattr(
                t,
                "pre_tokenizer",
                pre_tokenizers.Sequence(
                    [
                        pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated"),
                        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
                    ]
                ),
            ),
        ),
        ("own pattern", lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(False))),
        (
            "inverted",
            lambda t: setattr(
                t,
                "pre_tokenizer",
                pre_tokenizers.Sequence(
                    [
                        pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated", invert=True),
                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                    ]
                ),
            ),
        ),
        (
            "removed",
            lambda t: setattr(
                t,
                "pre_tokenizer",
                pre_tokenizers.Sequence(
                    [
                        pre_tokenizers.Split(tokenizers.Regex(QWEN2), "merged_with_next"),
                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                    ]
                ),
            ),
        ),
        ("normalizer", lambda t: setattr(t, "normalizer", normalizers.Replace("\nA", "A"))),
        ("added token with a flag", lambda t: add(t, "<x>", rstrip=True)),
        ("added token in a line", lambda t: add(t, "\nA", normalized=True)),
    ],
)
def test_lines_are_left_whole(
    tmp_path: Path, name: str, change: Callable[[tokenizers.Tokenizer], object]
) -> None:
    tokenizer = split_by([QWEN2])
    tokenizer = change(tokenizer) or tokenizer
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert not load_tokenizer(tmp_path).rule.lines, name


# --- What forbids cutting --------------------------------------------------------------


def saved(tmp_path: Path, tokenizer: tokenizers.Tokenizer, **changes: object) -> Path:
    """Save a tokenizer with entries of its file changed; returns the file."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(tokenizer.to_str()) | changes), encoding="utf-8")
    return path


def word_level() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))


def test_no_added_tokens(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(saved(tmp_path, byte_bpe()))
    assert tokenizer.cut_reason == "whole: no added token is safe to cut at"
    assert tokenizer.cut("ab") == ["ab"]
    assert tokenizer.cut("") == []


def test_added_token_listed_twice(tmp_path: Path) -> None:
    added = json.loads(nfc().to_str())["added_tokens"]
    twice = [*added, added[0] | {"lstrip": True}]
    tokenizer = load_tokenizer(saved(tmp_path, nfc(), added_tokens=twice))
    assert "listed twice" in tokenizer.cut_reason
    assert not tokenizer.cuts


@pytest.mark.parametrize("single", ["$A $A", "<s> $A $A"])
def test_post_processor_that_repeats_the_text(tmp_path: Path, single: str) -> None:
    tokenizer = nfc()
    add(tokenizer, "<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair="$A $B", special_tokens=[("<s>", 1)]
    )
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert "does more than add tokens" in loaded.cut_reason
    assert joined(loaded, "a<s>b") == whole(tokenizer, "a<s>b")


def test_component_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_rule, "_LOCAL_NORMALIZERS", "NFD NFKC")
    assert load_tokenizer(saved(tmp_path, nfc())).cut_reason == (
        "whole: normalizer NFC is not known to be local"
    )


def test_flags_that_make_the_library_panic(tmp_path: Path) -> None:
    """A token of whitespace that another has stripped already: "bad split" in Rust."""
    tokenizer = byte_bpe()
    add(tokenizer, "<s>", "<r>", rstrip=True)
    add(tokenizer, " ", lstrip=True)
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert not loaded.cuts
    with pytest.raises(TokenizerError, match=r"cannot encode.*bad split"):
        loaded.encode_batch(["<r>   b"])


@pytest.mark.parametrize(("limit", "count"), [(1000, 50), (10**6, 600)])
def test_added_tokens_beyond_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, count: int
) -> None:
    """Too many characters, and tokens that begin one another too deeply for a pattern."""
    monkeypatch.setattr(cut_rule, "_MAX_ADDED_CHARS", limit)
    tokenizer = byte_bpe()
    add(tokenizer, *("a" * length for length in range(1, count)))
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert loaded.cut_reason.startswith("whole: its added tokens")
    assert loaded.cut("aab") == ["aab"]


def test_tokenizer_that_fails_on_plain_text(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0}))
    add(tokenizer, "<s>")
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert loaded.cut_reason.startswith("whole: the check of cutting failed: WordLevel error")
    with pytest.raises(TokenizerError, match=r"cannot encode.*WordLevel error"):
        loaded.encode_batch(["b"])


# --- Encoding and decoding -------------------------------------------------------------


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


# --- Loading ---------------------------------------------------------------------------


def test_load_from_file_or_directory(tmp_path: Path) -> None:
    path = saved(tmp_path, nfc())
    for source in (tmp_path, path, str(tmp_path), str(path)):
        tokenizer = load_tokenizer(source)
        assert tokenizer.directory == tmp_path
        assert tokenizer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert tokenizer.source == str(source)
        assert tokenizer.config == {}
        assert tokenizer.special_tokens == {}
        assert set(tokenizer.added_tokens) == set(CHAT)


def test_dropout_of_nought_is_no_dropout(tmp_path: Path) -> None:
    assert load_tokenizer(saved(tmp_path, byte_bpe(dropout=0.0)))


def panicking() -> bytes:
    """A merge shorter than the prefix that it would lose: an index out of range in Rust."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}
    model["continuing_subword_prefix"] = "#####"
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model}).encode()


def nested(levels: int) -> bytes:
    file = json.loads(nfc().to_str()) | {"normalizer": "HERE"}
    normalizer = '{"type":"Sequence","normalizers":[' * levels + "]}" * levels
    return json.dumps(file).replace('"HERE"', normalizer).encode()


BAD_FILES = {
    "empty": (b"", "is not JSON .*, expected a tokenizer.json. Fix: "),
    "cut short": (b'{"model": {', "is not JSON "),
    "not UTF-8": (b'{"model": {"\xff": 1}}', "is not JSON "),
    "an array": (b"[]", "is no tokenizer.json .*Fix: Check the path"),
    "no model": (b'{"version": "1.0"}', "is no tokenizer.json .*missing required field `model`"),
    "another model": (
        b'{"model": {"type": "X"}}',
        "`tokenizers` refuses the file .*, expected one that it can load",
    ),
    "no content": (b'{"model": {}, "added_tokens": [{"id": 1}]}', r"added_tokens\[0\]|\.\.\.\]"),
    "deep array": (b"[" * 200_000, "is no tokenizer.json|is not JSON "),
    "deep object": (b'{"model": ' + b'{"a": ' * 200_000, "is not JSON "),
    "deep normalizer": (nested(200), "`tokenizers` refuses .*recursion limit"),
    "deeper normalizer": (nested(50_000), "is not JSON .*recursion"),
    "panic": (panicking(), "`tokenizers` refuses .*PanicException"),
    "LFS pointer": (b"version https://git-lfs.example/spec/v1\noid sha256:0\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path: Path, name: str) -> None:
    data, message = BAD_FILES[name]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as raised:
        load_tokenizer(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert ", expected " in str(raised.value)
    assert ". Fix: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_interrupt_stays_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    fake = types.SimpleNamespace(from_buffer=interrupted)
    monkeypatch.setattr(module.tokenizers, "Tokenizer", fake)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(_write(tmp_path / "tokenizer.json", b'{"model": {}}'))


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_dropout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"model.dropout is 0.1, .* Fix: Set it to null"):
        load_tokenizer(saved(tmp_path, byte_bpe(dropout=0.1)))


def test_file_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, byte_bpe())
    monkeypatch.setattr(files, "_MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(TokenizerError, match=r"has \d+ bytes, expected at most 100\. Fix: "):
        load_tokenizer(path)


def test_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match=r"is no regular file, expected one. Fix: "):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(TokenizerError, match=r"cannot be read \(Permission denied\), expected"):
        load_tokenizer(saved(tmp_path, byte_bpe()))


@pytest.mark.parametrize("source", [Path("no/such"), "./no/such", "/no/such", "no.json", "a/b/c"])
def test_path_that_does_not_exist(source: str | Path) -> None:
    with pytest.raises(TokenizerError, match=r"does not exist, expected a tokenizer.json, a dir"):
        load_tokenizer(source)


def test_name_too_long_for_a_path() -> None:
    with pytest.raises(TokenizerError, match=r"cannot be read|does not exist"):
        load_tokenizer("./" + "a" * 5000)


def test_directory_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"holds no tokenizer.json, .*save_pretrained"):
        load_tokenizer(tmp_path)


def test_revision_of_a_path(tmp_path: Path) -> None:
    saved(tmp_path, byte_bpe())
    with pytest.raises(UsageError, match="is on disk and has no revision 'main'"):
        load_tokenizer(tmp_path, revision="main")


# --- The hub ---------------------------------------------------------------------------


def hub_client(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str] | None) -> None:
    client = download and types.SimpleNamespace(snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)


def test_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns))
        saved(tmp_path, nfc())
        return str(tmp_path)

    hub_client(monkeypatch, download)
    tokenizer = load_tokenizer("org/model-1.5", revision="v2")
    assert tokenizer.directory == tmp_path
    assert tokenizer.source == "org/model-1.5"
    ((repo, revision, patterns),) = asked
    assert (repo, revision) == ("org/model-1.5", "v2")
    assert "tokenizer.json" in patterns
    assert not any("safetensors" in pattern or pattern == "*" for pattern in patterns)


def test_hub_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_client(monkeypatch, None)
    with pytest.raises(TokenizerError, match=r"org/model: is not on disk and .*reasonpack\[hub\]"):
        load_tokenizer("org/model")


@pytest.mark.parametrize(
    "error", [ConnectionError("offline\nmore"), ValueError(""), OSError(5, "x")]
)
def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    hub_client(monkeypatch, download)
    with pytest.raises(TokenizerError, match=r"could not fetch it .*Fix: Check the name") as raised:
        load_tokenizer("org/model")
    assert "\n" not in str(raised.value)


def test_hub_repository_without_a_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_client(monkeypatch, lambda *_, **__: str(tmp_path))
    with pytest.raises(TokenizerError, match=r"org/model: holds no tokenizer.json"):
        load_tokenizer("org/model")


# --- The configuration -----------------------------------------------------------------


def configured(
    tmp_path: Path, config: dict[str, object] | None, token_map: dict[str, object] | None = None
) -> Tokenizer:
    saved(tmp_path, byte_bpe())
    for name, value in (("tokenizer_config", config), ("special_tokens_map", token_map)):
        if value is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return load_tokenizer(tmp_path)


def test_special_tokens(tmp_path: Path) -> None:
    config = {
        "bos_token": None,
        "eos_token": "<e>",
        "pad_token": {"__type": "AddedToken", "content": "<p>", "lstrip": False},
        "add_bos_token": True,
        "extra_special_tokens": {"image_token": "<i>"},
        "additional_special_tokens": ["<x>", {"content": "<y>"}, None],
    }
    tokenizer = configured(tmp_path, config)
    assert tokenizer.config == config
    assert tokenizer.special_tokens == {
        "eos_token": "<e>",
        "pad_token": "<p>",
        "image_token": "<i>",
        "additional_special_tokens": ["<x>", "<y>"],
    }


@pytest.mark.parametrize(
    ("config", "token_map", "expected"),
    [
        ({"eos_token": "c"}, {"eos_token": "m"}, {"eos_token": "m"}),
        ({"eos_token": "c", "added_tokens_decoder": {}}, {"eos_token": "m"}, {"eos_token": "c"}),
        ({"eos_token": None, "added_tokens_decoder": {}}, {"eos_token": "m"}, {}),
        ({"bos_token": "c"}, {"eos_token": {"content": "m"}}, {"bos_token": "c", "eos_token": "m"}),
        ({"eos_token": "c"}, {"eos_token": None}, {}),
        (None, {"eos_token": "m"}, {"eos_token": "m"}),
        ({"extra_special_tokens": ["x"]}, None, {"additional_special_tokens": ["x"]}),
    ],
)
def test_config_and_map_disagree(
    tmp_path: Path, config: dict[str, object], token_map: dict[str, object], expected: object
) -> None:
    assert configured(tmp_path, config, token_map).special_tokens == expected


@pytest.mark.parametrize("value", [7, True, {"content": 7}, ["<x>", 7]])
def test_special_token_of_the_wrong_type(tmp_path: Path, value: object) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer_config.json: eos_token.*, expected a str"):
        configured(tmp_path, {"eos_token": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (131072, 131072),
        (10**12 - 1, 10**12 - 1),
        (10**12, None),
        (1000000000000000019884624838656, None),
        (1e30, None),
        (4096.0, None),
        ("4096", None),
        (True, None),
        (0, None),
        (-1, None),
        (None, None),
    ],
)
def test_model_max_length(tmp_path: Path, value: object, expected: int | None) -> None:
    assert configured(tmp_path, {"model_max_length": value}).model_max_length == expected


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"[" * 200_000, b"\xef\xbb\xbf{}"])
def test_bad_config(tmp_path: Path, data: bytes) -> None:
    saved(tmp_path, byte_bpe())
    (tmp_path / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(TokenizerError, match=r"tokenizer_config.json: is .*, expected a JSON obj"):
        load_tokenizer(tmp_path)


# --- The pattern -----------------------------------------------------------------------


@settings(max_examples=300)
@given(
    tokens=st.lists(st.text("ab[]^-\\|.", min_size=1, max_size=4), min_size=1, max_size=8),
    text=st.text("ab[]^-\\|.", max_size=20),
)
def test_pattern_is_leftmost_longest(tokens: list[str], text: str) -> None:
    expected, at = [""], 0
    while at < len(text):
        starting = [token for token in tokens if text.startswith(token, at)]
        if starting:
            expected += [max(starting, key=len), ""]
            at += len(expected[-2])
        else:
            expected[-1] += text[at]
            at += 1
    assert longest_first(tokens).split(text) == expected


def test_rule_of_no_stage_cuts_nothing() -> None:
    rule = CutRule(stages=(), opaque=frozenset(), leads=False, reason="")
    assert module.cut_text("a<s>", rule) == ["a<s>"]
