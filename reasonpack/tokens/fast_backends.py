"""Pieces of text → ids, by a fast backend that passes its checks, else by the reference.

    pieces of a unit ─┬→ gigatoken ──→ ids ── a sample of them again ──→ the same: kept
                      └→ tokenizers, the reference, ────────────────┘    else: all by the reference

No fast backend is trusted. It is used for a tokenizer once it agrees with the reference
on the hard texts, which contain what such programs get wrong. Then it is checked on some
pieces of every unit. After the first difference it is not used again, and the unit is
encoded anew. Pieces with a character whose treatment depends on the version of Unicode
never reach it: see `reasonpack.tokens.settled_characters`.

So ids do not depend on the backend, and neither do the bytes of a dataset.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.choices import Backend
from reasonpack.errors import ReasonpackError, UsageError
from reasonpack.tokens.hard_texts import hard_texts
from reasonpack.tokens.settled_characters import is_settled
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.wording import one_line

if TYPE_CHECKING:
    from concurrent.futures import Future

I32 = NDArray[np.int32]
EncodeFlat = Callable[[Sequence[str]], tuple[NDArray[Any], NDArray[Any]]]
"""n pieces → the ids of all of them, one after another, and n + 1 offsets of the pieces."""

REFERENCE = "tokenizers"
WORTH_IT = 2_000_000
"""Fewest characters for a fast backend: it takes 0.6 s to load and test, and saves 0.4 a MB."""
MANY = 100_000_000
"""Fewest characters for fastokens: it loads 1 s slower than gigatoken, and saves 0.013 a MB."""
CHECKED_AT_LEAST = 16
SLICE_CHARACTERS = 1 << 20
RENEWED_AFTER = 1 << 29
"""Characters after which gigatoken is loaded anew, which bounds its cache of words."""


class Choice(Struct, frozen=True):
    """Which backend a run asked for; nothing in its output depends on it.

    Attributes:
        name: `auto` tries the installed backends if the input is large enough.
        check_rate: share of a unit's pieces that the reference encodes too.
    """

    name: Backend = "auto"
    check_rate: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.check_rate <= 1:
            expected = "more than 0 and at most 1"
            fix = "0.005 checks one piece in 200"
            raise UsageError("--backend-check", f"{self.check_rate:g}", expected, fix)
        if self.name not in {"auto", REFERENCE} and self.name not in installed():
            fix = "pip install 'reasonpack[fast]', or choose tokenizers"
            raise UsageError(f"--tokenizer-backend {self.name}", "not installed", "it to be", fix)

    def backends(self, characters: int) -> tuple[str, ...]:
        """Name the fast backends to try, in order, for a run of about `characters` characters."""
        if self.name != "auto":
            return () if self.name == REFERENCE else (self.name,)
        if characters < WORTH_IT:
            return ()
        return tuple(installed()[:: -1 if characters >= MANY else 1])


AUTO = Choice()
"""The default choice."""


def installed() -> list[str]:
    """List the fast backends that can be imported, the one that loads faster first."""
    return [name for name in _LOADERS if importlib.util.find_spec(name) is not None]


class Encoder:
    """Encodes the pieces of units, one unit after another.

    Attributes:
        used: the backend of the last unit, with its version.
        fault: why backends that should have encoded the last unit did not; None if none
            failed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        backends: Sequence[str] = (),
        check_rate: float = AUTO.check_rate,
    ) -> None:
        self.used = ""
        self.fault: str | None = None
        self._tokenizer = tokenizer
        self._names = list(backends)
        self._check_rate = check_rate
        self._loading: Future[bool] | None = None
        self._loaded: tuple[str, EncodeFlat] | None = None
        self._proved = False
        self._failed: list[str] = []

    def prepare(self) -> None:
        """Begin to load a fast backend in another thread."""
        if self._names and self._loading is None and self._loaded is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (few runs need it)

            executor = ThreadPoolExecutor(1)
            self._loading = executor.submit(self.load)
            executor.shutdown(wait=False)

    def encode(self, pieces: Sequence[str]) -> list[I32]:
        """Encode each piece by itself, as the reference does: one i32[T] per piece.

        Raises TokenizerError for a piece that the reference cannot encode.
        """
        if self._loading is not None:
            self._loading.result()
            self._loading = None
        count = max(CHECKED_AT_LEAST, round(len(pieces) * self._check_rate))
        # Fixed but irregular: a regular choice could always meet the same turn of a chat.
        chosen = random.Random(0).sample(range(len(pieces)), min(count, len(pieces)))  # noqa: S311
        while pieces and self.load():
            passes = self._passes_hard_texts()
            ids = self._ids_checked(pieces, chosen, "a piece of this unit") if passes else None
            if self._loaded is not None and ids is not None:
                self._set_used(_label(self._loaded[0]))
                return ids
        self._set_used(_label(REFERENCE))
        return self._by_reference(pieces)

    def _set_used(self, label: str) -> None:
        self.used = label
        self.fault = "; ".join([*self._failed, f"{label} is used"]) if self._failed else None

    def load(self) -> bool:
        """Load the next fast backend, unless one is loaded; return whether one is."""
        while self._loaded is None and self._names:
            name = self._names.pop(0)
            try:
                self._loaded = name, _LOADERS[name](self._tokenizer)
            except _STOPS:
                raise
            except BaseException as error:  # noqa: BLE001 (foreign code, which may panic)
                self._failed.append(
                    f"{_label(name)} cannot be used: {type(error).__name__}: {one_line(error)}"
                )
            self._proved = False
        return self._loaded is not None

    def _passes_hard_texts(self) -> bool:
        """Return whether the loaded backend gives the ids of hard texts right; else unload it."""
        if not self._proved:
            texts = hard_texts(self._tokenizer.added_tokens)
            self._proved = self._ids_checked(texts, range(len(texts)), "a hard text") is not None
        return self._proved

    def _ids_checked(
        self, pieces: Sequence[str], chosen: Sequence[int], what: str
    ) -> list[I32] | None:
        """Encode pieces by the fast backend, and the chosen ones by the reference too.

        If they differ, unload the backend and return None; `what` names a piece in the message.
        Pieces that are not settled are encoded by the reference alone.
        """
        assert self._loaded is not None
        name, encode_flat = self._loaded
        fast = [is_settled(piece) for piece in pieces]
        asked = [index for index, kept in enumerate(fast) if not kept] + [*chosen]
        expected = dict(zip(asked, self._by_reference([pieces[i] for i in asked]), strict=True))
        fault = None
        try:
            arrays = (
                array
                for part in _slices(list(itertools.compress(pieces, fast)))
                for array in _split(*encode_flat(part), len(part), self._tokenizer.vocab_size)
            )
            ids = [next(arrays) if kept else expected[i] for i, kept in enumerate(fast)]
            for index in chosen:
                if not np.array_equal(ids[index], expected[index]):
                    fault = f"differs from tokenizers on {what}, {_shown(pieces[index])}"
                    break
        except _STOPS:
            raise
        except BaseException as error:  # noqa: BLE001 (foreign code, which may panic)
            fault = f"failed on {what}: {type(error).__name__}: {one_line(error)}"
        if fault is None:
            return ids
        self._failed.append(f"{_label(name)} {fault}")
        self._loaded = None
        return None

    def _by_reference(self, pieces: Sequence[str]) -> list[I32]:
        return [array for part in _slices(pieces) for array in self._tokenizer.encode_batch(part)]


