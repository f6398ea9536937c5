"""Samples: how the tries of many conversations are written → arrays of tokens and of segments.

    Stretch, Stretch, …  ── write() ──→  input_ids, position_ids, labels, segments

All samples of a call are parts of a few arrays, each made at once: a stretch costs about a
microsecond, whatever its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import EncodedViews
from reasonpack.rows.forest import Forest, LaidOut

I32 = NDArray[np.int32]
IGNORE = -100
"""Label of a token that is not trained, as everywhere in the field."""


@dataclass(frozen=True, slots=True)
class Segments:
    """S runs of tokens of one kind, one message and one visibility; they tile T tokens.

    Attributes:
        start: i32[S], first token.
        visible_until: i32[S], one past the last token that may attend to it.
        kind: u8[S].
        message: i32[S].
    """

    start: I32
    visible_until: I32
    kind: NDArray[np.uint8]
    message: I32


@dataclass(frozen=True, slots=True)
class Sample:
    """What is trained together: T tokens in S segments.

    Attributes:
        id: the conversation's id.
        input_ids: i32[T].
        position_ids: i32[T], the position each token has at inference.
        labels: i32[T], the token itself where it is trained, else −100; unshifted.
        segments: tile the sample.
    """

    id: str
    input_ids: I32
    position_ids: I32
    labels: I32
    segments: Segments

    @property
    def length(self) -> int:
        """Tokens in the sample."""
        return len(self.input_ids)


def write(forest: Forest, laid_out: Sequence[tuple[str, LaidOut]]) -> list[Sample]:
    """Write the samples of conversations, given by their ids and how they are laid out.

    The arrays of the samples are parts of arrays for all of them.
    """
    samples = [(id_, sample) for id_, each in laid_out for sample in each.samples]
    stretches = [stretch for _, sample in samples for stretch in sample]
    if not stretches:
        return []
    views = forest.views
    starts = [views.origin[each.view] + each.begin for each in stretches]
    lengths = [each.end - each.begin for each in stretches]
    stops = [0, *accumulate(lengths)]
    last = [0, *accumulate(len(sample) for _, sample in samples)]
    bounds = [stops[each] for each in last]
    firsts = np.repeat(bounds[:-1], np.diff(last))

    labels = np.where(forest.trained, views.tokens, np.int32(IGNORE))
    untrained = np.full(max(lengths), IGNORE, np.int32)
    depths = np.arange(max(each.end for each in stretches), dtype=np.int32)
    sources = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    input_ids = np.concatenate([views.tokens[source] for source in sources])
    position_ids = np.concatenate([depths[each.begin : each.end] for each in stretches])
    trained = np.concatenate(
        [
            labels[source] if each.trains else untrained[: each.end - each.begin]
            for each, source in zip(stretches, sources, strict=True)
        ]
    )
    table, counts = _segments(
        views,
        starts=np.array(starts),
        lengths=np.array(lengths),
        places=np.array(stops[:-1]) - firsts,
        until=np.array([each.until for each in stretches], np.int32),
    )
    rows = np.concatenate(([0], np.cumsum(counts)))[last].tolist()
    made = []
    for (id_, _), own, segments in zip(samples, _slices(bounds), _slices(rows), strict=True):
        parts = Segments(*(column[segments] for column in table))
        made.append(Sample(id_, input_ids[own], position_ids[own], trained[own], parts))
    return made


def _slices(bounds: Sequence[int]) -> Iterator[slice]:
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _segments(
    views: EncodedViews,
    *,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    places: NDArray[np.int64],
    until: I32,
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Cut stretches of `views.tokens` where kind or message changes.

    Args:
        views: have the tokens.
        starts: of the stretches, in the tokens.
        lengths: of the stretches.
        places: where each is written, from the start of its sample.
        until: one past the last token that may attend to each.

    Returns:
        The columns of the segments, and how many each stretch has.
    """
    first = np.searchsorted(views.run_start, starts, "right") - 1
    counts = np.searchsorted(views.run_start, starts + lengths) - first
    of = np.repeat(np.arange(len(starts)), counts)
    run = np.arange(len(of)) + (first - np.cumsum(counts) + counts)[of]
    start = places[of] + np.maximum(views.run_start[run] - starts[of], 0)
    columns = (start.astype(np.int32), until[of], views.run_kind[run], views.run_message[run])
    return columns, counts
