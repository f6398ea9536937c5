"""A tokenizer's directory, file or hub id → the files in it, read and checked."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from reasonpack.errors import TokenizerError, UsageError
from reasonpack.wording import one_line

Lookup: TypeAlias = Callable[[], Callable[[int], str | None]]
"""Loads the vocabulary when first called; returns a function from an id to its text or None."""

_MAX_TOKENIZER_BYTES = 1 << 30
_MAX_CONFIG_BYTES = 1 << 26
_MOST_GROWTH = 1000
_ANEW = "fetch or write the file anew"
_ABSURD_LENGTH = 10**12  # transformers writes 10**30 where it knows no limit
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json", "config.json", "generation_config.json"),
)
"""Files that are fetched from a directory that a URL or a hub id names."""
_HUB_FILES = [*TOKENIZER_FILES, "additional_chat_templates/*"]
_LOG_IN = "log in (hf auth login) or set HF_TOKEN"
_HUB_FIXES = {
    "GatedRepoError": f"ask for access on the model's page, then {_LOG_IN}",
    "RepositoryNotFoundError": f"check the name; if the model is private, {_LOG_IN}",
    "RevisionNotFoundError": "check the revision, or leave it out",
    "LocalEntryNotFoundError": "check the connection (HF_ENDPOINT, HF_HUB_OFFLINE) and the hub's "
    "login, or give a directory that holds the tokenizer",
}
"""Fixes, by the classes of the errors of the hub's client; the most derived class decides."""
_ANY_HUB_FIX = "check the connection, or give a directory that holds the tokenizer"
_NAMED_TOKENS = [f"{name}_token" for name in ["bos", "eos", "unk", "sep", "pad", "cls", "mask"]]


def find_file(source: str | Path, revision: str | None) -> Path:
    """Return the path of the `tokenizer.json` that a source names; fetch that of a hub id."""
    path = Path(source)
    expected = "a tokenizer.json, a directory that holds one, or a hub id"
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise TokenizerError(
            path, f"cannot be read ({error.strerror})", expected, "check the path"
        ) from error
    if exists and revision is not None:
        what = f"is on disk and has no revision {revision!r}"
        raise UsageError(path, what, "a hub id with it", "leave the revision out")
    if not exists:
        if isinstance(source, Path) or not _HUB_ID.fullmatch(source) or path.suffix == ".json":
            raise TokenizerError(path, "does not exist", expected, "check the path")
        path, is_directory = _download(source, revision), True
    if not is_directory:
        return path
    if not (path / "tokenizer.json").exists():
        fix = "write one with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        raise TokenizerError(source, "holds no tokenizer.json", "the file of a fast tokenizer", fix)
    return path / "tokenizer.json"


def _download(hub_id: str, revision: str | None) -> Path:
    """Fetch the tokenizer's files with the hub's own client, or take them from its cache."""
    try:
        import huggingface_hub  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        what = "is not on disk and the hub's client is not installed"
        fix = "check the path, or run: pip install 'reasonpack[hub]'"
        raise TokenizerError(hub_id, what, "a path or a hub id", fix) from error
    try:
        folder = huggingface_hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=_HUB_FILES
        )
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        raise TokenizerError(
            hub_id,
            "is not on disk and the hub's client could not fetch it ("
            f"{type(error).__name__}: {one_line(error)})",
            "a path or a hub id",
            next((_HUB_FIXES[kind] for kind in kinds if kind in _HUB_FIXES), _ANY_HUB_FIX),
        ) from error
    return Path(folder)


def _read(path: Path, *, limit: int) -> bytes:
    try:
        if not path.is_file():
            fault = ("is no regular file", "one", "give the file itself")
        elif (size := path.stat().st_size) > limit:
            fault = (f"has {size} bytes", f"at most {limit}", "check the path")
        else:
            return path.read_bytes()
    except OSError as error:
        raise TokenizerError(
            path, f"cannot be read ({error.strerror})", "a file that can", "check its permissions"
        ) from error
    raise TokenizerError(path, *fault)


class AddedToken(msgspec.Struct):
    """An added token: the fields that are read here."""

    content: str
    id: Any = None
    special: Any = None
    normalized: Any = None


class TokenizerFile(msgspec.Struct):
    """The fields of a `tokenizer.json` that are read here, without `tokenizers`."""

    model: dict[str, msgspec.Raw]
    added_tokens: list[AddedToken] = []
    normalizer: Any = None
    decoder: Any = None
    truncation: Any = None
    padding: Any = None


def read_tokenizer(path: Path) -> tuple[bytes, TokenizerFile]:
    """Read a `tokenizer.json`; return its bytes, and the fields that are read here.

    Raises:
        TokenizerError: it cannot be read, is not a `tokenizer.json`, or would take all memory.
    """
    data = _read(path, limit=_MAX_TOKENIZER_BYTES)
    file = _decode(data, path)
    _check_normalizer(file.normalizer, path)
    return data, file


