"""A conversation, read and encoded again: its views in tokens, and what was found of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.errors import RecordError
from reasonpack.records.strict_json import quoted
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.history import Contexts, Stretch, count_contexts
from reasonpack.verify.length import LeftOut
from reasonpack.verify.match import Read, Thoughts
from reasonpack.verify.paths import U64, Paths, Print, added_up, distinct, fingerprint
from reasonpack.verify.views import TextViews
from reasonpack.verify.weights import shares


@dataclass(frozen=True, slots=True)
class TokenView:
    """A view of L tokens.

    Attributes:
        message: index of the message that it is the view of.
        ids: i32[L], prompt and then completion.
        prompt_length: how many of them are the prompt.
        thought: how many trained tokens are reasoning: at least, at most.
        given: what the data says that its tokens weigh.
        group: what its tokens share their weight with, equal for all views of it; None for nothing.
        call: the id of the call that it is of; empty in a conversation.
        history: the messages of the prompt, in tokens.
    """

    message: int
    ids: NDArray[np.int32]
    prompt_length: int
    paths: Paths
    thought: tuple[int, int] = (0, 0)
    given: float = 1.0
    group: int | None = None
    call: str = ""
    history: tuple[Stretch, ...] = ()

    @property
    def named(self) -> str:
        """Name it for people."""
        return f"call {quoted(self.call)}" if self.call else f"message {self.message}"

    @property
    def trained(self) -> U64:
        """The paths of what is trained."""
        return self.paths.seen[self.paths.trained]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The views of a conversation, or the reason for which there are none.

    Attributes:
        views: one for each trained message.
        built: these in text, and what was found of them.
        reason: why it must have been refused; `error` says it in words.
        unknown: why it could not be checked; then nothing is known of its views.
        left_out: messages whose views are too long; the others are in `views`.
        split: that it belongs in.
        weighs: its tokens have weights.
        shared: how many tokens of views that were left out count where weights are shared, by
            `group`.
    """

    views: tuple[TokenView, ...] = ()
    built: TextViews = field(default_factory=TextViews)
    reason: str = ""
    error: str = ""
    unknown: str = ""
    left_out: tuple[LeftOut, ...] = ()
    split: str = ""
    weighs: bool = False
    shared: Mapping[int | None, int] = field(default_factory=dict)

    def read(self, where: str) -> Read:
        """Return what samples are compared with, for the record at a place."""
        thoughts, ends = self.thoughts(), self.ends()
        contexts = self.contexts()
        print_, split = self.fingerprint(), self.split
        return Read(where, print_, thoughts=thoughts, ends=ends, split=split, contexts=contexts)

    def fingerprint(self) -> Print:
        """Stand for the leaves of the views and for what they train, each once."""
        if self.weighs:
            return fingerprint(self.ends()[0], *self.weighed())
        trained = np.concatenate([view.trained for view in self.views])
        return fingerprint(self.ends()[0], distinct(trained))

    def weighed(self) -> tuple[U64, NDArray[np.float32]]:
        """Return what the views train, each once, with what all of them weigh it."""
        given = [(view.given, view.group, len(view.trained)) for view in self.views]
        weights = shares(given, self.shared)
        return added_up(np.concatenate([view.trained for view in self.views]), weights)

    def ends(self) -> tuple[U64, U64]:
        """Return the paths that end a view: those that no other view goes on from, and the rest."""
        views = self.views
        ends = np.stack([view.paths.seen[-1] for view in views])
        lengths = np.array([len(view.ids) for view in views])
        inner = np.zeros(len(views), bool)
        for view in views:
            shorter = lengths < len(view.ids)
            inner[shorter] |= (view.paths.seen[lengths[shorter] - 1] == ends[shorter]).all(axis=1)
        return distinct(ends[~inner]), distinct(ends[inner])

    def contexts(self) -> Contexts:
        """Count tokens of the history that are of a message for sure."""
        views = [(view.history, view.paths.seen) for view in self.views]
        return count_contexts(views, [view.paths.seen[view.prompt_length :] for view in self.views])

    @property
    def npass_tokens(self) -> int:
        """Tokens of the views that no other view goes on from."""
        lengths = {view.paths.seen[-1].tobytes(): len(view.ids) for view in self.views}
        return sum(lengths[leaf.tobytes()] for leaf in self.ends()[0])

    def thoughts(self) -> Thoughts:
        """Count trained tokens by message, each once: reasoning at least and at most, and all."""
        counted: Thoughts = {}
        known: set[bytes] = set()
        shared = len(distinct(np.concatenate([view.trained for view in self.views])))
        all_apart = shared == sum(len(view.trained) for view in self.views)
        for view in self.views:
            new = np.ones(len(view.trained), bool)
            if not all_apart:
                paths = [path.tobytes() for path in view.trained]
                new = np.array([path not in known for path in paths], bool)
                known.update(paths)
            least, most = (int(new[:end].sum()) for end in view.thought)
            counted["", view.message] = (least, most, int(new.sum()))
        return {place: numbers for place, numbers in counted.items() if numbers[2]}


def not_rebuilt(error: RecordError | NotChecked | Refused) -> Rebuilt:
    """Say why there are no views."""
    if isinstance(error, NotChecked):
        return Rebuilt(unknown=str(error))
    cause = error if isinstance(error, RecordError) else error.__cause__  # JSON within the record
    reason = cause.reason if isinstance(cause, RecordError) else "record"
    return Rebuilt(reason=reason, error=str(error))


# --- what must have become of it -------------------------------------------------------


def why_rejected(rebuilt: Rebuilt, manifest: Manifest) -> str:
    """Return the reason for which a conversation cannot be packed; empty if it can."""
    if rebuilt.reason:
        return rebuilt.reason
    views = rebuilt.views
    if any(view.prompt_length == 0 for view in views):
        return "view"
    if manifest.options.overlong == "split":
        return ""
    longest = sample = max(len(view.ids) for view in views)
    if manifest.layout == "onepass":
        sample = whole_size(views)
    limits = ((manifest.max_position, longest), (manifest.options.max_length, sample))
    too_long = any(limit is not None and length > limit for limit, length in limits)
    return "overlong" if too_long else ""


def whole_size(views: Sequence[TokenView]) -> int:
    """Count the tokens of a onepass sample of all of these views."""
    return len(distinct(np.concatenate([view.paths.seen for view in views]))) + _copies(views)


def _copies(views: Sequence[TokenView]) -> int:
    """Count how often a onepass sample repeats a token, for a further trained token behind it."""
    seen = np.concatenate([view.paths.seen for view in views])
    before = np.concatenate([np.pad(view.paths.seen[:-1], ((1, 0), (0, 0))) for view in views])
    trained = np.concatenate([view.paths.trained for view in views])
    return len(distinct(seen[trained])) - len(distinct(before[trained]))
