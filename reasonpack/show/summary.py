"""A manifest → the few lines that end a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from reasonpack.datasets.manifest import Manifest
from reasonpack.records.notes import note_lines
from reasonpack.rows.kind import KindLabel
from reasonpack.show.advice import PAYS
from reasonpack.show.rejects import reject_lines
from reasonpack.show.text import columns
from reasonpack.wording import count, printable

__all__ = ["summary"]


def summary(manifest: Manifest, first: Mapping[str, str] = MappingProxyType({})) -> str:
    """Say what was packed, what it saved, and what was rejected.

    Args:
        manifest: of the dataset.
        first: the first error of each reason for which records were rejected.
    """
    return columns(_lines(manifest, first))


def _lines(manifest: Manifest, first: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    counts, options = manifest.counts, manifest.options
    size = sum(shard.bytes for shard in manifest.shards)
    yield "conversations", f"{counts.packed:,} packed of {counts.conversations:,}"
    yield "views", f"{counts.views:,} trained assistant messages"
    yield "rows", f"{counts.rows:,} in {count(len(manifest.shards), 'shard')}, {size:,} bytes"
    yield "tokens", f"{counts.tokens:,}{_by_kind(counts.tokens_by_kind)}"
    yield (
        "trained",
        f"{counts.trained_tokens:,} tokens{_share(counts.trained_tokens, counts.tokens)}",
    )
    if options.packing and options.max_length and counts.rows:
        fill = counts.tokens / (counts.rows * options.max_length)
        yield "row fill", f"{fill:.1%} of {options.max_length:,} tokens"
    if counts.tokens:
        times = counts.npass_tokens / counts.tokens
        naive = f"{counts.naive_tokens:,} with one sample for every message"
        yield "N-pass", f"{counts.npass_tokens:,} tokens, {times:.2f} times as many ({naive})"
        if options.layout == "onepass":
            yield "onepass", _worth(times)
    if counts.missing_reasoning:
        answers = count(counts.missing_reasoning, "answer")
        yield "untrained", f"{answers} without the reasoning that the prompt opens"
    for line in note_lines(counts.notes):
        yield "noticed", printable(line)
    yield from reject_lines(counts.rejects, first)
    if counts.rejected:
        yield "", "see rejects.jsonl in the output directory"


def _worth(times: float) -> str:
    """Say whether onepass pays, from how many times the tokens npass has."""
    if times == 1:
        return "saves nothing: no conversation has a branch, and npass rows are the same"
    saved = f"saves {1 - 1 / times:.1%} of the tokens"
    if times < PAYS:
        return f"{saved}, so little that --layout npass will do"
    return f"{saved}; stats says what that is worth for your model"


def _by_kind(tokens: dict[KindLabel, int]) -> str:
    parts = ", ".join(f"{kind} {number:,}" for kind, number in tokens.items() if number)
    return f" ({parts})" if parts else ""


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if whole else ""
