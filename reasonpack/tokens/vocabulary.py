"""A tokenizer.json → the text of each id, quicker than `tokenizers` loads the file.

    model.vocab   {"a": 0, "b": 1}      BPE, WordLevel, WordPiece; a list of pairs in Unigram
    added_tokens  {"<s>": 2}            the next ids, or the ids that the vocabulary has for them

`tokenizers` numbers the added tokens itself, whatever the file says, and normalizes some. A file
that has other ids is not read here, nor one that normalizes them or has an id or a text twice.
"""

from __future__ import annotations

import msgspec

from reasonpack.tokens.files import TokenizerFile

_TABLES = frozenset({"BPE", "WordLevel", "WordPiece"})


def read_added_tokens(file: TokenizerFile) -> dict[int, tuple[str, bool]] | None:
    """Return the text of each added token, and whether it is special, by id in ascending order.

    Return None if an id or a text is missing or occurs twice.

    >>> from reasonpack.tokens.files import AddedToken
    >>> read_added_tokens(TokenizerFile({}, [AddedToken("<s>", id=2, special=True)]))
    {2: ('<s>', True)}
    """
    tokens = [(token.id, (token.content, token.special)) for token in file.added_tokens]
    if not all(type(id_) is int and content for id_, (content, _) in tokens):
        return None
    names = {content for _, (content, _) in tokens}
    found = dict(sorted(tokens))
    return found if len(found) == len(names) == len(tokens) else None


def read_texts(file: TokenizerFile) -> dict[int, str] | None:
    """Return the text of each id, added ones included; None if `tokenizers` might have others.

    >>> from reasonpack.tokens.files import AddedToken
    >>> model = {"type": msgspec.Raw(b'"BPE"'), "vocab": msgspec.Raw(b'{"a": 0, "b": 1}')}
    >>> read_texts(TokenizerFile(model, [AddedToken("<s>", id=2)]))
    {0: 'a', 1: 'b', 2: '<s>'}
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
    return texts if len(texts) == len(ids) and min(texts, default=0) >= 0 else None


def _ids(file: TokenizerFile) -> dict[str, int]:
    """Return the ids of the model's own tokens; raise KeyError if this is not possible."""
    kind = msgspec.json.decode(file.model["type"], type=str)
    if kind in _TABLES:
        return msgspec.json.decode(file.model["vocab"], type=dict[str, int])
    if kind == "Unigram":
        pieces = msgspec.json.decode(file.model["vocab"], type=list[tuple[str, float]])
        found = {piece: id_ for id_, (piece, _) in enumerate(pieces)}
        if len(found) == len(pieces):
            return found
    raise KeyError(kind)
