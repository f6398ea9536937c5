"""A dataset → statistics of its manifest and its shards, as tables or JSON.

Every shard is read; one that differs from the manifest is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct, to_builtins
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest, read_manifest
from reasonpack.datasets.receipt import place_of
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.show.advice import cost_lines
from reasonpack.show.cost import BLOCK, Costs, Segments, count
from reasonpack.show.distributions import (
    Distribution,
    distribution_json,
    distribution_lines,
    shares,
    whole,
)
from reasonpack.show.model_shape import ModelShape
from reasonpack.show.row import DAMAGED
from reasonpack.storage.place import Place, public_name
from reasonpack.storage.read import fetched

REWRITTEN = "joined-rewritten message "
"""The beginning of a note on a rewritten history; the index of the message follows."""
WORDS = {
    "row_length": "tokens in a row",
    "row_fill": "share of a row that is filled",
    "row_cost": "visible pairs of tokens in a row",
    "samples_in_row": "samples in a row",
    "sample_length": "tokens in a sample",
    "branches": "branches in a sample",
    "calls": "calls in a sample",
    "rewritten_at": "first message that a rewritten history changes",
    "turns": "trained {what}s in a sample",
    "reasoning_length": "trained reasoning of a {what}",
    "response_length": "trained response of a {what}",
    "reasoning_share": "share of reasoning in a sample",
}
"""Name of a distribution → what its numbers count."""


class Stats(Struct, frozen=True):
    """A dataset's manifest, what its rows cost to train, and distributions over what they hold."""

    manifest: Manifest
    costs: Costs
    distributions: dict[str, Distribution]


