"""The layouts of many conversations → samples: arrays of tokens and of segments.

    Stretch, Stretch, …  ── write() ──→  input_ids, position_ids, labels, segments

The samples that one call of `write` makes are slices of a few arrays, each made at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.forest import Forest, LaidOut
from reasonpack.rows.optional_columns import FILLS

I32 = NDArray[np.int32]
IGNORE = -100
"""Label of a token that is not trained, as in PyTorch and transformers."""


@dataclass(frozen=True, slots=True)
class Segments:
    """S runs of tokens of one kind, one message, one call and one visibility; they tile T tokens.

    Attributes:
        start: i32[S], first token.
        visible_until: i32[S], one past the last token that may attend to the segment.
        kind: u8[S], a `Kind`.
        message: i32[S], index of the message in the conversation, −1 for none.
        call: i32[S], index in `Sample.calls` of the call whose completion the segment is part of,
            −1 for context; None without calls.
    """

    start: I32
    visible_until: I32
    kind: NDArray[np.uint8]
    message: I32
    call: I32 | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """C calls of a sample, or of a conversation.

    Attributes:
        id: the id of each call.
        role: u8[C], 0 for none, 1 chosen, 2 rejected.
        reward: f32[C], NaN for none.
    """

    id: Sequence[str]
    role: NDArray[np.uint8]
    reward: NDArray[np.float32]

    def part(self, chosen: NDArray[Any]) -> Calls:
        """Return the calls with the given indices."""
        return Calls([self.id[each] for each in chosen], self.role[chosen], self.reward[chosen])


NO_CALLS = Calls((), np.zeros(0, np.uint8), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation, or a part of it, laid out for training: T tokens in S segments.

    Attributes:
        id: the conversation's id.
        input_ids: i32[T].
        position_ids: i32[T], the position each token has at inference.
        labels: i32[T], the token itself where it is trained, else −100; unshifted.
        segments: tile the sample.
        extra: optional columns with a value for each token, by name, [T] each.
        calls: the calls that `segments.call` indexes; None without calls.
    """

    id: str
    input_ids: I32
    position_ids: I32
    labels: I32
    segments: Segments
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    calls: Calls | None = None

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.input_ids)

    @property
    def pairs(self) -> int:
        """How many pairs (token, token that it sees or itself) there are: the cost of attention."""
        return self.length + int(self.position_ids.sum(dtype=np.int64))


def write(
    forest: Forest, laid_out: Sequence[tuple[str, LaidOut]], calls: Sequence[Calls] | None = None
) -> list[Sample]:
    """Write the samples of conversations, each given as its id and its layout.

    `calls`, to which `forest.call` refers, has those of each conversation.
    """
    made = _write(forest, laid_out, calls or [None] * len(laid_out))
    if calls is None:
        return made
    left = iter(made)
    return [
        sample
        for (_, one), own in zip(laid_out, calls, strict=True)
        for sample in _with_own_calls([*islice(left, len(one.samples))], own)
    ]


def _write(
    forest: Forest, laid_out: Sequence[tuple[str, LaidOut]], calls: Sequence[Calls | None]
) -> list[Sample]:
    """Write the samples of conversations; each has all calls of its conversation."""
    of = zip(laid_out, calls, strict=True)
    samples = [(id_, own, sample) for (id_, each), own in of for sample in each.samples]
    stretches = [stretch for _, _, sample in samples for stretch in sample]
    if not stretches:
        return []
    views = forest.views
    origin, begin, end, until, trains = np.array(
        [(views.origin[s.view], s.begin, s.end, s.until, s.trains) for s in stretches], np.int64
    ).T
    lengths = end - begin
    stops = np.cumsum(lengths)
    # Where each token is in `views.tokens`, and whether it is trained here if it is trained.
    source = np.arange(stops[-1]) + np.repeat(origin + end - stops, lengths)
    here = np.repeat(trains > 0, lengths)
    input_ids = views.tokens[source]
    position_ids = (source - np.repeat(origin, lengths)).astype(np.int32)
    labels, extra = _labels_and_extra(forest, source, here, input_ids)

    borders = np.zeros(len(views.tokens), bool)
    borders[views.run_start] = True
    if forest.call is not None:
        borders |= np.diff(forest.call, prepend=-2) != 0
    opens = borders[source]
    opens[stops - lengths] = True
    first = np.flatnonzero(opens)  # the first token of each segment
    run = np.searchsorted(views.run_start, source[first], "right") - 1
    last = np.cumsum([0, *(len(sample) for _, _, sample in samples)])
    bounds = np.append(0, stops)[last]
    rows = np.searchsorted(first, bounds)
    table: list[NDArray[Any]] = [
        (first - np.repeat(bounds[:-1], np.diff(rows))).astype(np.int32),
        until[np.searchsorted(stops, first, "right")].astype(np.int32),
        views.run_kind[run],
        views.run_message[run],
    ]
    if forest.call is not None:
        table.append(np.where(here[first], forest.call[source[first]], np.int32(-1)))

    made = []
    for (id_, of_all, _), own, segments in zip(samples, slices(bounds), slices(rows), strict=True):
        parts = Segments(*(column[segments] for column in table))
        values = {name: column[own] for name, column in extra.items()}
        arrays = input_ids[own], position_ids[own], labels[own]
        made.append(Sample(id_, *arrays, parts, values, of_all))
    return made


def _labels_and_extra(
    forest: Forest, source: NDArray[np.int64], here: NDArray[np.bool_], input_ids: I32
) -> tuple[I32, dict[str, NDArray[Any]]]:
    """Return the labels of tokens, and the optional columns with a value for each; see `_write`."""
    given = {name: np.asarray(values)[source] for name, values in forest.views.extra.items()}
    if forest.weights is not None:
        given["loss_weights"] = forest.weights[source].astype(np.float32)
    trained = forest.trained[source] & here
    labelled = trained & (given.get("preference_labels", IGNORE) == IGNORE)
    extra = {}
    for name, values in given.items():
        own = labelled if name == "loss_weights" else trained
        extra[name] = np.where(own, values, values.dtype.type(FILLS[name]))
    return np.where(labelled, input_ids, np.int32(IGNORE)), extra


def _with_own_calls(samples: Sequence[Sample], calls: Calls) -> Sequence[Sample]:
    """Leave each sample of a conversation those of its `calls` that have segments there.

    A call without segments, because earlier calls train all its tokens, goes to the first sample.
    """
    if len(samples) == 1:
        return samples
    of = [sample.segments.call for sample in samples]
    held = [set(call.tolist()) - {-1} for call in of if call is not None]
    assert len(held) == len(samples), "calls, and a forest without"
    held[0] |= set(range(len(calls.id))).difference(*held)
    written = []
    for sample, call, numbers_of in zip(samples, of, held, strict=True):
        assert call is not None
        own = np.array(sorted(numbers_of), np.int64)
        numbers = np.where(call < 0, -1, np.searchsorted(own, call)).astype(np.int32)
        segments = replace(sample.segments, call=numbers)
        written.append(replace(sample, segments=segments, calls=calls.part(own)))
    return written


def slices(bounds: NDArray[np.int64]) -> Iterator[slice]:
    """Return the slices between neighbouring bounds."""
    return (slice(start, stop) for start, stop in pairwise(bounds.tolist()))
