r"""A tokenizer.json → exact ids for text, in pieces that can be encoded apart.

    "<s>Hi<e>\n<s>"  ─cut→  "<s>" "Hi" "<e>" "\n" "<s>"  ─encode_batch→  [1] [17, 9] [2] [5] [1]

The reference is `tokenizers`, encoding the whole text without added special
tokens. Joined, the ids of the pieces are the ids of the whole text: that is the
law of this module. It lets a caller encode a piece once, however often it
occurs.

Why a cut is exact. `tokenizers` encodes a text in stages:

    1  added tokens that are not normalized are found, leftmost-longest, in the
       raw text; each match is one id, and a hard border for all that follows
    2  each stretch between them is normalized, and the normalized added tokens
       are found in it in the same way
    3  each stretch that is left is pre-tokenized and given to the model

So a stretch between two matches of stage 1 never sees its neighbours. Encoding
it alone gives the same ids if stage 1 finds in it what it found before, and if
no component asks where in the text the stretch lies:

  - The matches are the same. The regular expression here holds *every* added
    token of stage 1 and finds them leftmost-longest too. A match starts at the
    first place where any token starts, so none starts in the stretch before it;
    cutting text off behind a match, or before one, adds no match and lengthens
    none.
  - A token with `lstrip`, `rstrip` or `single_word` also looks at the whitespace
    and the word characters beside it. It is never cut at, and once there is one,
    cuts are made only at tokens that begin and end with ASCII punctuation, which
    looks the same to it as an end of the text.
  - Normalizers, pre-tokenizers and models work on one stretch at a time; those
    that are known to are listed here, and any other forbids cutting. One asks for
    the place: Metaspace with `prepend_scheme` "first" prepends at offset 0 of the
    text only. There a token stays in one piece with the text behind it, so that
    no later stretch comes to lie at offset 0.
  - Stage 2 is cut at as well when nothing is normalized and no added token has a
    flag: then its stretches are plain text, and the same argument holds in each.

Whoever is not convinced is not asked to be: hard strings made of the tokenizer's
own added tokens are encoded both ways at load, and one difference forbids
cutting.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import itertools
import json
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
from numpy.typing import NDArray

from reasonpack.errors import TokenizerError, UsageError

__all__ = ["CutRule", "Tokenizer", "cut_text", "load_tokenizer", "longest_first"]

_MAX_TOKENIZER_BYTES = 1 << 30
_MAX_CONFIG_BYTES = 1 << 26
_MAX_ADDED_CHARS = 500_000  # of all added tokens together; Gemma 3 has 70,000
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

# Components that work on one stretch of text at a time, in tokenizers 0.21 to 0.23.
_LOCAL_NORMALIZERS = """
    BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Strip
    StripAccents
"""
_LOCAL_PRE_TOKENIZERS = """
    BertPreTokenizer ByteLevel CharDelimiterSplit Digits FixedLength Metaspace Punctuation Split
    UnicodeScripts Whitespace WhitespaceSplit