class _Found:
    """What was read from the batches so far; `values` has an array per name and batch."""

    def __init__(self) -> None:
        self.values: dict[str, list[NDArray[Any]]] = {}
        self.trained_tokens = 0
        self.costs = Costs()
        self.tokens_by_kind = np.zeros(len(Kind), np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch; tokens and segments are numbered from its start."""
        table = Segments(batch)
        row_start, total = table.row_start, int(table.length.sum())
        row_samples = table.sizes("sample_start")
        samples = table.flat("sample_start") + np.repeat(row_start, row_samples)
        segments, segment_lengths = table.start + row_start[table.row], table.end - table.start
        sample_lengths = np.diff(samples, append=total)
        sample_of = np.searchsorted(samples, segments, side="right") - 1
        kinds = table.flat("segment_kind")
        trained = table.flat("labels") != IGNORE
        before = np.append(np.cumsum(trained) - trained, trained.sum())
        in_segment = np.diff(before[[*segments, total]])

        def per_sample(weights: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(sample_of, weights, minlength=len(samples))

        answers = _answer_numbers(table)
        pairs, pair_of = np.unique(np.stack([sample_of, answers]), axis=1, return_inverse=True)
        thought, answered = (
            np.bincount(pair_of.ravel(), in_segment * which, pairs.shape[1]).astype(np.int64)
            for which in (kinds == Kind.REASONING, kinds != Kind.REASONING)
        )
        is_trained = thought + answered > 0
        reasoning = per_sample(segment_lengths * (kinds == Kind.REASONING))
        values = {
            "row_length": table.length,
            "row_cost": np.add.reduceat(table.seen, row_start) if total else table.length,
            "samples_in_row": row_samples,
            "sample_length": sample_lengths,
            "turns": np.bincount(pairs[0, is_trained], minlength=len(samples)),
            "reasoning_length": thought[is_trained],
            "response_length": answered[is_trained],
            "branches": per_sample(table.until == table.end).astype(np.int64),
            "reasoning_share": reasoning / np.maximum(sample_lengths, 1),
        }
        if "call_sample" in batch.schema.names:
            values["calls"] = _calls_in_samples(table, row_samples)
        for name, each in values.items():
            self.values.setdefault(name, []).append(each)
        self.trained_tokens += int(trained.sum())
        self.costs += count(table)
        by_kind = np.bincount(kinds, segment_lengths, minlength=len(Kind))
        self.tokens_by_kind += by_kind.astype(np.int64)

    def joined(self, name: str) -> NDArray[Any]:
        """Return the values of a name, all batches joined."""
        return np.concatenate([np.zeros(0, np.int64), *self.values.get(name, ())])


def gather(directory: Place) -> Stats:
    """Read all of a dataset.

    Raises:
        FormatError: the dataset is unfinished or damaged, or differs from its manifest.
    """
    manifest = read_manifest(directory)
    found = _Found()
    for shard in manifest.shards:
        rows = tokens = 0
        place = place_of(directory, shard.path)
        with fetched(str(place)) as path:
            for batch in read_shard(Path(path)):
                found.add(batch)
                rows += batch.num_rows
                tokens += int(found.values["row_length"][-1].sum())
        _check_equal(public_name(place), "rows", rows, shard.rows)
        _check_equal(public_name(place), "tokens", tokens, shard.tokens)
    _check_sums(public_name(directory), manifest, found)
    return Stats(manifest, found.costs, _distributions(found, manifest))


def _answer_numbers(table: Segments) -> NDArray[np.int64]:
    """Return for each segment a number of its answer, which is a message or a call."""
    messages = table.flat("segment_message")
    if "segment_call" not in table.batch.schema.names:
        return messages
    calls = table.flat("segment_call")
    return np.where(calls >= 0, calls + (1 << 32), messages)


def _calls_in_samples(table: Segments, row_samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many calls each sample of a batch has."""
    before = np.repeat(np.cumsum(row_samples) - row_samples, table.sizes("call_sample"))
    sample_of = table.flat("call_sample") + before
    return np.bincount(sample_of, minlength=int(row_samples.sum())).astype(np.int64)


def _check_sums(where: str, manifest: Manifest, found: _Found) -> None:
    counts = manifest.counts
    _check_equal(where, "rows", len(found.joined("row_length")), counts.rows)
    _check_equal(where, "samples", len(found.joined("sample_length")), counts.samples)
    _check_equal(where, "trained tokens", found.trained_tokens, counts.trained_tokens)
    npass = found.costs.npass.tokens
    if not counts.extra_samples or npass < counts.npass_tokens:
        # A leaf of one part of a divided conversation may continue in another part.
        _check_equal(where, "tokens of N-pass", npass, counts.npass_tokens)
    for kind in Kind:
        tokens = int(found.tokens_by_kind[kind])
        _check_equal(
            where, f"tokens of kind {kind.label}", tokens, counts.tokens_by_kind.get(kind.label, 0)
        )


def _check_equal(where: str, what: str, found: int, said: int) -> None:
    if found != said:
        raise FormatError(where, f"{found:,} {what}", f"{said:,} as the manifest says", DAMAGED)


def _distributions(found: _Found, manifest: Manifest) -> dict[str, Distribution]:
    values = {name: found.joined(name) for name in WORDS if name in found.values}
    if manifest.options.packed and manifest.options.max_length:
        values["row_fill"] = found.joined("row_length") / manifest.options.max_length
    what = "message"
    if "call_id" in manifest.columns:
        what, values["rewritten_at"] = "call", _rewritten_at(manifest.counts.notes)
    made = {}
    for name, words in WORDS.items():
        if name not in ("row_fill", "calls", "rewritten_at") or name in values:
            bins = shares if words.startswith("share") else whole
            made[name] = bins(words.format(what=what), values.get(name, np.zeros(0, np.int64)))
    return made


def _rewritten_at(notes: Mapping[str, int]) -> NDArray[np.int64]:
    """Return, for each call with a rewritten history, the first message that differs."""
    found = [
        (int(note.removeprefix(REWRITTEN)), times)
        for note, times in notes.items()
        if note.startswith(REWRITTEN)
    ]
    messages, times = np.array(found, np.int64).reshape(-1, 2).T
    return np.repeat(messages, times)


def stats_json(stats: Stats, shape: ModelShape | None = None) -> dict[str, Any]:
    """Return manifest, costs and distributions as a JSON object."""
    shape = shape or ModelShape()
    works = {"branches": stats.costs.branches, "npass": stats.costs.npass}
    operations = {name: shape.operations(work) for name, work in works.items()}
    return {
        "manifest": stats.manifest,
        "costs": {"block_size": BLOCK, **to_builtins(stats.costs)},
        "model": {**to_builtins(shape), "operations": operations},
        "distributions": {
            key: distribution_json(each) for key, each in stats.distributions.items()
        },
    }


def stats_lines(
    stats: Stats, shape: ModelShape | None = None, width: int | None = None
) -> Iterator[str]:
    """Yield lines that draw the costs and each distribution.

    Without a `shape`, advice is for one layer of a small model.
    """
    yield ""
    yield from cost_lines(stats.costs, stats.manifest.layout, shape, width)
    for each in stats.distributions.values():
        yield ""
        yield from distribution_lines(each, width)
