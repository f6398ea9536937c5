"""What forbids a cut is found, and each rule matters: faults planted in it are seen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from kinds import (
    add,
    byte_bpe,
    contents,
    joined,
    load,
    nfc,
    saved,
    texts,
    truncated,
    whole,
)
from tokenizers import models, processors

from reasonpack.errors import TokenizerError
from reasonpack.tokens import cut_rule
from reasonpack.tokens.cut_rule import longest_first
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer
from tests.changed import replace

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]

# --- Planted faults --------------------------------------------------------------------


def with_rule(kind: str, **changes: object) -> Tokenizer:
    tokenizer, _ = load(kind)
    rule = replace(tokenizer.rule, **changes)
    return replace(tokenizer, load=lambda: (tokenizer.reference, rule))


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
    tokenizer = load("truncated")[0]
    return replace(tokenizer, load=lambda: (truncated(), tokenizer.rule))


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


def test_no_added_tokens(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(saved(tmp_path, byte_bpe()))
    assert tokenizer.rule.reason == "whole: no added token is safe to cut at"
    assert tokenizer.cut("ab") == ["ab"]
    assert tokenizer.cut("") == []


def test_added_token_listed_twice(tmp_path: Path) -> None:
    added = json.loads(nfc().to_str())["added_tokens"]
    twice = [*added, added[0] | {"lstrip": True}]
    tokenizer = load_tokenizer(saved(tmp_path, nfc(), added_tokens=twice))
    assert "listed twice" in tokenizer.rule.reason
    assert not tokenizer.rule.stages


@pytest.mark.parametrize("single", ["$A $A", "<s> $A $A"])
def test_post_processor_that_repeats_the_text(tmp_path: Path, single: str) -> None:
    tokenizer = nfc()
    add(tokenizer, "<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair="$A $B", special_tokens=[("<s>", 1)]
    )
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert "does more than add tokens" in loaded.rule.reason
    assert joined(loaded, "a<s>b") == whole(tokenizer, "a<s>b")


def test_component_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_rule, "_LOCAL_NORMALIZERS", "NFD NFKC")
    assert load_tokenizer(saved(tmp_path, nfc())).rule.reason == (
        "whole: normalizer NFC is not known to be local"
    )


def test_flags_that_make_the_library_panic(tmp_path: Path) -> None:
    """A token of whitespace that another has stripped already: "bad split" in Rust."""
    tokenizer = byte_bpe()
    add(tokenizer, "<s>", "<r>", rstrip=True)
    add(tokenizer, " ", lstrip=True)
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert not loaded.rule.stages
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
    assert loaded.rule.reason.startswith("whole: its added tokens")
    assert loaded.cut("aab") == ["aab"]


def test_tokenizer_that_fails_on_plain_text(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0}))
    add(tokenizer, "<s>")
    loaded = load_tokenizer(saved(tmp_path, tokenizer))
    assert loaded.rule.reason.startswith("whole: the check of cutting failed: WordLevel error")
    with pytest.raises(TokenizerError, match=r"cannot encode.*WordLevel error"):
        loaded.encode_batch(["b"])


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
