r"""A tokenizer's pipeline → where a text may be cut into pieces that are encoded apart.

    "<s>Hi<e>\n<s>"  ──→  "<s>" "Hi" "<e>" "\n" "<s>"

Why a cut is exact. `tokenizers` encodes a text in stages:

    1  added tokens that are not normalized are found, leftmost-longest, in the
       raw text; each match is one id, and a border for all later stages
    2  each stretch between them is normalized, and the normalized added tokens
       are found in it in the same way
    3  each remaining stretch is pre-tokenized and given to the model

So a stretch between two matches of stage 1 does not depend on its neighbours.
Encoding it alone gives the same ids if stage 1 finds the same matches in it, and
if no component depends on where in the text the stretch lies:

  - The matches are the same. The regular expression here holds *every* added
    token of stage 1 and finds them leftmost-longest too. A match starts at the
    first place where any token starts, so none starts in the stretch before it;
    cutting text off after a match, or before one, adds no match and lengthens
    none.
  - A token with `lstrip`, `rstrip` or `single_word` also looks at the whitespace
    and the word characters next to it. No cut is made at such a token, and if there
    is one, cuts are made only at tokens that begin and end with ASCII punctuation,
    which it treats like an end of the text.
  - Normalizers, pre-tokenizers and models work on one stretch at a time; those
    known to do so are listed here, and any other forbids cutting. One depends on
    the offset: Metaspace with `prepend_scheme` "first" prepends only at offset 0 of
    the text. For it a token stays in one piece with the text after it, so that no
    later stretch has offset 0.
  - Cuts are made at tokens of stage 2 too if nothing is normalized and no added token
    has a flag: then its stretches are plain text, and the same argument holds in each.

The argument is tested too: when a tokenizer is loaded, hard strings made of its own
added tokens are encoded both ways, and one difference forbids cutting.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers

from reasonpack.errors import TokenizerError
from reasonpack.tokens.cut import CutRule, cut_text
from reasonpack.wording import one_line

_MAX_ADDED_CHARS = 500_000  # of all added tokens together; Gemma 3 has 76,000

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
LOCAL_MODELS = "BPE Unigram WordLevel WordPiece"

_NEUTRAL = frozenset(string.punctuation) - {"_"}  # neither whitespace nor a word character


@contextlib.contextmanager
def refusing(where: str | Path, what: str, expected: str) -> Iterator[None]:
    """Turn any failure inside `tokenizers`, a Rust panic included, into a TokenizerError."""
    try:
        yield
    except BaseException as error:
        # A panic reaches Python as a BaseException whose class cannot be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TokenizerError(
                where,
                f"`tokenizers` {what} ({type(error).__name__}: {one_line(error)})",
                expected,
                "see that the tokenizer is whole, and made for texts such as these",
            ) from error
        raise


def longest_first(tokens: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that finds these tokens leftmost-longest, in one group.

    The tokens become a trie, in which the alternatives at a place differ in their
    first character and a longer token is tried before its own prefix:

        <t>, <tool>, <tools>  →  (<t(?:>|ool(?:>|s>)))

    So a search for thousands of tokens costs no more than for one.

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


def learn_rule(reference: tokenizers.Tokenizer, listed: list[str]) -> CutRule:
    """Decide where texts may be cut for a tokenizer: by the argument above, then by a test.

    `listed` are the added tokens as the file writes them.
    """
    added = list(reference.get_added_tokens_decoder().values())
    try:
        obstacle = _obstacle(reference, [token.content for token in added], listed)
        rule = _no_cuts(obstacle) if obstacle else _argued_rule(reference, added)
    except (RecursionError, OverflowError, re.error):
        return _no_cuts("its added tokens are too long for a pattern")
    texts = _hard_texts(listed) if rule.stages else ()
    ids = functools.cache(lambda piece: reference.encode(piece, add_special_tokens=False).ids)
    for text in texts:  # made of few distinct pieces, so the cache helps
        try:
            with refusing("", "fails", "ids"):
                same = [*itertools.chain.from_iterable(map(ids, cut_text(text, rule)))] == ids(text)
        except TokenizerError as error:
            return _no_cuts(f"the check of cutting failed: {error.__cause__}")
        if not same:
            return _no_cuts(f"cut and whole differ on {text!r}")
    return rule


def _no_cuts(reason: str) -> CutRule:
    return CutRule(stages=(), opaque=frozenset(), leads=False, reason=f"whole: {reason}")


def _obstacle(reference: tokenizers.Tokenizer, added: list[str], listed: list[str]) -> str | None:
    """Return why the argument for cutting does not hold; None if it does."""
    if (model := type(reference.model).__name__) not in LOCAL_MODELS.split():
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
    """Return the parts of a component as `tokenizers` parsed it, with its defaults filled in.

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
    """Return whether a template has the text once; if so, it only adds special tokens."""
    sequences = [piece["Sequence"]["id"] for piece in template if "Sequence" in piece]
    return sequences == ["A"]


def _argued_rule(reference: tokenizers.Tokenizer, added: list[Any]) -> CutRule:
    """Build the rule that the argument of this module allows, if there is no obstacle."""
    raw = [token for token in added if not token.normalized]
    normalized = [token for token in added if token.normalized]
    flagged = {t.content for t in added if t.lstrip or t.rstrip or t.single_word}
    opaque = {t.content for t in raw if t.content in flagged}
    if opaque:
        opaque |= {t.content for t in raw if not {t.content[0], t.content[-1]} <= _NEUTRAL}
    stages = [raw] if raw else []
    if normalized and not flagged and not _parts(reference.normalizer):
        stages.append(normalized)
    if sum(map(len, stages)) == len(opaque):
        return _no_cuts("no added token is safe to cut at")
    leads = any(
        part["type"] == "Metaspace" and part.get("prepend_scheme") not in {"always", "never"}
        for part in _parts(reference.pre_tokenizer)
    )
    return CutRule(
        stages=tuple(longest_first(token.content for token in stage) for stage in stages),
        opaque=frozenset(opaque),
        leads=leads,
    )


def _hard_texts(contents: list[str]) -> Iterator[str]:
    """Yield texts in which a wrong cut would show: tokens next to what they may change."""
    step = max(1, len(contents) // 12)
    sample = sorted(contents, key=len)[::step]
    beside = ["a", " ", "", "e", "\u0301", "\n\n", "  b", "<", "1", "한", " \u200d", "A'"]
    for i, token in enumerate(sample):
        other = sample[i - 1]
        edges = beside[i % len(beside) :] + beside[: i % len(beside)]
        yield token.join(edges)
        yield f" {token}{other}{token[:-1]}{other} {token} {other[1:]}\n{token}x{token}"
