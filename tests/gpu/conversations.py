"""Synthetic conversations of given lengths, laid out in each of the ways that are compared.

Profile, turns ── views ──▶ lay_out ─┬─ "onepass"   h t r_out r_in h …
                                     └─ "npass"     one plain sample a leaf
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the script's folder alone is there
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from encoded import EncodedView, encoded_view, lay_out

from reasonpack.rows.packing import best_fit

LayoutName = Literal["onepass", "npass"]
THINK, ANSWER, MESSAGE, FIRST_WORD = 1, 2, 3, 4


@dataclass(frozen=True)
class Profile:
    """Mean lengths in tokens; a turn is a message and `steps` of reasoning, response, tool result.

    `steps` above 1 is a tool loop: its reasoning is kept until the user speaks again.
    """

    message: int
    reasoning: int
    response: int
    steps: int = 1
    tool_result: int = 0
    system: int = 64

    def tokens(self, turns: int) -> int:
        """Estimate the tokens of a onepass row of one conversation."""
        kept = self.steps * self.response + (self.steps - 1) * self.tool_result
        written = kept + self.steps * self.reasoning  # kept is read again without reasoning
        return self.system + turns * (self.message + written + kept)


PROFILES: dict[str, Profile] = {
    "chat": Profile(message=60, reasoning=100, response=250),
    "equal": Profile(message=256, reasoning=256, response=256),
    "agentic": Profile(
        message=80, reasoning=120, response=80, steps=10, tool_result=400, system=1500
    ),
    "long-reasoning": Profile(message=80, reasoning=2000, response=400),
}


@dataclass(frozen=True)
class Sample:
    """T tokens of a forest in pre-order: `i32[T]` each, `visible_until` exclusive."""

    input_ids: NDArray[np.int32]
    position_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    visible_until: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.input_ids)


class Words:
    """Text that can be learned: after each word comes, four times in five, its successor."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        self._random = np.random.default_rng(seed)
        self._vocabulary = vocabulary
        self._successor = np.random.default_rng(0).permutation(vocabulary - FIRST_WORD)

    def text(self, first: int, mean: int) -> list[int]:
        length = max(2, int(mean * self._random.lognormal(-0.08, 0.4)))
        word = int(self._random.integers(len(self._successor)))
        jumps = self._random.random(length) < 0.2
        others = self._random.integers(len(self._successor), size=length)
        words = []
        for jump, other in zip(jumps, others, strict=True):
            word = int(other) if jump else int(self._successor[word])
            words.append(word + FIRST_WORD)
        return [first, *words]


def views(profile: Profile, turns: int, words: Words) -> list[EncodedView]:
    """What the model saw and wrote, one view for each response."""
    found = []
    history = words.text(MESSAGE, profile.system)
    for _ in range(turns):
        kept = history + words.text(MESSAGE, profile.message)
        loop = kept
        for step in range(profile.steps):
            reasoning = words.text(THINK, profile.reasoning)
            response = words.text(ANSWER, profile.response)
            found.append(encoded_view(loop, reasoning + response))
            result = words.text(MESSAGE, profile.tool_result) if step + 1 < profile.steps else []
            loop = loop + reasoning + response + result
            kept = kept + response + result
        history = kept
    return found


def samples(found: Sequence[EncodedView], layout: LayoutName) -> list[Sample]:
    """Lay out one conversation."""
    laid_out = lay_out("", found, layout=layout).samples
    return [
        Sample(
            each.input_ids,
            each.position_ids,
            each.labels,
            np.repeat(
                each.segments.visible_until, np.diff(each.segments.start, append=each.length)
            ),
        )
        for each in laid_out
    ]


def join(parts: Sequence[Sample]) -> Sample:
    """Pack samples into one row."""
    starts = np.cumsum([0] + [len(part) for part in parts])
    return Sample(
        np.concatenate([part.input_ids for part in parts]),
        np.concatenate([part.position_ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([p.visible_until + s for p, s in zip(parts, starts, strict=False)]).astype(
            np.int32
        ),
    )


def rows(
    conversations: Sequence[Sequence[EncodedView]], layout: LayoutName, row_tokens: int
) -> list[Sample]:
    """Lay out and pack conversations into rows of at most `row_tokens` tokens."""
    made = list(itertools.chain(*(samples(found, layout) for found in conversations)))
    members = best_fit([len(sample) for sample in made], row_tokens)
    return [join([made[index] for index in row]) for row in members]


def row_length(conversations: Sequence[Sequence[EncodedView]], least: int) -> int:
    """The row length, a multiple of 128, at least `least`, that holds every sample."""
    longest = max(len(sample) for found in conversations for sample in samples(found, "onepass"))
    return max(least, -(-longest // 128) * 128)
