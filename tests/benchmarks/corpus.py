"""Make a corpus of chats to measure with, from the text that a machine has.

    python tests/benchmarks/corpus.py --megabytes 20 chats.jsonl

    sources of Python modules ─→ paragraphs (docstrings, comments) and functions ─┐
    characters of GB 2312, drawn like words ─→ Chinese                           ├→ chats
    formulas, drawn from a grammar ─→ mathematics ───────────────────────────────┘

Lengths are log-normal, chats have 1 to 32 turns, one in five calls tools, reasoning has
400 to 1,500 tokens. No paragraph or function occurs twice before all of them have
occurred; from then on their sentences and lines are shuffled. So a cache of texts finds
nothing in it that it would not find in real chats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHARACTERS_PER_TOKEN = 3.8
_DOCSTRING = re.compile(r'"""(.{200,3000}?)"""', re.DOTALL)
_FUNCTION = re.compile(r"^( *)(?:def|class) .*\n(?:(?:\1 +.*)?\n){4,40}", re.MULTILINE)
SYSTEMS = ["You are a careful assistant.", "Answer briefly.", "You write and explain code."]
TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}

Draw = Callable[[int], str]
"""Makes a text of about so many characters."""


def chats(
    megabytes: float,
    *,
    seed: int = 0,
    turns: int | None = None,
    mean_turns: float = 4.0,
    tools: float = 0.2,
) -> Iterator[dict[str, Any]]:
    """Yield chats whose texts have so many megabytes in all.

    Args:
        megabytes: of text, in characters.
        seed: of everything drawn.
        turns: how many each chat has; None draws 1 to 32.
        mean_turns: about how many, where they are drawn.
        tools: the share of chats that call tools.
    """
    chance = random.Random(seed)
    draws = _draws(chance)
    written = number = 0
    while written < megabytes * 1e6:
        count = turns or min(32, max(1, round(chance.lognormvariate(0, 0.8) * mean_turns * 0.7)))
        chat = _chat(chance, draws, number, count, tools)
        written += sum(
            len(message.get(key) or "")
            for message in chat["messages"]
            for key in ("content", "reasoning_content")
        )
        number += 1
        yield chat


def short_chats(count: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield so many chats of one answer and some 500 characters."""
    chance = random.Random(seed)
    draws = _draws(chance)
    for number in range(count):
        (draw,) = chance.choices(draws, [5, 3, 2, 2])
        answer = {"role": "assistant", "content": draw(130), "reasoning_content": draw(250)}
        yield {"id": f"chat-{number}", "messages": [{"role": "user", "content": draw(130)}, answer]}


def _chat(
    chance: random.Random, draws: list[Draw], number: int, turns: int, share: float
) -> dict[str, Any]:
    (draw,) = chance.choices(draws, [5, 3, 2, 2])
    tools = chance.random() < share

    def length(median: float, spread: float, most: float) -> int:
        tokens = min(most, chance.lognormvariate(0, spread) * median)
        return round(CHARACTERS_PER_TOKEN * tokens)

    def reasoning() -> str:
        return draw(round(CHARACTERS_PER_TOKEN * chance.uniform(400, 1500)))

    messages: list[dict[str, Any]] = []
    if chance.random() < 0.5:
        messages.append({"role": "system", "content": chance.choice(SYSTEMS)})
    for _ in range(turns):
        messages.append({"role": "user", "content": draw(length(60, 1.0, 2000))})
        for step in range(chance.randint(1, 4) if tools else 0):
            call = {"name": "search", "arguments": {"query": draw(60), "page": step}}
            messages.append(
                {
                    "role": "assistant",
                    "content": "",
                    "reasoning_content": draw(length(150, 0.6, 600)),
                    "tool_calls": [{"type": "function", "function": call}],
                }
            )
            messages.append({"role": "tool", "content": draw(length(200, 0.9, 3000))})
        answer = draw(length(180, 0.8, 3000))
        messages.append({"role": "assistant", "content": answer, "reasoning_content": reasoning()})
    chat: dict[str, Any] = {"id": f"chat-{number}", "messages": messages}
    return {**chat, "tools": [TOOL]} if tools else chat


