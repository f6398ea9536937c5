"""A tokenizer.json → the text of each id, quicker than `tokenizers` loads the file.

    model.vocab   {"a": 0, "b": 1}      BPE, WordLevel, WordPiece; a list of pairs in Unigram
    added_tokens  {"<s>": 2}            of the next ids, or of that which the vocabulary gives it

`tokenizers` numbers the added tokens itself, whatever the file says, and writes some normalized. A
file that says otherwise is not read here, nor is one that gives an id or a text twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from reasonpack.tokens.files import TokenizerFile

_TABLES = frozenset({"BPE", "WordLevel", "WordPiece"})


class Vocabulary(Struct, frozen=True):
    """The tokens of a tokenizer.

    Attributes:
        texts: of each id, the added ones included.
        added: the texts of added tokens, in the order of their ids.
        special: of those that are special.
    """

    texts: Mapping[int, str]
    added: tuple[str, ...]
    special: frozenset[str]


def read_vocabulary(file: TokenizerFile) -> Vocabulary | None:
    """Read the tokens of a file; None where `tokenizers` may see others in it.

    >>> from reasonpack.tokens.files import AddedToken
    >>> model = {"type": msgspec.Raw(b'"BPE"'), "vocab": msgspec.Raw(b'{"a": 0, "b": 1}')}
    >>> added = [AddedToken("<s>", id=2, special=True)]
    >>> read_vocabulary(TokenizerFile(model, added))
    Vocabulary(texts={0: 'a', 1: 'b', 2: '<s>'}, added=('<s>',), special=frozenset({'<s>'}))
    """
    try:
        ids = _ids(file)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
        return None
    following = len(ids)
    normalizes = file.normalizer not in (None, {"type": "Sequence", "normalizers": []})
    for token in file.added_tokens:
        same = ids.setdefault(token.content, following) == token.id
        if not same or not token.content or (normalizes and token.normalized is not False):
            return None
        following = max(following, token.id + 1)
    texts = {id_: text for text, id_ in ids.items()}
    added = sorted(file.added_tokens, key=lambda token: token.id)
    names = tuple(token.content for token in added)
    if len(texts) < len(ids) or len({*names}) < len(names) or min(texts, default=-1) < 0:
        return None
    return Vocabulary(texts, names, frozenset(token.content for token in added if token.special))


def _ids(file: TokenizerFile) -> dict[str, int]:
    """Return the ids of the model's own tokens."""
    kind = msgspec.json.decode(file.model["type"], type=str)
    if kind in _TABLES:
        return msgspec.json.decode(file.model["vocab"], type=dict[str, int])
    if kind == "Unigram":
        pieces = msgspec.json.decode(file.model["vocab"], type=list[tuple[str, float]])
        found = {piece: id_ for id_, (piece, _) in enumerate(pieces)}
        if len(found) == len(pieces):
            return found
    raise KeyError(kind)
