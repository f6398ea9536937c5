"""Ids are the reference's whatever the fast backend says, and what it says wrong is told.

The fast backends here are made of the reference, each with one fault.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.datasets.options import Options
from reasonpack.errors import TokenizerError, UsageError
from reasonpack.run.engine import Run, Watch
from reasonpack.run.pack import pack_files
from reasonpack.tokens import fast_backends as backends
from reasonpack.tokens.fast_backends import Choice, Encoder
from reasonpack.tokens.hard_texts import hard_texts
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

FIXTURE = Path(__file__).parents[2] / "fixtures" / "tokenizer"
TEXTS = [f"text number {number}, and\nsome more" for number in range(300)] + [""]
Flat = tuple[np.ndarray, np.ndarray]
Spoil = Callable[[Sequence[str], list[list[int]]], object]


def flat(ids: Sequence[Sequence[int]]) -> Flat:
    offsets = np.cumsum([0, *map(len, ids)])
    return np.array([token for each in ids for token in each], np.uint32), offsets


def install(monkeypatch: pytest.MonkeyPatch, **spoils: Spoil) -> None:
    """Put backends in place that let `spoil` change what the reference says."""

    def loader(spoil: Spoil) -> Callable[[Tokenizer], backends.EncodeFlat]:
        def load(tokenizer: Tokenizer) -> backends.EncodeFlat:
            def encode_flat(pieces: Sequence[str]) -> Flat:
                ids = [array.tolist() for array in tokenizer.encode_batch(pieces)]
                found = spoil(pieces, ids)
                return found if isinstance(found, tuple) else flat(ids)

            return encode_flat

        return load

    monkeypatch.setattr(backends, "_LOADERS", {k: loader(v) for k, v in spoils.items()})
    monkeypatch.setattr(backends, "installed", lambda: list(spoils))
    monkeypatch.setattr(backends, "version", lambda name: "1")


def lie_on(wrong: str) -> Spoil:
    def spoil(pieces: Sequence[str], ids: list[list[int]]) -> None:
        for piece, each in zip(pieces, ids, strict=True):
            if piece == wrong and each:
                each[-1] ^= 1

    return spoil


def honest(pieces: Sequence[str], ids: list[list[int]]) -> None:
    pass


def same(found: Sequence[np.ndarray], tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    expected = tokenizer.encode_batch(texts)
    assert {array.dtype for array in found} <= {np.dtype(np.int32)}
    return [a.tolist() for a in found] == [a.tolist() for a in expected]


def test_an_honest_backend_is_used(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gigatoken=honest)
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert (encoder.used, encoder.fault) == ("gigatoken 1", None)


def test_a_difference_on_one_hard_text_is_found_at_once(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = hard_texts(tokenizer.added_tokens)[77]
    assert wrong not in TEXTS
    install(monkeypatch, gigatoken=lie_on(wrong))
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"
    assert encoder.fault == (
        f"gigatoken 1 differs from tokenizers on a hard text, {wrong!r}; tokenizers 1 is used"
    )


def test_a_difference_on_a_checked_piece_redoes_the_unit(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=lie_on(TEXTS[123]))
    encoder = Encoder(tokenizer, ["gigatoken"], check_rate=1)
    assert same(encoder.encode(TEXTS[:100]), tokenizer, TEXTS[:100])
    assert encoder.used == "gigatoken 1"
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"
    assert "differs from tokenizers on a piece of this unit" in str(encoder.fault)
    assert same(encoder.encode(TEXTS[:100]), tokenizer, TEXTS[:100])
    assert encoder.used == "tokenizers 1"  # never again


def test_a_unit_is_checked_though_the_rate_is_tiny(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(pieces: Sequence[str], ids: list[list[int]]) -> None:
        if "text number" in pieces[0]:
            for each in ids:
                each.append(0)

    install(monkeypatch, gigatoken=always)
    encoder = Encoder(tokenizer, ["gigatoken"], check_rate=1e-9)
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"


def test_the_next_backend_is_tried(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gigatoken=lie_on(hard_texts(tokenizer.added_tokens)[9]), fastokens=honest)
    encoder = Encoder(tokenizer, ["gigatoken", "fastokens"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "fastokens 1"
    assert str(encoder.fault).endswith("; fastokens 1 is used")


class Panic(BaseException):
    """What Rust code raises where it gives up; no Exception."""


def crash(pieces: Sequence[str], ids: list[list[int]]) -> None:
    raise Panic("index out of\nbounds")


def crash_later(pieces: Sequence[str], ids: list[list[int]]) -> None:
    if TEXTS[0] in pieces:
        raise Panic("later")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (crash, "Panic: index out of bounds"),
        (crash_later, "failed on a piece of this unit: Panic: later"),
        (lambda pieces, ids: ids.pop(), "places for"),
        (lambda pieces, ids: ids.insert(0, []), "places for"),
        (lambda pieces, ids: (np.zeros(1, np.uint32), np.zeros(len(ids) + 1)), "places for"),
        (lambda pieces, ids: ids[3].append(10**9), "of a vocabulary"),
        (lambda pieces, ids: ids[3].append(2**32 - 1), "of a vocabulary"),
        (
            lambda pieces, ids: (flat(ids)[0], np.array([0, 5, *[2] * (len(ids) - 2), 0])),
            "failed on",
        ),
    ],
)
def test_nonsense_is_survived(
    spoil: Spoil, what: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=spoil)
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "tokenizers 1"
    assert what in str(encoder.fault)


def test_a_loader_that_fails_is_survived(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=honest)

    def fail(tokenizer: Tokenizer) -> backends.EncodeFlat:
        raise ImportError("no awkward")

    monkeypatch.setattr(backends, "_LOADERS", {"gigatoken": fail})
    encoder = Encoder(tokenizer, ["gigatoken"])
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert "gigatoken 1 cannot be used: ImportError: no awkward" in str(encoder.fault)


def test_a_backend_that_was_prepared_is_loaded_once(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=honest, fastokens=honest)
    load, go = backends._LOADERS["gigatoken"], threading.Event()
    threads: list[int] = []

    def slowly(tokenizer: Tokenizer) -> backends.EncodeFlat:
        threads.append(threading.get_ident())
        assert go.wait(10)
        return load(tokenizer)

    monkeypatch.setattr(backends, "_LOADERS", dict.fromkeys(("gigatoken", "fastokens"), slowly))
    encoder = Encoder(tokenizer, ["gigatoken"])
    encoder.prepare()
    encoder.prepare()
    go.set()
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    encoder.prepare()
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert (encoder.used, encoder.fault) == ("gigatoken 1", None)
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(
    "error", [ImportError("no awkward"), UsageError("stop", "now", "more", "none")]
)
def test_what_goes_wrong_while_it_is_prepared_is_said(
    error: Exception, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=honest, fastokens=honest)

    def fail(tokenizer: Tokenizer) -> backends.EncodeFlat:
        raise error

    monkeypatch.setitem(backends._LOADERS, "gigatoken", fail)
    encoder = Encoder(tokenizer, ["gigatoken", "fastokens"])
    encoder.prepare()
    if isinstance(error, UsageError):
        with pytest.raises(UsageError, match="stop"):
            encoder.encode(TEXTS)
        return
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert encoder.used == "fastokens 1"
    assert "gigatoken 1 cannot be used: ImportError: no awkward" in str(encoder.fault)


@pytest.mark.parametrize(
    ("characters", "used"),
    [
        (1, "tokenizers"),
        (backends.WORTH_IT, "gigatoken"),
        (backends.MANY - 1, "gigatoken"),
        (backends.MANY, "fastokens"),
    ],
)
def test_the_size_of_an_input_decides_which_is_worth_its_load(
    characters: int, used: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=honest, fastokens=honest)
    encoder = Encoder(tokenizer, Choice("auto").backends(characters))
    encoder.encode(TEXTS)
    assert encoder.used == f"{used} 1"


def test_an_interrupt_is_no_fault(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(pieces: Sequence[str], ids: list[list[int]]) -> None:
        raise KeyboardInterrupt

    install(monkeypatch, gigatoken=interrupt)
    with pytest.raises(KeyboardInterrupt):
        Encoder(tokenizer, ["gigatoken"]).encode(TEXTS)


def test_small_runs_load_nothing(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gigatoken=crash)
    encoder = Encoder(tokenizer, Choice("auto").backends(backends.WORTH_IT - 1))
    assert same(encoder.encode(TEXTS), tokenizer, TEXTS)
    assert (encoder.used, encoder.fault) == ("tokenizers 1", None)


def test_what_the_reference_refuses_is_refused(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=honest)
    with pytest.raises(TokenizerError, match="surrogate"):
        Encoder(tokenizer, ["gigatoken"]).encode(["\ud800"])


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_the_check_cannot_be_switched_off(rate: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        Choice("auto", rate)


def test_a_backend_that_is_missing_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", list)
    with pytest.raises(UsageError, match="not installed"):
        Choice("fastokens")
    assert Choice("auto").name == "auto"


@pytest.mark.long
@settings(max_examples=50)
@given(st.lists(st.text(max_size=20), max_size=40), st.integers(1, 30))
def test_slices_change_nothing(texts: list[str], characters: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        install(patch, gigatoken=honest)
        patch.setattr(backends, "SLICE_CHARACTERS", characters)
        patch.setattr(backends, "hard_texts", lambda added_tokens: ["hard"])
        assert [text for part in backends._slices(texts) for text in part] == texts
        loaded = load_tokenizer(FIXTURE)
        assert same(Encoder(loaded, ["gigatoken"]).encode(texts), loaded, texts)


@pytest.mark.parametrize("spoil", [honest, lie_on("Hi"), crash])
def test_a_dataset_does_not_depend_on_the_backend(
    spoil: Spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, gigatoken=spoil)
    chats = str(FIXTURE.parent / "chats.jsonl")
    options, notes = Options(tokenizer=str(FIXTURE)), []
    shards = {}
    for name in ("tokenizers", "gigatoken"):
        watch = Watch(on_note=notes.append)
        run = Run(watch=watch, backend=Choice(name))  # type: ignore[arg-type]
        manifest = pack_files([chats], tmp_path / name, options, run=run)
        shards[name] = (manifest.shards, manifest.plan_sha256)
        receipt = json.loads((tmp_path / name / "receipts" / "00000.json").read_bytes())
        failed = name == "gigatoken" and spoil is crash
        assert receipt["backend"] == ("tokenizers 1" if failed else f"{name} 1")
        assert (receipt["backend_fault"] is not None) is failed
    assert shards["tokenizers"] == shards["gigatoken"]
    assert len(notes) == (spoil is crash)


def test_what_a_process_did_before_decides_no_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts name the backend, and a run that is resumed elsewhere writes the same ones."""
    install(monkeypatch, gigatoken=honest)
    chats = str(FIXTURE.parent / "chats.jsonl")
    for worth_it, used in ((0, "gigatoken 1"), (backends.WORTH_IT, "tokenizers 1")):
        monkeypatch.setattr(backends, "WORTH_IT", worth_it)
        pack_files([chats], tmp_path / used, Options(tokenizer=str(FIXTURE)))
        receipt = json.loads((tmp_path / used / "receipts" / "00000.json").read_bytes())
        assert receipt["backend"] == used


def test_gigatoken_is_loaded_anew_before_it_keeps_too_many_words(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    loaded = []

    class Gigatoken:
        def __init__(self, text: str) -> None:
            self.tokenizer = tokenizers.Tokenizer.from_str(text)
            loaded.append(self)

        def encode(self, text: str) -> np.ndarray:
            return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)

    fake = SimpleNamespace(Tokenizer=SimpleNamespace(from_json=Gigatoken))
    monkeypatch.setitem(sys.modules, "gigatoken", fake)
    monkeypatch.setattr(backends, "RENEWED_AFTER", 5)
    encode = backends._load_gigatoken(tokenizer)
    ids = [encode(["Two", "words"])[0].tolist() for _ in range(3)]
    assert len(loaded) == 3
    assert ids == [ids[0]] * 3
