"""Conversations that are too long → divided, left out or rejected, as `--overlong` says.

    --max-length      longest row      a longer forest is divided into samples (rows/split.py)
    --max-position    longest view     what the model can attend over

A view longer than either is in no sample, but its message remains context of other views.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.rows.forest import Forest, LaidOut, lay_out
from reasonpack.rows.split import divide

LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""A view of more characters than the first, and than the second for each token of --max-position,
is not encoded: a tokenizer needs a hundred bytes of memory for each."""
Unit = Literal["tokens", "characters"]


class LeftOut(Struct, frozen=True):
    """A message that is not trained because its view is too long.

    Attributes:
        message: its index in the record.
        length: length of its view.
        unit: unit of `length`; characters if the view is too long to be encoded.
        option: the limit that it exceeds; `--max-length` if it exceeds both.
    """

    message: int
    length: int
    unit: Unit
    option: Literal["--max-length", "--max-position"]
    limit: int

    @property
    def reason(self) -> str:
        """Code under which it is counted.

        >>> LeftOut(3, 9, "tokens", "--max-length", 8).reason
        'over-max-length'
        """
        return self.option.replace("--", "over-")

    def line(self, where: str) -> dict[str, Any]:
        """Return the line of rejects.jsonl for the message, whose record is at `where`."""
        line = {"kind": "message", "where": where, "message": self.message, self.unit: self.length}
        return {**line, "reason": self.reason, "error": str(self.error(where))}

    def error(self, where: str) -> RecordError:
        """Return an error that says the message is left untrained, and what helps."""
        what = f"a view of {self.length:,} {self.unit}, left untrained"
        expected = f"at most {self.limit:,} ({self.option})"
        fix = f"raise {self.option} if the model allows it"
        return RecordError(self.reason, f"messages[{self.message}]", what, expected, fix, where)


class Limits(Struct, frozen=True):
    """The limits of rows in `options`, and the longest view allowed; None for no limit."""

    options: Options
    max_position: int | None

    def too_long_text(self, message: int, characters: int) -> LeftOut | None:
        """Return what to leave out if a view has too many characters to be encoded, or None."""
        most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (self.max_position or 0))
        if characters <= most:
            return None
        return LeftOut(message, characters, "characters", "--max-position", most)

    def too_long(self, message: int, tokens: int) -> LeftOut | None:
        """Return what to leave out if a view exceeds a row or --max-position, or None."""
        row, view = self.options.max_length, self.max_position
        if row is not None and tokens > row:
            return LeftOut(message, tokens, "tokens", "--max-length", row)
        if view is not None and tokens > view:
            return LeftOut(message, tokens, "tokens", "--max-position", view)
        return None

    def left_out(self, messages: Sequence[int], tokens: Sequence[int]) -> dict[int, LeftOut]:
        """Return which views `--overlong split` leaves out; each has a message and so many tokens.

        Returns:
            What is left out, by the index of its view.
        """
        if self.options.overlong != "split":
            return {}
        found = enumerate(map(self.too_long, messages, tokens))
        return {view: out for view, out in found if out is not None}

    def lay_out(self, forest: Forest, number: int) -> LaidOut:
        """Lay out conversation `number` of a forest, which has at least one view.

        Raises:
            RecordError: it is too long, and `--overlong` is not `split`.
        """
        laid_out = lay_out(forest, number, layout=self.options.layout)
        row, view = self.options.max_length, self.max_position
        if self.options.overlong == "split":
            if row is not None and laid_out.longest_sample > row:
                laid_out = divide(forest, number, laid_out, row)
        elif view is not None and laid_out.longest_view > view:
            what = f"a view of {laid_out.longest_view:,} tokens"
            raise self._overlong(what, "--max-position", view)
        elif row is not None and laid_out.longest_sample > row:
            what = f"a sample of {laid_out.longest_sample:,} tokens"
            raise self._overlong(what, "--max-length", row)
        return laid_out

    def nothing_fits(self, views: Iterable[LeftOut]) -> RecordError:
        """Return the error of a conversation without a view that fits; it names the shortest."""
        least = min(views, key=lambda each: each.length)
        return self._overlong(f"a view of {least.length:,} {least.unit}", least.option, least.limit)

    def _overlong(self, what: str, option: str, limit: int) -> RecordError:
        divide = ", or divide such conversations with --overlong split"
        leave = ", or leave them out with --overlong skip"
        more = {"split": "", "skip": divide, "error": divide + leave}[self.options.overlong]
        fix = f"raise {option} if the model allows it{more}"
        return RecordError("overlong", "messages", what, f"at most {limit:,} ({option})", fix)