def _draws(chance: random.Random) -> list[Draw]:
    """Return what draws English, code, mathematics and Chinese."""
    prose, code = _of_this_machine(chance)
    return [
        _pool(chance, prose, "\n\n", re.compile(r"(?<=[.:;])\s+")),
        _pool(chance, code, "\n\n", re.compile(r"\n")),
        lambda length: _until(length, lambda: _mathematics(chance)),
        _chinese(chance),
    ]


def _of_this_machine(
    chance: random.Random, wanted: int = 60_000_000
) -> tuple[list[str], list[str]]:
    """Collect paragraphs and functions from the Python modules that are installed."""
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    chance.shuffle(files)
    prose: dict[str, None] = {}
    code: dict[str, None] = {}
    seen = 0
    for path in files:
        text = path.read_text("utf-8", errors="ignore")
        if len(text) > 400_000:
            continue  # tables, not code
        if "<|" in text or "</" in text:
            continue  # it may hold special tokens, of which a chat must be clear
        seen += len(text)
        for match in _DOCSTRING.finditer(text):
            paragraphs = re.split(r"\n\s*\n", match[1])
            prose.update((" ".join(part.split()), None) for part in paragraphs if len(part) > 80)
        code.update((match[0].rstrip(), None) for match in _FUNCTION.finditer(text))
        if seen > wanted:
            break
    return list(prose), list(code)


def _pool(chance: random.Random, pool: list[str], between: str, cut: re.Pattern[str]) -> Draw:
    """Draw from a pool without putting back; when it is empty, from its shuffled parts."""
    if not pool:
        raise SystemExit("no text of this kind on this machine, expected Python's own sources")
    chance.shuffle(pool)
    parts: list[str] = []
    state = {"next": 0}

    def draw_one() -> str:
        if state["next"] < len(pool):
            state["next"] += 1
            return pool[state["next"] - 1]
        if not parts:
            parts.extend(part for text in pool for part in cut.split(text))
        return " ".join(chance.choices(parts, k=4))

    return lambda length: _until(length, draw_one, between)


def _until(length: int, draw: Callable[[], str], between: str = "\n\n") -> str:
    texts: list[str] = []
    while length > 0:
        texts.append(draw()[: length + 1])
        length -= len(texts[-1]) + len(between)
    # White space at the ends is what templates strip and people do not write.
    return between.join(texts).strip() or "?"


def _mathematics(chance: random.Random) -> str:
    def term(depth: int) -> str:
        if depth == 0:
            return chance.choice([f"{chance.randint(2, 9999)}", chance.choice("abcnxyz")])
        a, b = term(depth - 1), term(chance.randrange(depth))
        forms = [f"{a} + {b}", rf"\frac{{{a}}}{{{b}}}", f"({a})^{{{b}}}", rf"\sqrt{{{a} - {b}}}"]
        forms += [rf"{a} \cdot {b}", rf"\sum_{{k=1}}^{{{b}}} {a}", rf"\int_0^{{{b}}} {a}\,dx"]
        return chance.choice(forms)

    links = ["so that", "and therefore", "which gives", "because", "we substitute", "but then"]
    steps = [f"${term(3)} = {term(2)}$, {chance.choice(links)}" for _ in range(4)]
    return " ".join(steps) + f" ${term(2)}$."


def _chinese(chance: random.Random) -> Draw:
    """Draw words of one to three common characters, as often as words of that rank are."""
    common = [
        bytes((0xA0 + row, 0xA0 + cell)).decode("gb2312")
        for row in range(16, 56)
        for cell in range(1, 95)
        if (row, cell) < (55, 90)
    ]
    words = [
        "".join(chance.choices(common, k=chance.choice([1, 2, 2, 2, 3]))) for _ in range(20000)
    ]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))

    def sentence() -> str:
        count = chance.randint(6, 25)
        drawn = chance.choices(words, cum_weights=weights, k=count)
        drawn.insert(len(drawn) // 2, ",")
        return "".join(drawn) + chance.choice("。。。?!")

    # A Chinese character is about two thirds of a token.
    return lambda length: _until(round(length / CHARACTERS_PER_TOKEN * 1.5), sentence, "")


def main() -> None:
    """Write a corpus to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--turns", type=int, help="as many in every chat")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with arguments.output.open("w", encoding="utf-8") as file:
        for chat in chats(arguments.megabytes, seed=arguments.seed, turns=arguments.turns):
            file.write(json.dumps(chat, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