"""
_LOCAL_POST_PROCESSORS = "BertProcessing ByteLevel RobertaProcessing TemplateProcessing"
_LOCAL_MODELS = "BPE Unigram WordLevel WordPiece"
_KEEPS_TEXT = "ByteLevel Digits Metaspace NFC NFD NFKC NFKD Prepend"

_NEUTRAL = frozenset(string.punctuation) - {"_"}  # neither whitespace nor a word character


@dataclass(frozen=True, slots=True)
class CutRule:
    """Where a text may be cut.

    Attributes:
        stages: one pattern a stage, matching its added tokens leftmost-longest
            in one group; each stage looks only between the matches of those before.
        opaque: tokens that are matched but never cut at.
        leads: a token starts its piece and keeps the text behind it, instead of
            being a piece of its own.
        reason: why there are cuts, or why there are none.
    """

    stages: tuple[re.Pattern[str], ...]
    opaque: frozenset[str]
    leads: bool
    reason: str


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
            with _refusing(self.source, "a text that it cannot encode", "Leave the text out."):
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
    with _refusing(path, "a tokenizer.json that it refuses", "Write the file anew."):
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
    return Tokenizer(
        source=str(source),
        directory=path.parent,
        sha256=hashlib.sha256(data).hexdigest(),
        config=config,
        special_tokens=_special_tokens(config, path.parent),
        added_tokens=tuple(token.content for token in added),
        model_max_length=_model_max_length(config),
        vocab_size=reference.get_vocab_size(with_added_tokens=True),
        max_token_chars=_max_token_chars(reference, file.model),
        rule=_learn_rule(reference, [token.content for token in file.added_tokens]),
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
            f"({_one_line(error)}), expected a path or a hub id. Fix: Check the name, the "
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


@contextlib.contextmanager
def _refusing(where: str | Path, given: str, fix: str) -> Iterator[None]:
    """Turn any failure inside `tokenizers`, a Rust panic included, into a TokenizerError."""
    try:
        yield
    except BaseException as error:
        # A panic reaches Python as a BaseException whose class cannot be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TokenizerError(
                f"{where}: `tokenizers` was given {given} ({_one_line(error)}), expected no "
                f"error from it. Fix: {fix}"
            ) from error
        raise


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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
    if not path.exists():
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
    if text is None or isinstance(text, str):
        return text
    raise TokenizerError(
        f'{where}: is a {type(text).__name__}, expected a string, an object with "content" or '
        "null. Fix: Write the token's text."
    )


def _model_max_length(config: dict[str, Any]) -> int | None:
    length = config.get("model_max_length")
    return length if type(length) is int and 0 < length < _ABSURD_LENGTH else None


# --- Where cuts are exact --------------------------------------------------------------


def longest_first(tokens: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that finds these tokens leftmost-longest, in one group.

    The tokens become a trie, in which the alternatives at a place differ in their
    first character and a longer token is tried before its own prefix:

        <t>, <tool>, <tools>  →  (<t(?:>|ool(?:>|s>)))

    That is what makes thousands of tokens cost no more than one.

    >>> longest_first(["<t>", "<t>x", "<tool>"]).split("a<t>xx<t><tool")
    ['a', '<t>x', 'x', '<t>', '<tool']
    """
    root: dict[str, Any] = {}
    for token in tokens:
        node = root
        for character in token:
            node = node.setdefault(character, {})
        node[""] = {}
    return re.compile(f"({_trie_pattern(root)})")


def _trie_pattern(node: dict[str, Any]) -> str:
    leaves, branches = [], []
    for character, child in node.items():
        if character and child.keys() == {""}:
            leaves.append(re.escape(character))
        elif character:
            branches.append(re.escape(character) + _trie_pattern(child))
    if leaves:
        branches.append(f"[{''.join(leaves)}]" if len(leaves) > 1 else leaves[0])
    if "" in node:
        return f"(?:{'|'.join(branches)})?" if branches else ""
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def cut_text(text: str, rule: CutRule) -> list[str]:
    """Cut a text at the added tokens that a rule allows.

    >>> tokens = longest_first(["<s>", "<mask>"])
    >>> cut_text("<s>a <mask> b<s>", CutRule((tokens,), frozenset({"<mask>"}), False, ""))
    ['<s>', 'a <mask> b', '<s>']
    >>> cut_text("a<s>b<s>c", CutRule((tokens,), frozenset(), True, ""))
    ['a', '<s>b', '<s>c']
    """
    parts = [text]  # stretch, token, stretch, …: what stands at odd places is a token
    for stage in rule.stages:
        split: list[str] = []
        for i, part in enumerate(parts):
            split += (part,) if i % 2 else stage.split(part)
        parts = split
    if not rule.opaque and not rule.leads:
        return [part for part in parts if part]
    edges, end = [0], 0
    for stretch, token in zip(parts[::2], parts[1::2], strict=False):
        start = end + len(stretch)
        end = start + len(token)
        if token not in rule.opaque:
            edges += [start] if rule.leads else [start, end]
    edges.append(len(text))
    return [text[a:b] for a, b in itertools.pairwise(edges) if a < b]