version = cache(importlib.metadata.version)  # it takes a millisecond
_STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit, ReasonpackError)


def _label(name: str) -> str:
    return f"{name} {version(name)}"


def _shown(piece: str) -> str:
    return repr(piece) if len(piece) <= 80 else f"{piece[:80]!r}… of {len(piece):,} characters"


def _slices(pieces: Sequence[str]) -> Iterator[list[str]]:
    """Yield about a megabyte of pieces at a time: tokenizers do not react to interrupts."""
    part: list[str] = []
    characters = 0
    for piece in pieces:
        part.append(piece)
        characters += len(piece)
        if characters >= SLICE_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _split(ids: NDArray[Any], offsets: NDArray[Any], count: int, vocabulary: int) -> list[I32]:
    """Cut the ids of many pieces apart; raise ValueError for impossible ids or offsets.

    >>> _split(np.array([7, 8, 9], np.uint32), np.array([0, 1, 1, 3]), 3, 10)
    [array([7], dtype=int32), array([], dtype=int32), array([8, 9], dtype=int32)]
    """
    if len(offsets) != count + 1 or offsets[0] != 0 or offsets[-1] != len(ids):
        raise ValueError(f"{len(ids)} ids at {len(offsets) - 1} places for {count} pieces")
    if np.any(offsets[1:] < offsets[:-1]):
        raise ValueError("offsets that descend")
    if len(ids) and int(ids.max()) >= vocabulary:
        raise ValueError(f"id {ids.max()} of a vocabulary of {vocabulary}")
    flat = ids.view(np.int32) if ids.dtype == np.uint32 else ids.astype(np.int32)
    return [flat[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]


# --- The backends ----------------------------------------------------------------------


def _load_gigatoken(tokenizer: Tokenizer) -> EncodeFlat:
    gigatoken: Any = importlib.import_module("gigatoken")
    loaded, seen = gigatoken.Tokenizer.from_json(tokenizer.as_json()), 0

    def encode_flat(pieces: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        nonlocal loaded, seen
        if seen > RENEWED_AFTER:
            loaded, seen = gigatoken.Tokenizer.from_json(tokenizer.as_json()), 0
        seen += sum(map(len, pieces))
        # A batch call returns an awkward array, whose import takes longer than the call saves.
        arrays = list(map(loaded.encode, pieces))
        offsets = np.cumsum([0, *map(len, arrays)])
        return np.concatenate(arrays) if arrays else np.zeros(0, np.uint32), offsets

    return encode_flat


def _load_fastokens(tokenizer: Tokenizer) -> EncodeFlat:
    fastokens: Any = importlib.import_module("fastokens")
    loaded = fastokens.Tokenizer.from_json_str(tokenizer.as_json())

    def encode_flat(pieces: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        ids, offsets = loaded.encode_batch_flat(list(pieces), add_special_tokens=False)
        return np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").astype(np.int64)

    return encode_flat


_LOADERS: dict[str, Callable[[Tokenizer], EncodeFlat]] = {
    "gigatoken": _load_gigatoken,  # caches the words that it has seen
    "fastokens": _load_fastokens,
}
