r"""A tokenizer.json → exact ids for text, in pieces that can be encoded apart.

    "<s>Hi<e>\n<s>"  ─cut→  "<s>" "Hi" "<e>" "\n" "<s>"  ─encode_batch→  [1] [17, 9] [2] [5] [1]

The reference is `tokenizers`, encoding the whole text without added special
tokens. Joined, the ids of the pieces are the ids of the whole text: that is the
law of this module. It lets a caller encode a piece once, however often it
occurs.
`cutting` says where a text may be cut, and why.
"""

from __future__ import annotations

import array
import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
from numpy.typing import NDArray

from reasonpack.errors import TokenizerError, UsageError
from reasonpack.tokens.cut import CutRule, cut_text, learn_rule, max_token_chars, one_line, refusing

__all__ = ["Tokenizer", "load_tokenizer"]

_MAX_TOKENIZER_BYTES = 1 << 30
_MAX_CONFIG_BYTES = 1 << 26
_MOST_GROWTH = 1000
_ABSURD_LENGTH = 10**12  # transformers writes 10**30 where it knows no limit

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*",
    "chat_template.json",
    "config.json",
    "generation_config.json",
]
_NAMED_TOKENS = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
]


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Exact ids for text, as `tokenizers` gives them for the whole text.

    Attributes:
        source: what it was loaded from, as the caller wrote it.
        directory: where the file and its siblings (config, template) lie.
        sha256: of the bytes of `tokenizer.json`, in hex.
        config: `tokenizer_config.json`; empty if there is none.
        special_tokens: by name, as chat templates read them: `bos_token`, `eos_token`
            and the like, the config's own `extra_special_tokens`, and a list of
            `additional_special_tokens`. A name without a token is absent.
        added_tokens: the text of every added token, special or not.
        special: the text of those that are special.
        eos: tokens that end a generation: `eos_token` of the config, and those that
            `eos_token_id` in `generation_config.json` names.
        model_max_length: in tokens; None where the config gives none worth the name.
        vocab_size: number of tokens, the added ones included.
        max_token_chars: bound on the text that one token stands for:
            `len(text) <= max_token_chars * len(ids)` for every text. None if unknown.
        rule: where texts are cut, and why.
        reference: the tokenizer underneath, truncation and padding switched off.

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
    directory: Path | None
    sha256: str
    config: dict[str, Any] = field(repr=False)
    special_tokens: dict[str, str | list[str]] = field(repr=False)
    added_tokens: tuple[str, ...] = field(repr=False)
    special: frozenset[str] = field(repr=False)
    eos: tuple[str, ...]
    model_max_length: int | None
    vocab_size: int
    max_token_chars: int | None
    rule: CutRule = field(repr=False)
    reference: tokenizers.Tokenizer = field(repr=False)

    @property
    def cuts(self) -> bool:
        """Say whether texts are cut at all."""
        return bool(self.rule.stages)

    @property
    def cut_reason(self) -> str:
        """Say why texts are cut, or why they are not."""
        return self.rule.reason

    def cut(self, text: str) -> list[str]:
        """Cut a text into pieces whose ids, joined, are the ids of the text.

        The pieces, joined, are the text; none is empty. See `cut_reason`.
        """
        return cut_text(text, self.rule)

    def encode_batch(self, pieces: Sequence[str]) -> list[NDArray[np.int32]]:
        """Encode each piece for itself: one i32[T] a piece.

        No token is added and none is cut off. Raises TokenizerError for a piece
        that is no Unicode text (a lone surrogate) or that the model cannot encode.
        """
        encode = getattr(self.reference, "encode_batch_fast", self.reference.encode_batch)
        try:
            with refusing(self.source, "cannot encode a text", "one that it can encode"):
                encodings = encode(list(pieces), add_special_tokens=False)
                # array refuses an id beyond i32 where older numpy wraps it around.
                return [np.asarray(array.array("i", encoding.ids)) for encoding in encodings]
        except TokenizerError:
            for piece in pieces:
                _refuse_surrogate(piece, self.source)
            raise

    def decode(self, ids: Iterable[int] | NDArray[np.integer[Any]]) -> str:
        """Turn ids into text, special tokens included.

        Raises TokenizerError for an id that is not in the vocabulary.
        """
        known = [int(token) for token in ids]
        for token in set(known):
            self.token_text(token)
        return str(self.reference.decode(known, skip_special_tokens=False))

    def token_text(self, token: int) -> str:
        """Give a token as the vocabulary writes it, e.g. `Ġthe` in byte-level BPE.

        Raises TokenizerError for an id that is not in the vocabulary.
        """
        text = self.reference.id_to_token(int(token)) if 0 <= token < 1 << 32 else None
        if text is None:
            raise TokenizerError(
                f"{self.source}: no token has the id {token}, expected one of the "
                f"{self.vocab_size} ids. Fix: Use the tokenizer that wrote the ids."
            )
        return str(text)