def _learn_rule(reference: tokenizers.Tokenizer, listed: list[str]) -> CutRule:
    """Decide where this tokenizer may be cut, by argument first and then by experiment.

    `listed` are the added tokens as the file writes them.
    """
    added = list(reference.get_added_tokens_decoder().values())
    try:
        obstacle = _obstacle(reference, [token.content for token in added], listed)
        rule = _whole(obstacle) if obstacle else _argued_rule(reference, added)
    except (RecursionError, OverflowError, re.error):
        return _whole("its added tokens are too long for a pattern")
    texts = _hard_texts(listed) if rule.stages else ()
    for text in texts:
        try:
            with _refusing("", "a text made of added tokens", ""):
                same = _ids(reference, cut_text(text, rule)) == _ids(reference, [text])
        except TokenizerError as error:
            return _whole(f"the check of cutting failed: {error.__cause__}")
        if not same:
            return _whole(f"cut and whole differ on {text!r}")
    return rule


def _whole(reason: str) -> CutRule:
    return CutRule(stages=(), opaque=frozenset(), leads=False, reason=f"whole: {reason}")


def _obstacle(reference: tokenizers.Tokenizer, added: list[str], listed: list[str]) -> str | None:
    """Name what stands against the argument for cutting; None if nothing does."""
    if (model := type(reference.model).__name__) not in _LOCAL_MODELS.split():
        return f"model {model} is not known to be local"
    for kind, component, local in (
        ("normalizer", reference.normalizer, _LOCAL_NORMALIZERS),
        ("pre-tokenizer", reference.pre_tokenizer, _LOCAL_PRE_TOKENIZERS),
        ("post-processor", reference.post_processor, _LOCAL_POST_PROCESSORS),
    ):
        for part in _parts(component):
            if part["type"] not in local.split():
                return f"{kind} {part['type']} is not known to be local"
            if part["type"] == "TemplateProcessing" and not _adds_only(part["single"]):
                return "post-processor TemplateProcessing does more than add tokens"
    if sorted(added) != sorted(filter(None, listed)):
        return "an added token is listed twice, or shares its id with another"
    if sum(map(len, added)) > _MAX_ADDED_CHARS:
        return f"its added tokens have more than {_MAX_ADDED_CHARS} characters"
    return None


