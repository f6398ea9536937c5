"""Every character beside what pre-tokenizers look at, by fast backends and by the reference.

    python tests/backends_sweep.py                  all tokenizers, in half an hour
    python tests/backends_sweep.py qwen3 --share .01

prints for each tokenizer and backend how many texts differ, and how many of them a run would
give to the backend: those that are settled. That has to be none.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from assets import TOKENIZERS, tokenizer_dir

from reasonpack.tokens import fast_backends as backends
from reasonpack.tokens.settled_characters import is_settled
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

Item = TypeVar("Item")
Flat = tuple[np.ndarray, np.ndarray]
BATCH = 20_000

LEFT = ["", "a", "A", "é", "1", " ", "  ", "\n", "'", "I'", " I'", '"', "(", "汉", "\u0301", "'ſ"]
RIGHT = ["", "'s", "'T", "'ll", '"a', "(e", "234", "a", "B", " ", "\n\n", "’s", "字", "\u0327", "K"]
FOLDING = "\u017f\u212a"
FRAMES = [*itertools.product(LEFT, RIGHT)]  # characters in turn take every fourth of them
FEW = [("", "'s"), ('"', '"a'), (" ", "(e"), ("A'", "a"), ("1", "234"), ("a", " \n"), ("汉", "B")]
BITS = """
    's 't 'll 'RE 'D ’s ' I' ſ \u212a K k S s " . a b A 1 12 999 ( / e \u0301 \u0327 é 汉 ア ß İ ı
    - = _ # 한 \u1112\u1161\u11ab \U0001f600 \U0001f44d\U0001f3fd \ufe0f \u200d \u0e33 \u0f71
    \ue000 ١ ½ Ⅻ ǅ ʰ \u0903 \u20dd ‿ — « » € ^ © \xad
""".split()  # noqa: SIM905
BITS += [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", " \n", "\x00"]


def everything() -> tuple[list[str], list[str]]:
    """List assigned characters and some others, as (ideographs and syllables, all the rest)."""
    others, bulk = [], []
    before = ""
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category in {"Cn", "Co"} and before == category and code % 29:
            continue  # in the midst of such characters
        before = category
        if category == "Lo" and code > 0x3400:
            bulk.append(character)
        elif category != "Cs" and (code < 0x40000 or code % 9973 == 0):
            others.append(character)
    return bulk, others


def texts(share: float, chance: random.Random) -> Iterator[str]:
    """Make the texts of a sweep, or a share of them: 4.5 million in all."""

    def some(items: Sequence[Item]) -> Sequence[Item]:
        return items if share == 1 else chance.sample(items, math.ceil(len(items) * share))

    bulk, others = everything()
    for one, (left, right) in itertools.product(some(bulk), FEW):
        yield f"{left}{one}{right}"
    for place, one in enumerate(some(others)):
        for left, right in FRAMES[place % 4 :: 4]:
            yield f"{left}{one}{right}"
    for one, (left, right) in itertools.product(FOLDING, FRAMES):
        yield f"{left}{one}{right}"
    marks = [*filter(unicodedata.combining, others)]
    marks += [one for one in others if unicodedata.category(one) == "Cn"][::20]
    for one, other in itertools.product(some(marks), marks):
        yield f"a{one}{other}"
    for three in some([*itertools.product(BITS, repeat=3)]):
        yield "".join(three)
    by_category: dict[str, list[str]] = {}
    for one in bulk + others:
        by_category.setdefault(unicodedata.category(one), []).append(one)
    of_each = [*by_category.values()]
    for _ in range(int(500_000 * share)):
        exotic = [chance.choice(chance.choice(of_each)) for _ in range(chance.randrange(1, 4))]
        plain = chance.choices(BITS, k=chance.randrange(1, 6))
        yield "".join(chance.sample(exotic + plain, len(exotic) + len(plain)))


@dataclass
class Found:
    """What a sweep of one tokenizer found of one backend."""

    texts: int = 0
    settled: int = 0
    differ: int = 0
    wrong: list[str] = field(default_factory=list)  # the settled ones that differ
    classes: Counter[str] = field(default_factory=Counter)  # of unsettled characters that differ


def sweep(tokenizer: Tokenizer, share: float, seed: int = 0) -> dict[str, Found | str]:
    """Compare each backend that can be loaded; else give why it cannot."""
    found: dict[str, Found | str] = {}
    loaded: dict[str, backends.EncodeFlat] = {}
    for name in backends.installed():
        try:
            loaded[name] = backends._LOADERS[name](tokenizer)
            found[name] = Found()
        except BaseException as error:  # noqa: BLE001 (foreign code, which may panic)
            found[name] = repr(error)
    stream = texts(share, random.Random(seed))
    while batch := [*itertools.islice(stream, BATCH)]:
        arrays = tokenizer.encode_batch(batch)
        expected = np.concatenate(arrays), np.cumsum([0, *map(len, arrays)])
        settled = [*map(is_settled, batch)]
        for name, encode_flat in loaded.items():
            of = found[name]
            assert isinstance(of, Found)
            of.texts += len(batch)
            of.settled += sum(settled)
            ids = encode_flat(batch)
            if not all(map(np.array_equal, ids, expected)):
                compare(zip(batch, settled, strict=True), expected, ids, of)
    return found


def compare(texts: Iterator[tuple[str, bool]], expected: Flat, ids: Flat, found: Found) -> None:
    """Note which texts differ."""
    for (text, settled), right, other in zip(texts, each(*expected), each(*ids), strict=True):
        if other != right:
            found.differ += 1
            if settled:
                found.wrong.append(text)
            for one in text:
                if not is_settled(one):
                    found.classes[f"plane {ord(one) >> 16} {unicodedata.category(one)}"] += 1


def each(ids: np.ndarray, offsets: np.ndarray) -> Iterator[list[int]]:
    """Yield the ids of one text after another."""
    flat = ids.tolist()
    return (flat[start:stop] for start, stop in itertools.pairwise(offsets.tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizers", nargs="*", default=TOKENIZERS)
    parser.add_argument("--share", type=float, default=1, help="of the texts, chosen by chance")
    options = parser.parse_args()
    for model in options.tokenizers:
        for name, of in sweep(load_tokenizer(tokenizer_dir(model)), options.share).items():
            if isinstance(of, str):
                print(f"{model} {name}: cannot be used: {of}")
                continue
            print(
                f"{model} {name}: {of.texts:,} texts, {of.differ:,} differ; "
                f"{of.settled:,} settled, {len(of.wrong)} of them differ "
                f"{[*map(ascii, of.wrong[:9])]}; {dict(of.classes.most_common(9))}",
                flush=True,
            )


if __name__ == "__main__":
    main()
