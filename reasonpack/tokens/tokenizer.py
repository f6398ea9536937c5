r"""A tokenizer.json → exact ids for text, in pieces that can be encoded apart.

    "<s>Hi<e>\n<s>"  ─cut→  "<s>" "Hi" "<e>" "\n" "<s>"  ─encode_batch→  [1] [17, 9] [2] [5] [1]

The reference is `tokenizers`, encoding the whole text without added special
tokens. This module guarantees that the ids of the pieces, joined, are the ids of
the whole text, so a caller can encode a piece once, however often it occurs.
`cut_rule` says where a text may be cut, and why.

`tokenizers` loads the file when the first text is encoded or cut; logged token ids need no text.
"""

from __future__ import annotations

import array
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import tokenizers
from numpy.typing import NDArray

from reasonpack.errors import TokenizerError
from reasonpack.tokens.cut import CutRule, cut_text
from reasonpack.tokens.cut_rule import LOCAL_MODELS, learn_rule, refusing
from reasonpack.tokens.files import (
    Lookup,
    TokenizerFile,
    eos_tokens,
    find_file,
    model_max_length,
    read_json,
    read_tokenizer,
    refuse_surrogate,
    special_tokens_of,
)
from reasonpack.tokens.vocabulary import read_added_tokens, read_texts

