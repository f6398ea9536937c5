"""A dataset → what its manifest knows and what its shards hold, as tables or JSON.

Every shard is read; where it does not hold what the manifest says, that is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest, read_manifest
from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.show.advice import cost_lines
from reasonpack.show.cost import BLOCK, Costs, count
from reasonpack.show.distributions import (
    Distribution,
    distribution_json,
    distribution_lines,
    shares,
    whole,
)
from reasonpack.show.model_shape import ModelShape
from reasonpack.storage.place import Place, public_name
from reasonpack.storage.read import fetched

REWRITTEN = "joined-rewritten message "
"""How such a note begins; the number of the message follows."""


@dataclass(frozen=True, slots=True)
class Stats:
    """A dataset's manifest, what its rows cost to train, and distributions over what they hold."""

    manifest: Manifest
    costs: Costs
    distributions: dict[str, Distribution]


@dataclass(slots=True)
class _Found:
    """What is read from shards, batch by batch."""

    row_lengths: list[NDArray[np.int64]] = field(default_factory=list)
    row_pairs: list[NDArray[np.int64]] = field(default_factory=list)
    samples_in_row: list[NDArray[np.int64]] = field(default_factory=list)
    sample_lengths: list[NDArray[np.int64]] = field(default_factory=list)
    turns: list[NDArray[np.int64]] = field(default_factory=list)
    calls: list[NDArray[np.int64]] = field(default_factory=list)
    thought: list[NDArray[np.int64]] = field(default_factory=list)
    answered: list[NDArray[np.int64]] = field(default_factory=list)
    branches: list[NDArray[np.int64]] = field(default_factory=list)
    reasoning: list[NDArray[np.float64]] = field(default_factory=list)
    trained_tokens: int = 0
    costs: Costs = field(default_factory=Costs)
    tokens_by_kind: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Kind), np.int64))


def gather(directory: Place) -> Stats:
    """Read a dataset whole.

    Raises:
        FormatError: it is unfinished or damaged, or not what its manifest says.
        StorageError: it cannot be read.
    """
    manifest = read_manifest(directory)
    found = _Found()
    for shard in manifest.shards:
        rows = tokens = 0
        place = place_of(directory, shard.path)
        with fetched(str(place)) as path:
            for batch in read_shard(Path(path)):
                try:
                    _read_batch(batch, found)
                except (LookupError, ValueError) as error:
                    raise FormatError(
                        public_name(place),
                        error,
                        "sound rows",
                        "repeat the pack command, which finds and replaces what was altered",
                    ) from error
                rows += batch.num_rows
                tokens += int(found.row_lengths[-1].sum())
        _agree(public_name(place), "rows", rows, shard.rows)
        _agree(public_name(place), "tokens", tokens, shard.tokens)
    _check_sums(public_name(directory), manifest, found)
    return Stats(manifest, found.costs, _distributions(found, manifest))


def _read_batch(batch: pa.RecordBatch, found: _Found) -> None:
    """Add a batch: token and segment numbers count from its start, samples tile it."""
    lengths = batch.column("length").to_numpy().astype(np.int64)
    row_start = np.cumsum(lengths) - lengths
    total = int(lengths.sum())

    def starts(name: str) -> NDArray[np.int64]:
        column = batch.column(name)
        rows = column.value_lengths().to_numpy()
        shifted: NDArray[np.int64] = column.flatten().to_numpy() + np.repeat(row_start, rows)
        return shifted

    samples, segments = starts("sample_start"), starts("segment_start")
    sample_lengths = np.diff(samples, append=total)
    segment_lengths = np.diff(segments, append=total)
    sample_of = np.searchsorted(samples, segments, side="right") - 1
    kinds = batch.column("segment_kind").flatten().to_numpy()
    answers = _answers(batch)
    if "call_sample" in batch.schema.names:
        found.calls.append(_calls_in_samples(batch))
    trained = batch.column("labels").flatten().to_numpy() != IGNORE
    in_segment = np.diff(np.append(np.cumsum(trained) - trained, trained.sum())[[*segments, total]])

    pairs, pair_of = np.unique(np.stack([sample_of, answers]), axis=1, return_inverse=True)
    per_pair = [
        np.bincount(pair_of.ravel(), in_segment * which, minlength=pairs.shape[1]).astype(np.int64)
        for which in (kinds == Kind.REASONING, kinds != Kind.REASONING)
    ]
    trained_pairs = sum(per_pair) > 0
    reasoning = np.bincount(
        sample_of, segment_lengths * (kinds == Kind.REASONING), minlength=len(samples)
    )
    found.row_lengths.append(lengths)
    seen = batch.column("position_ids").flatten().to_numpy().astype(np.int64) + 1
    found.row_pairs.append(np.add.reduceat(seen, row_start) if total else lengths)
    found.samples_in_row.append(batch.column("sample_start").value_lengths().to_numpy())
    found.sample_lengths.append(sample_lengths)
    found.turns.append(np.bincount(pairs[0, trained_pairs], minlength=len(samples)))
    found.thought.append(per_pair[0][trained_pairs])
    found.answered.append(per_pair[1][trained_pairs])
    until = batch.column("segment_visible_until").flatten().to_numpy() + np.repeat(
        row_start, batch.column("segment_start").value_lengths().to_numpy()
    )
    leaves = until == segments + segment_lengths
    found.branches.append(np.bincount(sample_of[leaves], minlength=len(samples)))
    found.reasoning.append(reasoning / np.maximum(sample_lengths, 1))
    found.trained_tokens += int(trained.sum())
    found.costs += count(batch)
    by_kind = np.bincount(kinds, segment_lengths, minlength=len(Kind))
    found.tokens_by_kind += by_kind.astype(np.int64)


