"""Views that are longer than the limits of a dataset: finds them, and how rejects name them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from reasonpack.datasets.manifest import Manifest

LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""A view may have the larger of so many characters, and so many for each of `max_position`."""


class LeftOut(Struct, frozen=True):
    """A message whose view is too long, as found here or as a line of rejects.jsonl.

    `length` is in `unit`: tokens or characters.
    """

    message: int
    reason: str
    length: int
    unit: str = "tokens"

    def __str__(self) -> str:
        """Describe it for a message."""
        return f"message {self.message}: {self.reason}, {self.length:,} {self.unit}"


def too_long_text(message: int, texts: Sequence[str], manifest: Manifest) -> LeftOut | None:
    """Return a view's text as left out if it has too many characters to be encoded, else None."""
    characters = sum(map(len, texts))
    most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (manifest.max_position or 0))
    if characters > most:
        return LeftOut(message, "over-max-position", characters, "characters")
    return None


def too_long(message: int, tokens: int, manifest: Manifest) -> LeftOut | None:
    """Return a view as left out if it is longer than a row or the model's positions, else None."""
    row, position = manifest.options.max_length, manifest.max_position
    for reason, limit in (("over-max-length", row), ("over-max-position", position)):
        if limit is not None and tokens > limit:
            return LeftOut(message, reason, tokens)
    return None
