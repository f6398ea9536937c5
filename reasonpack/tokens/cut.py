"""A text → pieces that can be encoded apart, by a rule that `cut_rule` learns for a tokenizer."""

from __future__ import annotations

import itertools
import re

from msgspec import Struct


class CutRule(Struct, frozen=True):
    """Where a text may be cut.

    Attributes:
        stages: one pattern per stage, matching its added tokens leftmost-longest
            in one group; each stage searches only between the matches of earlier ones.
        opaque: tokens that are matched, but at which no cut is made.
        leads: a token begins a piece with the text after it, instead of being a piece
            of its own.
        reason: why there are no cuts; empty if there are.
    """

    stages: tuple[re.Pattern[str], ...]
    opaque: frozenset[str]
    leads: bool
    reason: str = ""


def cut_text(text: str, rule: CutRule) -> list[str]:
    """Cut a text at the added tokens that a rule allows.

    >>> from reasonpack.tokens.cut_rule import longest_first
    >>> tokens = longest_first(["<s>", "<mask>"])
    >>> cut_text("<s>a <mask> b<s>", CutRule((tokens,), frozenset({"<mask>"}), False))
    ['<s>', 'a <mask> b', '<s>']
    >>> cut_text("a<s>b<s>c", CutRule((tokens,), frozenset(), True))
    ['a', '<s>b', '<s>c']
    """
    parts = [text]  # stretch, token, stretch, …: tokens have odd indices
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