def _decode(data: bytes, path: Path) -> TokenizerFile:
    """Decode a file; refuse it unless it is a `tokenizer.json`."""
    if data.startswith(b"version https://git-lfs"):
        raise TokenizerError(path, "is a Git LFS pointer", "the file itself", "run git lfs pull")
    try:
        return msgspec.json.decode(data, type=TokenizerFile)
    except msgspec.ValidationError as error:
        what = f"is no tokenizer.json ({error})"
        raise TokenizerError(path, what, "the format of `tokenizers`", "check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"is not JSON ({error})"
        raise TokenizerError(path, what, "a tokenizer.json", _ANEW) from error


def _check_normalizer(normalizer: Any, path: Path) -> None:
    """Refuse a normalizer that makes texts so long that `tokenizers` would take all memory."""
    times, todo = 1, [normalizer]
    for part in todo:  # grows while it is read
        if not isinstance(part, dict):
            continue
        todo += part["normalizers"] if isinstance(part.get("normalizers"), list) else []
        written = [part[name] for name in ("content", "prepend") if isinstance(part.get(name), str)]
        times *= max(1, *map(len, written)) if written else 1
        charsmap = part.get("precompiled_charsmap")
        if times > _MOST_GROWTH:
            what, expected = f"makes a text {times:,} times as long", f"{_MOST_GROWTH:,} at most"
        elif isinstance(charsmap, str) and _is_cut_off(charsmap):
            what = "precompiled_charsmap ends before the part that it says it has"
            expected = "a whole one"
        else:
            continue
        raise TokenizerError(
            f"{path}: normalizer", what, expected, "use the file that the model was published with"
        )


def _is_cut_off(charsmap: str) -> bool:
    """Return whether a map in base64 is shorter than its first four bytes say."""
    try:
        data = base64.b64decode(charsmap)
    except ValueError:
        return False  # `tokenizers` refuses it
    return int.from_bytes(data[:4], "little") > len(data) - 4


def refuse_surrogate(piece: str, where: str) -> None:
    """Raise TokenizerError if a text has half of a surrogate pair, which is not Unicode text."""
    try:
        piece.encode()
    except UnicodeEncodeError as error:
        what = f"{piece[error.start]!a} at character {error.start} of a text"
        raise TokenizerError(where, what, "Unicode text", "remove the lone surrogate") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if there is no file."""
    if not os.path.lexists(path):  # a link to nothing is an error
        return {}
    try:
        value = json.loads(_read(path, limit=_MAX_CONFIG_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(path, f"is not JSON ({error})", "a JSON object", _ANEW) from error
    if not isinstance(value, dict):
        raise TokenizerError(path, f"is a {type(value).__name__}", "a JSON object", _ANEW)
    return value


def special_tokens_of(config: dict[str, Any], directory: Path) -> dict[str, str | list[str]]:
    """Return the special tokens by name; the first file that has a name decides.

    As in transformers: `tokenizer_config.json` comes before `special_tokens_map.json` if it
    lists `added_tokens_decoder`, as newer ones do; otherwise the map comes first.
    """
    token_map = read_json(directory / "special_tokens_map.json")
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
            refuse_surrogate(name, str(directory / file))
            if name not in found:
                found[name] = _token_texts(value, f"{directory / file}: {name}")
    return {name: token for name, token in found.items() if token is not None}


def _token_texts(value: object, where: str) -> str | list[str] | None:
    if not isinstance(value, list):
        return _token_text(value, where)
    texts = [_token_text(token, f"{where}[{i}]") for i, token in enumerate(value)]
    return [text for text in texts if text is not None]


def _token_text(value: object, where: str) -> str | None:
    """Return the text of a token written as a string or an object; None for null."""
    text = value.get("content") if isinstance(value, dict) else value
    if isinstance(text, str):
        refuse_surrogate(text, where)
    if text is None or isinstance(text, str):
        return text
    expected = 'a string, an object with "content" or null'
    raise TokenizerError(where, f"is a {type(text).__name__}", expected, "write the token's text")


def eos_tokens(
    special_tokens: dict[str, str | list[str]],
    added: Mapping[int, tuple[str, bool]],
    lookup: Lookup,
    directory: Path,
) -> tuple[str, ...]:
    """List the texts of the tokens that end a generation, each once."""
    path = directory / "generation_config.json"
    listed = read_json(path).get("eos_token_id")
    ids = listed if isinstance(listed, list) else [] if listed is None else [listed]
    if not all(type(token) is int and 0 <= token < 1 << 32 for token in ids):
        raise TokenizerError(
            path, f"eos_token_id: {listed!r}", "a token's id or a list of them", "write the id"
        )
    named = special_tokens.get("eos_token")
    found = [named, *(added[id_][0] if id_ in added else lookup()(id_) for id_ in ids)]
    return tuple(dict.fromkeys(text for text in found if isinstance(text, str) and text))


def model_max_length(config: dict[str, Any]) -> int | None:
    """Return how many tokens a model takes according to the config; None if it does not say."""
    length = config.get("model_max_length")
    return length if type(length) is int and 0 < length < _ABSURD_LENGTH else None
