"""Samples of a conversation → its views, so that they can be planted again.

    h1 t1 r_out1 r_in1 h2 t2 r_out2    ──→    message 1   h1 t1 r_out1
                                              message 3   h1 r_in1 h2 t2 r_out2

A view ends where the completion of a trained message ends; its tokens are those visible from there.
A view whose completion is all in that of another one is not found, so callers compare the number of
views and of their tokens with the counts in the receipt. Calls, and samples whose views cannot be
recovered, raise `LostViewsError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import EncodedViews, common_prefix, joined_views
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE, Sample


class LostViewsError(Exception):
    """The views of samples cannot be recovered; the message says why."""


class _Tokens(Struct, frozen=True):
    """A sample with its labels and segments per token; the model has `written` some tokens."""

    sample: Sample
    trained: NDArray[np.bool_]
    written: NDArray[np.bool_]
    until: NDArray[np.int32]
    kind: NDArray[np.uint8]
    message: NDArray[np.int32]

    def completion_ends(self) -> Iterator[tuple[int, int]]:
        """Yield each message that the sample trains, and the last token of its completion."""
        trained = np.flatnonzero(self.trained)[::-1]
        messages, places = np.unique(self.message[trained], return_index=True)
        for message, token in zip(messages.tolist(), trained[places].tolist(), strict=True):
            yield message, self._end(message, token)

    def _end(self, message: int, token: int) -> int:
        """Return the last token of a completion, whose last trained token is `token`."""
        position = self.sample.position_ids
        while (
            token + 1 < len(position)
            and position[token + 1] == position[token] + 1
            and self.message[token + 1] == message
            and self.written[token + 1]
        ):
            token += 1
        return token

    def path(self, token: int) -> NDArray[np.int64]:
        """Return the indices of the tokens that `token` sees; the last is `token` itself."""
        path = np.flatnonzero(self.until[: token + 1] > token)
        assert np.array_equal(self.sample.position_ids[path], np.arange(len(path)))
        return path


def ends_of(samples: Sequence[Sample]) -> dict[int, int]:
    """Map each message that samples of a conversation train to the number of tokens in its view.

    Raises:
        LostViewsError: the views cannot be recovered.
    """
    return {
        message: each.sample.position_ids.item(token) + 1
        for message, (each, token) in _ends(samples).items()
    }


def views_of(samples: Sequence[Sample]) -> tuple[EncodedViews, list[int]]:
    """Recover the views of a conversation, in the order of their messages.

    `samples` are all samples of the conversation, in any layout.

    Returns:
        The views, and the message that each ends with.

    Raises:
        LostViewsError: the views cannot be recovered.
    """
    found = sorted(_ends(samples).items())
    views = [_view(message, each, token) for message, (each, token) in found]
    return _encoded(views), [message for message, _ in found]


def _ends(samples: Sequence[Sample]) -> dict[int, tuple[_Tokens, int]]:
    """Map each trained message to the sample and the token where its view ends."""
    found: dict[int, tuple[_Tokens, int]] = {}
    for each in map(_tokens, samples):
        for message, token in each.completion_ends():
            if message in found:
                raise LostViewsError(f"an answer, message {message}, that several samples train")
            found[message] = each, token
    return found


def _tokens(sample: Sample) -> _Tokens:
    if sample.calls is not None and len(sample.calls.id):
        raise LostViewsError("calls, which a row does not tell apart")
    segments, trained = sample.segments, sample.labels != IGNORE
    sizes = np.diff(segments.start, append=sample.length)
    kind = np.repeat(segments.kind, sizes)
    message = np.repeat(segments.message, sizes)
    written = (kind == Kind.REASONING) | (kind == Kind.R_OUT)
    if not written[trained].all() or (message[trained] < 0).any():
        raise LostViewsError("trained tokens that belong to no answer")
    return _Tokens(
        sample, trained, written, np.repeat(segments.visible_until, sizes), kind, message
    )


def _view(message: int, held: _Tokens, token: int) -> dict[str, NDArray[Any]]:
    """Return the view of a message, by column, given the sample and the token where it ends."""
    path = held.path(token)
    own = held.message[path] == message
    first = int((own & held.written[path]).argmax())
    if first and held.written[path[first - 1]]:
        raise LostViewsError(f"an answer, message {message}, that continues another")
    return {
        "tokens": held.sample.input_ids[path],
        "kind": held.kind[path],
        "message": held.message[path],
        "trained": own & held.trained[path],
        **{name: values[path] for name, values in held.sample.extra.items()},
    }


def _encoded(views: Sequence[dict[str, NDArray[Any]]]) -> EncodedViews:
    """Make `EncodedViews`; each view shares its untrained prefix with the view before it."""
    shared = [0]
    for before, view in pairwise(views):
        most = int(view["trained"].argmax())
        shared.append(common_prefix(before["tokens"][:most], view["tokens"][:most]))
    columns = {
        name: np.concatenate([v[name][left:] for v, left in zip(views, shared, strict=True)])
        for name in views[0]
    }
    tokens, trained = columns.pop("tokens"), columns.pop("trained")
    return joined_views(
        tokens,
        trained,
        (np.arange(len(tokens)), columns.pop("kind"), columns.pop("message")),
        shared=shared,
        end=[len(view["tokens"]) for view in views],
        bounds=[0, len(views)],
        extra=columns,
    )
