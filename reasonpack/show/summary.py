"""A manifest → the summary that ends a run, and the words for what the run noticed.

rows           24 in 4 shards, 73,576 bytes
noticed        answers that were cut off or are to be continued; no stop is trained: 2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.show.advice import PAYS
from reasonpack.show.rejects import reject_lines
from reasonpack.show.text import columns
from reasonpack.wording import count, printable


def summary(
    manifest: Manifest,
    first: Mapping[str, str] = MappingProxyType({}),
    width: int | None = None,
    *,
    with_stats: bool = False,
) -> str:
    """Return lines that say what was packed, what it saved, and what was rejected.

    `first`: reason → an error of a record that was rejected for it.
    """
    rejects = reject_lines(manifest.counts, first)
    more = [("", "see rejects.jsonl in the output directory")] if manifest.counts.incomplete else []
    return columns([*summary_lines(manifest, with_stats=with_stats), *rejects, *more], width)


def summary_lines(manifest: Manifest, *, with_stats: bool = False) -> Iterator[tuple[str, str]]:
    """Yield what was packed and what it saved as (name, text); see `summary`."""
    counts, options = manifest.counts, manifest.options
    if said := _too_long(manifest):
        yield "too long", said
    size = sum(shard.bytes for shard in manifest.shards)
    if of_calls := "call_id" in manifest.columns:
        yield "groups", f"{counts.packed:,} packed"
        yield from _several_or_none(counts, options, "group")
        yield "calls", f"{counts.views:,} trained"
    else:
        of = counts.conversations + counts.duplicates
        yield "conversations", f"{counts.packed:,} packed of {of:,}"
        yield from _several_or_none(counts, options, "record")
        yield "views", count(counts.views, "trained assistant message")
    yield "rows", f"{counts.rows:,} in {count(len(manifest.shards), 'shard')}, {size:,} bytes"
    if options.split:
        rows = Counter[str]()
        for shard in manifest.shards:
            rows[shard.split] += shard.rows
        yield "splits", ", ".join(f"{each} {count(rows[each], 'row')}" for each in options.splits)
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in counts.tokens_by_kind.items() if n)
    yield "tokens", f"{counts.tokens:,}" + (f" ({kinds})" if kinds else "")
    share = f" ({counts.trained_tokens / counts.tokens:.1%})" if counts.tokens else ""
    yield "trained", count(counts.trained_tokens, "token") + share
    if options.packed and options.max_length and counts.rows:
        fill = counts.tokens / (counts.rows * options.max_length)
        yield "row fill", f"{fill:.1%} of {options.max_length:,} tokens"
        if options.max_cost:
            fill = counts.pairs / (counts.rows * options.max_cost)
            yield "row cost", f"{fill:.1%} of {options.max_cost:,} pairs of tokens"
    if counts.tokens:
        times = counts.npass_tokens / counts.tokens
        naive = f"{counts.naive_tokens:,} with one sample for every message"
        if of_calls:
            more = counts.naive_tokens / counts.tokens
            yield "as calls", f"{count(counts.naive_tokens, 'token')}, {more:.2f} times as many"
            naive = "without calls that others go on with"
        yield "N-pass", f"{counts.npass_tokens:,} tokens, {times:.2f} times as many ({naive})"
        if options.layout == "onepass":
            yield "onepass", _saving_of_onepass(times, with_stats=with_stats)
    if counts.missing_reasoning:
        answers = count(counts.missing_reasoning, "answer")
        yield "untrained", f"{answers} without the reasoning that the prompt opens"
    for line in note_lines(counts.notes, counts.examples):
        yield "noticed", printable(line)


def _several_or_none(counts: Counts, options: Options, what: str) -> Iterator[tuple[str, str]]:
    """Yield lines on records, or groups of them, that were packed several times or not at all."""
    if counts.copies:
        yield "copies", f"{counts.copies:,} of them, of {what}s that are packed more than once"
    if options.dedup != "none":
        same = "the calls" if what == "group" else "the messages and tools"
        records = count(counts.duplicates, what)
        yield "duplicates", f"{records} with {same} of an earlier one, not packed"
    if counts.not_taken:
        why = f"--sample {options.sample:,}" if options.sample else "the shares of the inputs"
        yield "not taken", f"{count(counts.not_taken, what)}, by {why}"


def _too_long(manifest: Manifest) -> str:
    """Return what was done with conversations longer than the limits; '' if there were none."""
    counts, said = manifest.counts, []
    whole, part, record = "conversation", "message", "conversation"
    if "call_id" in manifest.columns:
        whole, part, record = "group", "call", "record"
    if counts.divided:
        samples = count(counts.divided + counts.extra_samples, "sample")
        history = f"which repeat {count(counts.extra_tokens, 'token')} of history"
        said.append(f"{count(counts.divided, whole)} divided into {samples}, {history}")
    if left := sum(counts.left_out.values()):
        said.append(f"{count(left, part)} left untrained")
    if rejected := counts.rejects.get("overlong"):
        said.append(f"{count(rejected, record)} rejected")
    limits = {"--max-length": manifest.options.max_length, "--max-position": manifest.max_position}
    given = ", ".join(f"{name} {limit:,}" for name, limit in limits.items() if limit)
    return f"{'; '.join(said)} ({given or 'no limit'})" if said else ""


def _saving_of_onepass(times: float, *, with_stats: bool) -> str:
    """Return what onepass saves, given how many times as many tokens npass has.

    Only tokens are known here. A few long conversations may save much attention but few tokens,
    so only `advice` can decide.
    """
    if times == 1:
        return "saves nothing: no conversation has a branch, and npass rows are the same"
    saved = f"saves {1 - 1 / times:.1%} of the tokens"
    if with_stats:
        return saved
    if times < PAYS:
        return f"{saved}, so little that --layout npass will do unless stats says otherwise"
    return f"{saved}; its rows need the mask that reasonpack.torch makes, npass rows need none"


NOTES: Mapping[str, str] = {
    "reasoning-alone": "answers that end in their reasoning; neither its end nor a stop is trained",
    "nothing-written": "answers that were cut off before anything was written, left untrained",
    "unfinished": "answers that were cut off or are to be continued; no stop is trained",
    "repeated-reasoning": "fields of reasoning that repeat the answer, and were left out",
    "null-argument": "messages that call a tool with null, which the template writes as None",
    "built-in-tool": "tools that the service runs, written to prompts as logged; the model may "
    "have seen another text",
    "bare-tool": "tools that are no object of type function, written to prompts as they are; "
    "--field tools=functions makes them such objects, as services do",
    "no-tools": "conversations that call tools and have no list of them, so no prompt shows any",
    "argument-type": "arguments of another type than the tool says, so the text reads as another "
    "value",
    "form": "answers with reasoning in a form that the template does not know, trained as text; "
    "move it to reasoning_content to train it as reasoning",
    "closing-tag": "answers or reasoning with a closing tag that --stray-closing-tag reads as",
    "variable": "variables in chat_template_kwargs that the template does not read",
    "unread": "fields that are not read",
    "left-out": "fields that --ignore-fields leaves out",
    "renamed": "fields that --field reads under another name",
    "role": "messages whose role --role reads as another",
    "kept": "messages that the template cannot show exactly, kept as untrained context",
    "hidden-answer": "answers whose text or calls the template does not show in later prompts",
    "answer-in-messages": "calls whose answer is the last of their messages",
    "answer-in-prompt": "calls whose prompt held their own answer, which was left out of it",
    "copied-context": "calls that are copied context, and are not trained",
    "empty-generation": "calls whose answer is empty, and is not trained",
    "lacking": "trained calls without values that others have, NaN in the column",
    "failed-call": "calls that failed, and are not trained",
    "no-call": "records in which no model answered, and nothing is trained",
    "history-flag": "messages of prompts that are flagged as trained, but are only context",
    "cut-off": "calls whose ids end where a service cut them off, which are trained so",
    "stop-sequence": "answers that may end at a text the service was told to stop at; no stop is "
    "trained",
    "no-answer-text": "calls with ids whose messages have no answer, and are not compared",
    "text-not-compared": "calls with ids whose prompt is a text, or ids alone; not compared",
    "text-not-read": "calls with ids whose messages cannot be read, and are not compared",
    "several-calls": "steps that stand for several calls, and are not trained",
    "no-model-call": "steps that no model wrote, and are not trained",
    "rewritten-context": "steps after a rewritten context, which are not trained",
    "parsed-answer": "steps whose answer the agent took apart (not raw_content), not trained",
    "missing": "parts of prompts that the log does not hold",
    "untrained-call": "calls that are not trained",
    "repeated-call": "calls that are logged twice, and count once",
    "joined-continued": "calls that go on where an earlier one ends",
    "joined-known-prompt": "calls whose prompt is part of an earlier one, such as retries",
    "joined-otherwise": "calls whose prompt shows the last answer differently",
    "joined-rewritten": "calls whose history was rewritten, at",
    "joined-beginning": "calls that have nothing in common with those before them",
    "rendered-equal": "calls whose ids are those of their messages as the template renders them",
    "rendered-otherwise": "calls whose ids differ from what the template renders, in the",
    "not-rendered": "calls with ids whose messages cannot be rendered, and are not compared",
    "more": "further notes",
}
"""Kind of a note → what it counts. A note is a kind, or a kind, a space and a name."""
_WHY_UNTRAINED = (
    *("copied-context", "empty-generation", "failed-call", "no-call", "nothing-written"),
    *("several-calls", "no-model-call", "rewritten-context", "parsed-answer"),
)
"""Kinds that give the reason why a call is also counted as `untrained-call`."""
MOST_NAMES = 12
"""How many names of one kind are listed."""


def note_lines(notes: Mapping[str, int], examples: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each kind of note, with its example if there is one.

    >>> list(note_lines({"unfinished": 2, "unread score": 3, "unread url": 1}, {}))
    ... # doctest: +NORMALIZE_WHITESPACE
    ['answers that were cut off or are to be continued; no stop is trained: 2',
     'fields that are not read: score 3, url 1']
    """
    told = sum(notes.get(kind, 0) for kind in _WHY_UNTRAINED)
    if notes.get("untrained-call", 0) <= told:
        notes = {name: number for name, number in notes.items() if name != "untrained-call"}
    else:
        notes = {**notes, "untrained-call": notes["untrained-call"] - told}
    for kind, words in NOTES.items():
        named = {n: count for n, count in notes.items() if n.partition(" ")[0] == kind}
        if not named:
            continue
        if len(named) > MOST_NAMES:
            named = dict(sorted(named.items(), key=lambda each: -each[1]))
        listed = [_counted(n.partition(" ")[2], count) for n, count in named.items()]
        more = [f"and {len(listed) - MOST_NAMES:,} more"] if len(listed) > MOST_NAMES else []
        example = f"; for example {examples[kind]}" if kind in examples else ""
        yield f"{words}: {', '.join(listed[:MOST_NAMES] + more)}{example}"


def _counted(name: str, times: int) -> str:
    """Return a name with its count, in brackets if the name ends in a digit, as `message 1`."""
    return f"{name} ({times:,})" if name[-1:].isdecimal() else f"{name} {times:,}".lstrip()