_Load: TypeAlias = Callable[[], "tuple[tokenizers.Tokenizer, CutRule]"]


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Exact ids for text, as `tokenizers` gives them for the whole text.

    Attributes:
        source: what it was loaded from, as the caller wrote it.
        directory: where the file and its siblings (config, template) are.
        file: the `tokenizer.json`; None if it truncates or pads, which `reference` does not.
        sha256: hash of the bytes of `tokenizer.json`, in hex.
        config: `tokenizer_config.json`; empty if there is none.
        special_tokens: by name, as chat templates read them: `bos_token`, `eos_token`
            and the like, the config's own `extra_special_tokens`, and a list of
            `additional_special_tokens`. A name without a token is absent.
        added_tokens: the text of every added token, special or not.
        special: the text of those that are special.
        lookup: returns a function from an id to the token as the vocabulary writes it, e.g.
            `Ġthe` in byte-level BPE, or to None if no token has the id.
        decoder: the decoder as the file describes it; None without one.
        eos: texts of the tokens that end a generation: `eos_token` of the config, and those
            that `eos_token_id` in `generation_config.json` names.
        model_max_length: how many tokens the model takes; None if the config does not say.
        load: returns `reference` and `rule`, which it loads once. Raises TokenizerError.

    >>> import tempfile
    >>> model = tokenizers.models.WordLevel({"hello": 0, "?": 1}, unk_token="?")
    >>> words = tokenizers.Tokenizer(model)
    >>> _ = words.add_special_tokens(["<s>"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     words.save(f"{folder}/tokenizer.json")
    ...     tokenizer = load_tokenizer(folder)
    >>> tokenizer.cut("<s>hello<s>")
    ['<s>', 'hello', '<s>']
    >>> tokenizer.encode_batch(["<s>", "hello"])
    [array([2], dtype=int32), array([0], dtype=int32)]
    """

    source: str
    directory: Path
    file: Path | None
    sha256: str
    config: dict[str, Any] = field(repr=False)
    special_tokens: dict[str, str | list[str]] = field(repr=False)
    added_tokens: tuple[str, ...] = field(repr=False)
    special: frozenset[str] = field(repr=False)
    lookup: Lookup = field(repr=False)
    decoder: Any = field(repr=False)
    eos: tuple[str, ...]
    model_max_length: int | None
    load: _Load = field(repr=False)

    @property
    def reference(self) -> tokenizers.Tokenizer:
        """The underlying tokenizer, with truncation and padding switched off."""
        return self.load()[0]

    @property
    def rule(self) -> CutRule:
        """Where texts are cut, and why."""
        return self.load()[1]

    @property
    def vocab_size(self) -> int:
        """The number of tokens, the added ones included."""
        return int(self.reference.get_vocab_size(with_added_tokens=True))

    @property
    def reach(self) -> int | None:
        """Length of the longest added token, which a cut may depend on; None without one."""
        return max(map(len, self.added_tokens), default=None)

    def as_json(self) -> str:
        """Return `reference` as JSON, which other programs can load."""
        # The file is read if it is unchanged, because `to_str` takes long.
        data = b"" if self.file is None or not self.file.is_file() else self.file.read_bytes()
        same = hashlib.sha256(data).hexdigest() == self.sha256
        return data.decode() if same else self.reference.to_str()

    def cut(self, text: str) -> list[str]:
        """Cut a text into pieces whose ids, joined, are the ids of the text.

        The pieces, joined, are the text; none is empty. `rule` says where it is cut.
        """
        return cut_text(text, self.rule)

    def encode_batch(self, pieces: Sequence[str]) -> list[NDArray[np.int32]]:
        """Encode each piece by itself: one i32[T] per piece.

        No token is added and none is cut off. Raises TokenizerError for a piece that
        is not Unicode text (a lone surrogate) or that the model cannot encode.
        """
        encode = getattr(self.reference, "encode_batch_fast", self.reference.encode_batch)
        try:
            with refusing(self.source, "cannot encode a text", "one that it can encode"):
                encodings = encode(list(pieces), add_special_tokens=False)
                # array refuses an id beyond i32 where older numpy wraps it around.
                return [np.asarray(array.array("i", encoding.ids)) for encoding in encodings]
        except TokenizerError:
            for piece in pieces:
                refuse_surrogate(piece, self.source)
            raise

    def decode(self, ids: Iterable[int] | NDArray[np.integer[Any]]) -> str:
        """Return the text of ids, special tokens included.

        Raises TokenizerError for an id that is not in the vocabulary.
        """
        known = [int(token) for token in ids]
        for token in set(known):
            self.token_text(token)
        return str(self.reference.decode(known, skip_special_tokens=False))

    def token_text(self, token: int) -> str:
        """Return a token as the vocabulary writes it.

        Raises TokenizerError for an id that is not in the vocabulary.
        """
        text = self.lookup()(int(token))
        if text is None:
            expected = f"one of the {self.vocab_size} ids"
            fix = "use the tokenizer that wrote the ids"
            raise TokenizerError(self.source, f"no token has the id {token}", expected, fix)
        return text


def load_tokenizer(source: str | Path, *, revision: str | None = None) -> Tokenizer:
    """Load a tokenizer and learn where it may be cut.

    Args:
        source: a `tokenizer.json`, a directory that holds one, or a hub id such as
            `Qwen/Qwen3-8B`. What exists on disk is never looked up on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        TokenizerError: it cannot be loaded, or its ids would be random (BPE dropout).
        UsageError: `revision` is given for something on disk.

    >>> load_tokenizer(Path("no/such"))
    Traceback (most recent call last):
        ...
    reasonpack.errors.TokenizerError: no/such: does not exist, expected a tokenizer.json, \
a directory that holds one, or a hub id. Fix: check the path.
    """
    path = find_file(source, revision)
    data, file = read_tokenizer(path)
    listed = tuple(token.content for token in file.added_tokens)
    load = cache(partial(_loaded, data, path, listed))
    dropout, kind = (msgspec.json.decode(file.model.get(n, b"null")) for n in ("dropout", "type"))
    if dropout or kind not in (None, *LOCAL_MODELS.split()):
        load()  # refuses it now, and not when the first text is encoded
    added = read_added_tokens(file)
    if added is None:
        loaded = load()[0].get_added_tokens_decoder().items()
        added = {id_: (token.content, token.special) for id_, token in loaded}
    lookup = cache(partial(_lookup, file, load))
    config = read_json(path.parent / "tokenizer_config.json")
    special_tokens = special_tokens_of(config, path.parent)
    return Tokenizer(
        source=str(source),
        directory=path.parent,
        file=path if file.truncation is None and file.padding is None else None,
        sha256=hashlib.sha256(data).hexdigest(),
        config=config,
        special_tokens=special_tokens,
        added_tokens=tuple(content for content, _ in added.values()),
        special=frozenset(content for content, special in added.values() if special),
        lookup=lookup,
        decoder=file.decoder,
        eos=eos_tokens(special_tokens, added, lookup, path.parent),
        model_max_length=model_max_length(config),
        load=load,
    )


@lru_cache(maxsize=1)
def _loaded(
    data: bytes, path: Path, listed: tuple[str, ...]
) -> tuple[tokenizers.Tokenizer, CutRule]:
    """Load a file and learn where texts may be cut; the last result is kept."""
    with refusing(path, "refuses the file", "one that it can load"):
        reference = tokenizers.Tokenizer.from_buffer(data)
        reference.no_truncation()
        reference.no_padding()
    if dropout := getattr(reference.model, "dropout", None):
        raise TokenizerError(
            path, f"model.dropout is {dropout:g}, so that ids are random", "null", "set it to null"
        )
    return reference, learn_rule(reference, list(listed))


def _lookup(file: TokenizerFile, load: _Load) -> Callable[[int], str | None]:
    """Return a function from an id to its text; read the file if `tokenizers` is not loaded."""
    if not _loaded.cache_info().currsize and (texts := read_texts(file)) is not None:
        return texts.get
    reference = load()[0]
    return lambda token: reference.id_to_token(token) if 0 <= token < 1 << 32 else None