def _answers(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return for each segment a number of the answer that it is part of, of a message or a call."""
    messages: NDArray[np.int64] = (
        batch.column("segment_message").flatten().to_numpy().astype(np.int64)
    )
    if "segment_call" not in batch.schema.names:
        return messages
    calls = batch.column("segment_call").flatten().to_numpy().astype(np.int64)
    return np.where(calls >= 0, calls + (1 << 32), messages).astype(np.int64)


def _calls_in_samples(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return how many calls each sample of a batch has."""
    samples = batch.column("sample_start").value_lengths().to_numpy()
    calls = batch.column("call_sample").value_lengths().to_numpy()
    before = np.repeat(np.cumsum(samples) - samples, calls)
    sample_of = batch.column("call_sample").flatten().to_numpy() + before
    return np.bincount(sample_of, minlength=int(samples.sum())).astype(np.int64)


def _check_sums(where: str, manifest: Manifest, found: _Found) -> None:
    counts = manifest.counts
    _agree(where, "rows", sum(map(len, found.row_lengths)), counts.rows)
    _agree(where, "samples", sum(map(len, found.sample_lengths)), counts.samples)
    _agree(where, "trained tokens", found.trained_tokens, counts.trained_tokens)
    npass = found.costs.npass.tokens
    if not counts.extra_samples or npass < counts.npass_tokens:
        # A leaf of one part of a conversation may go on in another part.
        _agree(where, "tokens of N-pass", npass, counts.npass_tokens)
    for kind in Kind:
        tokens = int(found.tokens_by_kind[kind])
        _agree(
            where, f"tokens of kind {kind.label}", tokens, counts.tokens_by_kind.get(kind.label, 0)
        )


def _agree(where: str, what: str, found: int, said: int) -> None:
    if found != said:
        raise FormatError(
            where,
            f"{found:,} {what}",
            f"{said:,} as the manifest says",
            "repeat the pack command, which finds and replaces what was altered",
        )


def _distributions(found: _Found, manifest: Manifest) -> dict[str, Distribution]:
    def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, np.int64), *arrays])

    most = manifest.options.max_length if manifest.options.packed else None
    lengths = joined(found.row_lengths)
    fill = {"row_fill": shares("share of a row that is filled", lengths / most)} if most else {}
    if "call_id" in manifest.columns:
        what, rewritten = "call", _rewritten_at(manifest.counts.notes)
        of_calls = {
            "calls": whole("calls in a sample", joined(found.calls)),
            "rewritten_at": whole("first message that a rewritten history changes", rewritten),
        }
    else:
        what, of_calls = "message", {}
    return {
        "row_length": whole("tokens in a row", lengths),
        **fill,
        "row_cost": whole("pairs of tokens in a row, one sees the other", joined(found.row_pairs)),
        "samples_in_row": whole("samples in a row", joined(found.samples_in_row)),
        "sample_length": whole("tokens in a sample", joined(found.sample_lengths)),
        "branches": whole("branches in a sample", joined(found.branches)),
        **of_calls,
        "turns": whole(f"trained {what}s in a sample", joined(found.turns)),
        "reasoning_length": whole(f"trained reasoning of a {what}", joined(found.thought)),
        "response_length": whole(f"trained response of a {what}", joined(found.answered)),
        "reasoning_share": shares("share of reasoning in a sample", joined(found.reasoning)),
    }


def _rewritten_at(notes: Mapping[str, int]) -> NDArray[np.int64]:
    """Return of each call whose history was rewritten the first message that differs."""
    found = [
        (int(note.removeprefix(REWRITTEN)), times)
        for note, times in notes.items()
        if note.startswith(REWRITTEN)
    ]
    messages, times = np.array(found, np.int64).reshape(-1, 2).T
    return np.repeat(messages, times)


def stats_json(stats: Stats, shape: ModelShape | None = None) -> dict[str, Any]:
    """Give everything as plain values: the manifest's counts, the costs, each distribution."""
    shape = shape or ModelShape()
    works = {"branches": stats.costs.branches, "npass": stats.costs.npass}
    operations = {name: shape.operations(work) for name, work in works.items()}
    return {
        "manifest": stats.manifest,
        "costs": {"block_size": BLOCK, **asdict(stats.costs)},
        "model": {**asdict(shape), "operations": operations},
        "distributions": {
            key: distribution_json(each) for key, each in stats.distributions.items()
        },
    }


def stats_lines(
    stats: Stats, shape: ModelShape | None = None, width: int | None = None
) -> Iterator[str]:
    """Draw the costs and each distribution.

    Args:
        stats: of a dataset.
        shape: of the model that is to be trained; by default a layer of a small one.
        width: of the terminal; None for none.
    """
    yield ""
    yield from cost_lines(stats.costs, stats.manifest.layout, shape, width)
    for each in stats.distributions.values():
        yield ""
        yield from distribution_lines(each, width)