def load_tokenizer(source: str | Path, *, revision: str | None = None) -> Tokenizer:
    """Load a tokenizer and learn where it may be cut.

    Args:
        source: a `tokenizer.json`, a directory that holds one, or a hub id such as
            `Qwen/Qwen3-8B`. What exists on disk is never looked up on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        TokenizerError: none can be had, or its ids would be random (BPE dropout).
        UsageError: a revision of something on disk.

    >>> load_tokenizer(Path("no/such"))
    Traceback (most recent call last):
        ...
    reasonpack.errors.TokenizerError: no/such: does not exist, expected a tokenizer.json, \
a directory that holds one, or a hub id. Fix: Check the path.
    """
    path = _find(source, revision)
    data = _read(path, limit=_MAX_TOKENIZER_BYTES)
    file = _decode(data, path)
    _check_normalizer(file.normalizer, path)
    with refusing(path, "refuses the file", "one that it can load"):
        reference = tokenizers.Tokenizer.from_buffer(data)
        reference.no_truncation()
        reference.no_padding()
    if dropout := getattr(reference.model, "dropout", None):
        raise TokenizerError(
            f"{path}: model.dropout is {dropout:g}, so that ids are random, expected null. "
            "Fix: Set it to null."
        )
    config = _read_json(path.parent / "tokenizer_config.json")
    added = reference.get_added_tokens_decoder().values()
    special_tokens = _special_tokens(config, path.parent)
    return Tokenizer(
        source=str(source),
        directory=path.parent,
        sha256=hashlib.sha256(data).hexdigest(),
        config=config,
        special_tokens=special_tokens,
        added_tokens=tuple(token.content for token in added),
        special=frozenset(token.content for token in added if token.special),
        eos=_eos(special_tokens, reference, path.parent),
        model_max_length=_model_max_length(config),
        vocab_size=reference.get_vocab_size(with_added_tokens=True),
        max_token_chars=max_token_chars(reference, file.model),
        rule=learn_rule(reference, [token.content for token in file.added_tokens]),
        reference=reference,
    )


# --- Files -----------------------------------------------------------------------------


def _find(source: str | Path, revision: str | None) -> Path:
    """Give the path of the `tokenizer.json` that a source names."""
    path = Path(source)
    expected = "expected a tokenizer.json, a directory that holds one, or a hub id"
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise TokenizerError(
            f"{path}: cannot be read ({error.strerror}), {expected}. Fix: Check the path."
        ) from error
    if exists and revision is not None:
        raise UsageError(
            f"{path}: is on disk and has no revision {revision!r}, expected a hub id with it. "
            "Fix: Leave the revision out."
        )
    if not exists:
        if isinstance(source, Path) or not _HUB_ID.fullmatch(source) or path.suffix == ".json":
            raise TokenizerError(f"{path}: does not exist, {expected}. Fix: Check the path.")
        path, is_directory = _download(source, revision), True
    if not is_directory:
        return path
    if not (path / "tokenizer.json").exists():
        raise TokenizerError(
            f"{source}: holds no tokenizer.json, expected the file of a fast tokenizer. Fix: Write "
            "one with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)."
        )
    return path / "tokenizer.json"


def _download(hub_id: str, revision: str | None) -> Path:
    """Fetch the tokenizer's files with the hub's own client, or take them from its cache."""
    try:
        import huggingface_hub  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise TokenizerError(
            f"{hub_id}: is not on disk and the hub's client is not installed, expected a path or a "
            "hub id. Fix: Check the path, or run: pip install 'reasonpack[hub]'."
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=_HUB_FILES
        )
    except Exception as error:
        raise TokenizerError(
            f"{hub_id}: is not on disk and the hub's client could not fetch it "
            f"({one_line(error)}), expected a path or a hub id. Fix: Check the name, the "
            "revision, the connection and the hub's login, or give a directory."
        ) from error
    return Path(folder)


def _read(path: Path, *, limit: int) -> bytes:
    try:
        if not path.is_file():
            what = "is no regular file, expected one. Fix: Give the file itself"
        elif (size := path.stat().st_size) > limit:
            what = f"has {size} bytes, expected at most {limit}. Fix: Check the path"
        else:
            return path.read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"{path}: cannot be read ({error.strerror}), expected a file that can. "
            "Fix: Check its permissions."
        ) from error
    raise TokenizerError(f"{path}: {what}.")


class _AddedToken(msgspec.Struct):
    content: str


class _TokenizerFile(msgspec.Struct):
    model: dict[str, msgspec.Raw]
    added_tokens: list[_AddedToken] = []
    normalizer: Any = None


