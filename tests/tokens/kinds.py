"""Tokenizers of every kind, made small, and texts that try where they may be cut."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import tokenizers
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

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


def contents(kind: str, keep: Callable[[AddedToken], bool] = lambda token: True) -> list[str]:
    added = load(kind)[0].reference.get_added_tokens_decoder().values()
    return [token.content for token in added if keep(token)]


def saved(tmp_path: Path, tokenizer: tokenizers.Tokenizer, **changes: object) -> Path:
    """Save a tokenizer with entries of its file changed; returns the file."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(tokenizer.to_str()) | changes), encoding="utf-8")
    return path
