"""The ids of the pieces, joined, are the ids of the whole text: for every kind of tokenizer.

The slow reference is `tokenizers` itself on the whole text. Each kind has one property of real
tokenizers by which a careless cut changes ids.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, joined, load, texts, whole

from reasonpack.tokens import tokenizer as module
from reasonpack.tokens.cut import CutRule

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert tokenizer.rule.stages, tokenizer.rule.reason
    assert tokenizer.cut(text) == pieces
    assert tokenizer.cut("") == []


def test_rule_of_no_stage_cuts_nothing() -> None:
    rule = CutRule(stages=(), opaque=frozenset(), leads=False, reason="")
    assert module.cut_text("a<s>", rule) == ["a<s>"]
