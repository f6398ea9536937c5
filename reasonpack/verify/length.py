"""What is longer than the limits of a dataset, and what of that is left out of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from reasonpack.datasets.manifest import Manifest

LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""Characters that a view may have whatever the limits, or for each token of `max_position`."""


class LeftOut(Struct, frozen=True):
    """A message whose view is too long; its length is in tokens, or in characters.

    It is the same for what is found here and for a line of rejects.jsonl.
    """

    message: int
    reason: str
    length: int
    unit: str = "tokens"

    def __str__(self) -> str:
        """Say it in words."""
        return f"message {self.message}: {self.reason}, {self.length:,} {self.unit}"


def too_long_text(message: int, texts: Sequence[str], manifest: Manifest) -> LeftOut | None:
    """Tell whether a view has so many characters that it is too long whatever its tokens are."""
    characters = sum(map(len, texts))
    most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (manifest.max_position or 0))
    if characters > most:
        return LeftOut(message, "over-max-position", characters, "characters")
    return None


def too_long(message: int, tokens: int, manifest: Manifest) -> LeftOut | None:
    """Tell whether a view fits in no row, or whether the model could not attend over it."""
    row, position = manifest.options.max_length, manifest.max_position
    for reason, limit in (("over-max-length", row), ("over-max-position", position)):
        if limit is not None and tokens > limit:
            return LeftOut(message, reason, tokens)
    return None
