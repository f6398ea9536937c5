"""A view in text → the view in tokens.

Prompt and completion are encoded apart and whole, as at inference, although the views of a
conversation share most of their texts. A view that is too long is described by its length.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.records.strict_json import quoted
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.calls import Call
from reasonpack.verify.history import Stretch
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.one_view import TextView
from reasonpack.verify.paths import U64, view_paths

I64 = NDArray[np.int64]
LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""A view may have the larger of so many characters, and so many for each of `max_position`."""


class Encoded(NamedTuple):
    """A text in T tokens.

    Attributes:
        ids: i64[T].
        begins: i64[T], first character of each token; the tokens of one character share it.
        ends: i64[T], one past the last character.
    """

    ids: I64
    begins: I64
    ends: I64

    def token_at(self, character: int) -> int | None:
        """Return the first token that covers a character; None if no token does."""
        at = int(np.searchsorted(self.ends, character, "right"))
        return at if at < len(self.ids) and self.begins[at] <= character else None

    def within(self, stretches: tuple[Stretch, ...]) -> tuple[Stretch, ...]:
        """Convert stretches of the text to tokens, each without its first and its last token."""
        made = []
        for message, kind, start, stop in stretches:
            first, last = self.token_at(start), self.token_at(stop - 1)
            if first is not None and last is not None and first + 1 < last:
                made.append((message, kind, first + 1, last))
        return tuple(made)


class TokenView(Struct, frozen=True):
    """A view of L tokens, of a message or of a call.

    Attributes:
        message: index of its message; −1 for a call with ids.
        ids: i32[L], prompt and then completion.
        trained: bool[C], which of the completion's C tokens are trained.
        reasoning_tokens: how many trained tokens are reasoning, at least and at most.
        history: stretches of the prompt, in tokens, that are texts of messages; empty with ids.
        weight: loss weight of each trained token, or of all tokens of `group` together.
        group: equal for views whose trained tokens share one weight; None if they do not share.
        call: its call, without messages and ids; None in a conversation.
    """

    message: int
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    reasoning_tokens: tuple[int, int] = (0, 0)
    history: tuple[Stretch, ...] = ()
    weight: float = 1.0
    group: Hashable = None
    call: Call | None = None

    @property
    def named(self) -> str:
        """Name the view for a message: by its call or by its message."""
        return f"call {quoted(self.call.id)}" if self.call else f"message {self.message}"

    @property
    def is_rejected(self) -> bool:
        """Whether it is the rejected answer of a preference pair."""
        return self.call is not None and self.call.role == "rejected"

    @property
    def prompt_length(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.ids) - len(self.trained)

    @property
    def paths(self) -> U64:
        """The paths u64[L, 2] of its tokens."""
        return view_paths(self.ids)

    @property
    def targets(self) -> U64:
        """The paths u64[n, 2] of its trained tokens."""
        return self.paths[self.prompt_length :][self.trained]


def encode_text(text: str, tokenizer: Tokenizer) -> Encoded:
    """Return the tokens of a text."""
    encoding = tokenizer.reference.encode(text, add_special_tokens=False)
    places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return Encoded(np.array(encoding.ids, np.int64), places[:, 0], places[:, 1])


def encode(view: TextView, tokenizer: Tokenizer) -> TokenView:
    """Encode the prompt and the completion of a view, apart from each other."""
    prompt, completion = (encode_text(each, tokenizer) for each in (view.prompt, view.completion))
    last = np.maximum(completion.begins, completion.ends - 1)
    trained = np.zeros(len(last), bool)
    for begin, end in view.trained:
        trained |= (begin <= last) & (last < end)
    least, most = view.reasoning_end
    whole = int((completion.ends <= least).sum()) if most else 0
    touched = int((completion.begins < most).sum())
    reasoning = int(trained[:whole].sum()), int(trained[:touched].sum())
    ids = np.concatenate([prompt.ids, completion.ids]).astype(np.int32)
    return TokenView(view.message, ids, trained, reasoning, prompt.within(view.history))


# --- limits ----------------------------------------------------------------------------


def too_long_text(view: TextView, manifest: Manifest) -> LeftOut | None:
    """Return a view in text as left out if it has too many characters to be encoded, else None."""
    characters = len(view.prompt) + len(view.completion)
    most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (manifest.max_position or 0))
    if characters > most:
        return LeftOut(view.message, "over-max-position", characters, "characters")
    return None


def too_long(message: int, tokens: int, manifest: Manifest) -> LeftOut | None:
    """Return a view as left out if it is longer than a row or the model's positions, else None."""
    row, position = manifest.options.max_length, manifest.max_position
    for reason, limit in (("over-max-length", row), ("over-max-position", position)):
        if limit is not None and tokens > limit:
            return LeftOut(message, reason, tokens)
    return None