def _parts(component: Any) -> list[dict[str, Any]]:
    """Flatten a component, as `tokenizers` understood it, with its defaults filled in.

    >>> _parts(tokenizers.normalizers.Sequence([tokenizers.normalizers.NFC()]))
    [{'type': 'NFC'}]
    """

    def flatten(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
        lists = [value for value in state.values() if isinstance(value, list)]
        if state["type"] != "Sequence" or len(lists) != 1:
            yield state
        else:
            for child in lists[0]:
                yield from flatten(child)

    return [] if component is None else list(flatten(json.loads(component.__getstate__())))


def _adds_only(template: list[dict[str, Any]]) -> bool:
    """Say whether a template has the text once: then, without special tokens, it does nothing."""
    sequences = [piece["Sequence"]["id"] for piece in template if "Sequence" in piece]
    return sequences == ["A"]


def _argued_rule(reference: tokenizers.Tokenizer, added: list[Any]) -> CutRule:
    """Build the rule that the module's argument allows, where nothing stands against it."""
    raw = [token for token in added if not token.normalized]
    normalized = [token for token in added if token.normalized]
    flagged = {t.content for t in added if t.lstrip or t.rstrip or t.single_word}
    opaque = {t.content for t in raw if t.content in flagged}
    if opaque:
        opaque |= {t.content for t in raw if not {t.content[0], t.content[-1]} <= _NEUTRAL}
    stages = [raw] if raw else []
    if normalized and not flagged and not _parts(reference.normalizer):
        stages.append(normalized)
    count = sum(map(len, stages)) - len(opaque)
    if count == 0:
        return _whole("no added token is safe to cut at")
    leads = any(
        part["type"] == "Metaspace" and part.get("prepend_scheme") not in {"always", "never"}
        for part in _parts(reference.pre_tokenizer)
    )
    return CutRule(
        stages=tuple(longest_first(token.content for token in stage) for stage in stages),
        opaque=frozenset(opaque),
        leads=leads,
        reason=f"cut at {count} of {len(added)} added tokens"
        + (", each kept with the text behind it" if leads else ""),
    )


def _hard_texts(contents: list[str]) -> Iterator[str]:
    """Make a few texts in which a wrong cut would show: what can change beside a token."""
    step = max(1, len(contents) // 12)
    sample = sorted(contents, key=len)[::step]
    beside = ["a", " ", "", "e", "\u0301", "\n\n", "  b", "<", "1", "한", " \u200d", "A'"]
    for i, token in enumerate(sample):
        other = sample[i - 1]
        edges = beside[i % len(beside) :] + beside[: i % len(beside)]
        yield token.join(edges)
        yield f" {token}{other}{token[:-1]}{other} {token} {other[1:]}\n{token}x{token}"


def _ids(reference: tokenizers.Tokenizer, pieces: list[str]) -> list[int]:
    return [
        token for piece in pieces for token in reference.encode(piece, add_special_tokens=False).ids
    ]


# --- How much text a token can stand for -----------------------------------------------


def _max_token_chars(reference: tokenizers.Tokenizer, model: dict[str, msgspec.Raw]) -> int | None:
    """Bound the source characters of one token, or give None where text can vanish.

    Holds for BPE that can spell every byte, so that no text is unknown, behind
    components that drop nothing. There a token stands for no more characters than
    its own string has, unless characters were composed: one that NFC or NFKC made
    stands for at most 4, and for at most 2 for each of its bytes in UTF-8.
    """
    normalizers, pre_tokenizers = _parts(reference.normalizer), _parts(reference.pre_tokenizer)
    added = reference.get_added_tokens_decoder().values()
    composers = sum(part["type"] in {"NFC", "NFKC"} for part in normalizers)
    if (
        type(reference.model).__name__ != "BPE"
        or reference.model.continuing_subword_prefix
        or reference.model.end_of_word_suffix
        or composers > 1
        or not all(map(_keeps_text, normalizers + pre_tokenizers))
        or any(token.lstrip or token.rstrip for token in added)
    ):
        return None
    byte_level = bool(pre_tokenizers) and pre_tokenizers[-1]["type"] == "ByteLevel"
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    if byte_level:
        spelled = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    elif not reference.model.byte_fallback:
        return None
    vocabulary = msgspec.json.decode(model["vocab"], type=dict[str, int])
    if not vocabulary.keys() >= set(spelled):
        return None
    only_composed = byte_level and len(normalizers) == 1
    bounds = [max(map(len, vocabulary)) * ((2 if only_composed else 4) if composers else 1)]
    for token in added:
        bounds.append(len(token.content))
        if token.normalized and normalizers:
            matched = reference.normalizer.normalize_str(token.content)
            bounds.append(len(matched) * (4 if composers else 1))
    return max(bounds)


def _keeps_text(part: dict[str, Any]) -> bool:
    """Say whether a component gives at least one character for each that it takes."""
    match part["type"]:
        case "Split" | "Punctuation":
            return bool(part["behavior"] != "Removed")
        case "Replace":
            return len(part["pattern"].get("String", "")) == 1 and part["content"] != ""
        case kind:
            return kind in _KEEPS_TEXT.split()