def _decode(data: bytes, path: Path) -> _TokenizerFile:
    """Read of the file what `tokenizers` does not tell, and see that it is such a file."""
    if data.startswith(b"version https://git-lfs"):
        raise TokenizerError(
            f"{path}: is a Git LFS pointer, expected the file itself. Fix: Run git lfs pull."
        )
    try:
        return msgspec.json.decode(data, type=_TokenizerFile)
    except msgspec.ValidationError as error:
        what = f"is no tokenizer.json ({error}), expected the format of `tokenizers`"
        raise TokenizerError(f"{path}: {what}. Fix: Check the path.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"is not JSON ({error}), expected a tokenizer.json"
        raise TokenizerError(f"{path}: {what}. Fix: Fetch or write the file anew.") from error


def _check_normalizer(normalizer: Any, path: Path) -> None:
    """Refuse what would make much text out of little: `tokenizers` would take all memory."""
    times, todo = 1, [normalizer]
    for part in todo:  # grows while it is read
        if not isinstance(part, dict):
            continue
        todo += part["normalizers"] if isinstance(part.get("normalizers"), list) else []
        written = [part[name] for name in ("content", "prepend") if isinstance(part.get(name), str)]
        times *= max(1, *map(len, written)) if written else 1
        charsmap = part.get("precompiled_charsmap")
        if times > _MOST_GROWTH:
            what = f"makes a text {times:,} times as long, expected at most {_MOST_GROWTH:,} times"
        elif isinstance(charsmap, str) and _says_too_much(charsmap):
            what = "precompiled_charsmap ends before the part that it says it has, expected a whole"
        else:
            continue
        raise TokenizerError(
            f"{path}: normalizer: {what}. Fix: Use the file that the model was published with."
        )


def _says_too_much(charsmap: str) -> bool:
    """Tell whether a map in base64 is shorter than its first four bytes say of its first part."""
    try:
        data = base64.b64decode(charsmap)
    except ValueError:
        return False  # which `tokenizers` says itself
    return int.from_bytes(data[:4], "little") > len(data) - 4


def _refuse_surrogate(piece: str, where: str) -> None:
    try:
        piece.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"{where}: {piece[error.start]!a} at character {error.start} of a text, expected "
            "Unicode text. Fix: Remove the lone surrogate."
        ) from error


# --- The configuration beside the tokenizer --------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there is an empty one."""
    if not os.path.lexists(path):  # a link to nothing is one that is broken
        return {}
    try:
        value = json.loads(_read(path, limit=_MAX_CONFIG_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({error}), expected a JSON object"
        raise TokenizerError(f"{path}: {what}. Fix: Fetch or write the file anew.") from error
    if not isinstance(value, dict):
        what = f"is a {type(value).__name__}, expected a JSON object"
        raise TokenizerError(f"{path}: {what}. Fix: Fetch or write the file anew.")
    return value


def _special_tokens(config: dict[str, Any], directory: Path) -> dict[str, str | list[str]]:
    """Collect the special tokens by name; the first file that has a name decides.

    As in transformers: a config that lists `added_tokens_decoder` was written after
    the map went out of use, and wins; an older one gives way to it.
    """
    token_map = _read_json(directory / "special_tokens_map.json")
    sources = [("tokenizer_config.json", config), ("special_tokens_map.json", token_map)]
    found: dict[str, Any] = {}
    for file, source in sources if "added_tokens_decoder" in config else sources[::-1]:
        entries = {name: source[name] for name in _NAMED_TOKENS if name in source}
        extra = source.get("extra_special_tokens")
        if isinstance(extra, dict):
            entries = {**extra, **entries}
        unnamed = source.get("additional_special_tokens", extra)
        if isinstance(unnamed, list):
            entries["additional_special_tokens"] = unnamed
        for name, value in entries.items():
            _refuse_surrogate(name, str(directory / file))
            if name not in found:
                found[name] = _token_texts(value, f"{directory / file}: {name}")
    return {name: token for name, token in found.items() if token is not None}


def _token_texts(value: object, where: str) -> str | list[str] | None:
    if not isinstance(value, list):
        return _token_text(value, where)
    texts = [_token_text(token, f"{where}[{i}]") for i, token in enumerate(value)]
    return [text for text in texts if text is not None]


def _token_text(value: object, where: str) -> str | None:
    """Give the text of a token written as a string or an object; None for null."""
    text = value.get("content") if isinstance(value, dict) else value
    if isinstance(text, str):
        _refuse_surrogate(text, where)
    if text is None or isinstance(text, str):
        return text
    raise TokenizerError(
        f'{where}: is a {type(text).__name__}, expected a string, an object with "content" or '
        "null. Fix: Write the token's text."
    )


def _eos(
    special_tokens: dict[str, str | list[str]], reference: tokenizers.Tokenizer, directory: Path
) -> tuple[str, ...]:
    """List the texts of the tokens that end a generation, each once."""
    path = directory / "generation_config.json"
    listed = _read_json(path).get("eos_token_id")
    ids = listed if isinstance(listed, list) else [] if listed is None else [listed]
    if not all(type(token) is int and token >= 0 for token in ids):
        raise TokenizerError(
            f"{path}: eos_token_id: {listed!r}, expected a token's id or a list of them. "
            "Fix: Write the id."
        )
    named = special_tokens.get("eos_token")
    texts = [named, *(reference.id_to_token(token) for token in ids)]
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _model_max_length(config: dict[str, Any]) -> int | None:
    length = config.get("model_max_length")
    return length if type(length) is int and 0 < length < _ABSURD_LENGTH else None
