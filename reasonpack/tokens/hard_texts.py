"""Texts on which tokenizers tend to differ: a fast backend must give the reference's ids for all.

They hold borders between classes of characters, runs of white space, forms of one letter,
combining marks in every order, contractions, added tokens and halves of them. Most consist of
settled characters, which the backend encodes; each class of unsettled ones is there too, to
reveal a backend that is given such a text.
"""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Sequence

from reasonpack.tokens.settled_characters import settled_of

_SPACES = ["", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", " \n", "\n ", "\t", "\r\n", "\r", "    "]
_SPACES += ["\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\x0b", "\x0c", "\x85", " " * 17]
_WORDS = """
    don't DON'T we'll WE'LL I'm it's IT'S they've you're he'd 's'S 'tis o'clock ’s don’t 'llama
    camelCase HTTPServer snake_case x1y2 3.14159 1e-9 1,234,567 0xdeadbeef 12345678901 ½ ²³ Ⅻ ١٢٣
    naïve nai\u0308ve A\u030a \u212b ﬁne İstanbul ẞ ς Ǆ 한국어 \u1112\u1161\u11ab 日本語テキスト
    汉字和English混排 ไทย हिन्दी العربية עברית a\u0301\u0327 \u0301 \u200d \ufeff \ufffd
    \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7
    \U0001f44d\U0001f3fd ☃\ufe0f ✈ \ue000 \x00 \x7f \u2581a Ġb Ċ <0x0A>
    https://example.org/a?b=c&d=%20#e foo@bar.example <b>x</b> \\frac{1}{2} $x^2$ !!! ... …… ----
    ==> (){}[]<>+-*/=~`@#%^&|\\;:,.?! «quoted» „so“ <|im_ <|endoftext <think </think
"""
_TEXT = """def f(x: int) -> str:
\tif x>0:
        return f"{x!r}\\n"  # 1st
    \n\n
class A: pass
{"a": [1, 2.50, null], "b": "\\u00e9"}
SELECT * FROM t WHERE id='1';--

  1. First  \n  2. Second"""

_FRAMES = """
    □'s □'t I'□ s'□'te □'Da □(e □"a "□ A□B a□b 1□234 □’s □\u0301 é□ 汉□字 □□ □.□
"""
_FRAMED = "éßİщ汉ア한ไعक١½Ⅻʰ—…€\u200d\u0301\U0001f600\U0001d538\U00020021"
_SPACED_FRAMES = [" □", " I'□", "  □\n\n", "□ \n□", "□\n\na", "\t□ a"]
_UNSETTLED = (
    "\u017f\u212a\u0295"  # fold to ASCII, or changed their category
    "\u0d3b\u08cf\u1ac8\u089d\u1dfa\U0001e131\U00010eab\U00010f46"  # marks since Unicode 10
    "\u1c8a\ua7dc\u20c0\u088f\U0001fadf\U00011de1\U00016ff2"  # since Unicode 14 to 17
    "\u0378\u1ade\ufffe\U0001fbff\U0001ffff"  # not assigned, or not yet when this was written
    "\U0002a700\U00030000\U00033374\U000e0067\U000f0000\U0010ffff"  # beyond the settled ranges
)


def hard_texts(added_tokens: Sequence[str]) -> list[str]:
    """Return texts on which tokenizers tend to differ, some 30,000 tokens.

    Some of the added tokens are put between the texts and cut in half.

    >>> texts = hard_texts(["<|end|>"])
    >>> any("<|end|>" in text for text in texts), texts == hard_texts(["<|end|>"])
    (True, True)
    """
    chance = random.Random(0)  # noqa: S311 (the same texts every time)
    words = _WORDS.split(" ")
    texts = ["", _TEXT, _TEXT.replace("\n", "\r\n"), _WORDS, "a" * 300, "é" * 99, "=" * 130]
    texts += ["".join(pair) for pair in itertools.product(_SPACES, ("a", "1", ".", "é", "汉"))]
    texts += [a + b + "x" + a for a, b in itertools.product(_SPACES[1:], _SPACES[1:])]
    texts += ["7" * length + end for length in range(1, 13) for end in ("", "a", " 7")]
    texts += [left + right for left, right in itertools.pairwise(words)]
    settled = _characters()
    for _ in range(150):
        mixed = chance.choices(settled, k=12)
        mixed[chance.randrange(12)] = chance.choice(_SPACES)
        mixed[chance.randrange(12)] = chance.choice(words)
        texts.append("".join(mixed))
    texts += ["".join(chance.choices(words + _SPACES, k=9)) for _ in range(150)]
    frames, framed = _FRAMES.split() + _SPACED_FRAMES, [*_FRAMED, *settled[::10], *_UNSETTLED]
    texts += [frame.replace("□", one) for frame, one in itertools.product(frames, framed)]
    marks = _marks()
    texts += [f"a{mark}{other}" for mark in marks for other in chance.sample(marks, 8)]
    return texts + _with_added_tokens(added_tokens)


def _characters() -> list[str]:
    """Return settled characters of many blocks, about as many from each general category."""
    by_category: dict[str, list[str]] = {}
    planes = range(0x3400), range(0x3400, 0x10000, 97), range(0x10000, 0x30000, 31)
    for character in settled_of("".join(map(chr, itertools.chain(*planes)))):
        by_category.setdefault(unicodedata.category(character), []).append(character)
    return [
        character
        for characters in by_category.values()
        for character in characters[:: len(characters) // 40 + 1]
    ]


def _marks() -> list[str]:
    """Return a settled combining mark of each combining class, and some unsettled ones."""
    settled = settled_of("".join(map(chr, range(0x300, 0x3100))))
    classes = {unicodedata.combining(mark): mark for mark in settled}
    classes.pop(0)
    return [*classes.values(), *filter(unicodedata.combining, _UNSETTLED)]


def _with_added_tokens(added_tokens: Sequence[str]) -> list[str]:
    """Put added tokens next to text and to each other, and cut some in half."""
    tokens = [*added_tokens[:20], *added_tokens[:: len(added_tokens) // 20 + 1]]
    texts = []
    for token, other in zip(tokens, tokens[1:] + tokens[:1], strict=True):
        texts += [token, f"a{token}b", f" {token} \n{other}{token}", token[:-1] + other, token[1:]]
        texts.append(f"{token}\nuser\nHi{other}\n\n{token[: len(token) // 2]}")
    return texts
