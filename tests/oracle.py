"""The slow, obvious N-pass oracle: what a model sees and writes, one message at a time.

It shares no code with the package. A conversation becomes one view for each trained assistant
message, by rendering the whole chat twice and encoding whole texts; a view becomes (prefix, token)
pairs; a packed row becomes the same pairs by looking at every token from every token:

    messages ── views() ──▶ [(message, prompt, completion)] ── expected_pairs() ─▶ {(prefix, token)}
    row ── check_row() ──────────────────────────────────────────────────────────▶ {(prefix, token)}

The two are equal or the row is wrong. `planted` makes wrong rows, to see that they are caught.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

Json = dict[str, Any]
Pair = tuple[bytes, int]  # (digest of the prefix's tokens, the token that follows)
Columns = Mapping[str, Sequence[int]]

SWITCHES = ("enable_thinking", "thinking")
UNTRAINED = -100


# --- rendering -----------------------------------------------------------------------------------


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` renders its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own annotation is a plain set)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """Set jinja2 up as transformers documents it for chat templates."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


@functools.cache
def _compiled(source: str) -> jinja2.Template:
    return environment().from_string(source)


@functools.cache
def switches(source: str) -> tuple[str, ...]:
    """Name the thinking switches that a template reads as variables (not as message fields)."""
    free = meta.find_undeclared_variables(environment().parse(source))
    return tuple(name for name in SWITCHES if name in free)


def has_reasoning(message: Json) -> bool:
    """Whether there is anything but white space in the message's reasoning."""
    return bool((message.get("reasoning_content") or "").strip())


def seen_by_template(message: Json, *, reasoning_field: str) -> Json:
    """Drop None and `train`, and name the reasoning as the template does.

    An answer whose text holds nothing but a closing tag says that it has no reasoning.
    """
    seen = {name: value for name, value in message.items() if value is not None and name != "train"}
    if "reasoning_content" in seen:
        seen[reasoning_field] = seen.pop("reasoning_content")
    text = str(seen.get("content")).lstrip()
    if seen["role"] == "assistant" and "</think>" in text and not text.startswith("<think>"):
        seen.setdefault(reasoning_field, "")
    return seen


# --- views ---------------------------------------------------------------------------------------


class View(NamedTuple):
    """One N-pass sample: the message's index, what the model saw, what it wrote."""

    message: int
    prompt_ids: list[int]
    completion_ids: list[int]


class PrefixError(AssertionError):
    """The prompt of a message is no text prefix of the rendering that includes its answer."""


@dataclass(frozen=True, slots=True)
class Family:
    """What a test has to know of a fixture template: `fixtures/templates/<name>.jinja`."""

    stop: str = "<|im_end|>"
    reasoning_field: str = "reasoning_content"
    shows_reasoning: bool = True
    #: whether the rendering of an answer without reasoning continues its prompt
    takes_bare_answers: bool = True


FAMILIES: dict[str, Family] = {
    "stripped": Family(),
    "thinking_prompt": Family(takes_bare_answers=False),
    "tool_loop": Family(),
    "empty_history": Family(),
    "kept": Family(),
    "plain": Family(shows_reasoning=False),
    "headers": Family(stop="<|eot|>", reasoning_field="thinking"),
}


def trained_messages(messages: Sequence[Json], *, train_on: str = "all") -> list[int]:
    """Index the assistant messages to train: all, those after the last user message, or the last.

    >>> chat = [{"role": role} for role in ("user", "assistant", "user", "assistant", "assistant")]
    >>> [trained_messages(chat, train_on=each) for each in ("all", "last-turn", "last-message")]
    [[1, 3, 4], [3, 4], [4]]
    >>> trained_messages([*chat[:1], {**chat[1], "train": True}, *chat[2:]], train_on="last-turn")
    [1, 3, 4]
    """
    assert train_on in ("all", "last-turn", "last-message"), train_on
    role = "assistant" if train_on == "last-message" else "user"
    places = [index for index, message in enumerate(messages) if message["role"] == role]
    first = places[-1] if places and train_on != "all" else 0
    return [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("train", index >= first)
    ]


def view_texts(
    messages: Sequence[Json],
    source: str,
    message: int,
    *,
    stop: str,
    tools: Sequence[Json] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    reasoning_field: str = "reasoning_content",
) -> tuple[str, str]:
    """Render the prompt of one assistant message and the completion, which ends with `stop`.

    The thinking switch is on where the message has reasoning and off where it has none; `kwargs`
    given by the caller win. Raises PrefixError.
    """
    thinking = has_reasoning(messages[message])
    names = {**dict.fromkeys(switches(source), thinking), **(kwargs or {})}
    template = _compiled(source)
    chat = [seen_by_template(each, reasoning_field=reasoning_field) for each in messages]

    def render(upto: int, *, add_generation_prompt: bool) -> str:
        return template.render(
            messages=chat[:upto],
            tools=list(tools) if tools else None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **names,
        )

    prompt = render(message, add_generation_prompt=True)
    full = render(message + 1, add_generation_prompt=False)
    if not full.startswith(prompt):
        same = next((at for at, (a, b) in enumerate(zip(prompt, full, strict=False)) if a != b), 0)
        raise PrefixError(
            f"messages[{message}]: the prompt is no prefix of the rendering with its answer:\n"
            f"  after     {prompt[max(0, same - 60) : same]!r}\n"
            f"  prompt    {prompt[same : same + 60]!r}\n  rendering {full[same : same + 60]!r}"
        )
    end = full.rfind(stop, len(prompt))
    if end < 0:
        raise PrefixError(f"messages[{message}]: the rendering of the answer has no {stop!r}")
    if full.find(stop, len(prompt)) < end:
        raise PrefixError(f"messages[{message}]: {stop!r} inside, where no generation goes on")
    if is_cut_off(messages[message]):
        return prompt, full[len(prompt) : _end_of_text(messages[message], full, len(prompt), end)]
    return prompt, full[len(prompt) : end + len(stop)]


def is_cut_off(message: Json) -> bool:
    """Tell whether the model wrote no stop: it was cut off, at the latest while it reasoned."""
    alone = not (message.get("content") or "").strip() and not message.get("tool_calls")
    return message.get("finish_reason") == "length" or (alone and has_reasoning(message))


def _end_of_text(message: Json, full: str, start: int, stop: int) -> int:
    """Find where the last text of a message that was cut off is over, with its white space."""
    content, body = message.get("content") or "", full[start:stop].rstrip()
    if not content.strip():
        closers = ("</think>", "<|/thought|>")
        body = body.removesuffix(next((each for each in closers if body.endswith(each)), ""))
    text = content if content.strip() else message["reasoning_content"]
    end, space = start + len(body.rstrip()), text[len(text.rstrip()) :]
    return end + len(space) if full.startswith(space, end) else end


def views(
    messages: Sequence[Json],
    source: str,
    tokenizer: Tokenizer,
    *,
    stop: str,
    tools: Sequence[Json] | None = None,
    train_on: str = "all",
    kwargs: Mapping[str, Any] | None = None,
    reasoning_field: str = "reasoning_content",
) -> list[View]:
    """Build the view of each trained assistant message, prompt and completion encoded apart."""

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    found = []
    for message in trained_messages(messages, train_on=train_on):
        prompt, completion = view_texts(
            messages,
            source,
            message,
            stop=stop,
            tools=tools,
            kwargs=kwargs,
            reasoning_field=reasoning_field,
        )
        found.append(View(message, encode(prompt), encode(completion)))
    return found


# --- parts ---------------------------------------------------------------------------------------


def part_of_tokens(message: Json, completion: str, tokenizer: Tokenizer) -> list[str]:
    """Name the part of the answer that each token of its completion is of, by its last character.

    The content begins and ends with something else than white space, or the borders are not plain.
    """
    said = message["content"]
    assert said == said.strip() != ""
    start = 0
    for closer in ("</think>", "<|/thought|>") if has_reasoning(message) else ():
        start = max(start, completion.find(closer) + len(closer) if closer in completion else 0)
    start = completion.index(said, start)
    stop = start + len(said) if message.get("tool_calls") else len(completion)
    encoded = tokenizer.encode(completion, add_special_tokens=False)
    last = [max(begin, end - 1) for begin, end in encoded.offsets]
    return ["reasoning" if at < start else "response" if at < stop else "tool-calls" for at in last]


def has_part(message: Json, part: str) -> bool:
    """Whether there is anything of a part in an answer."""
    calls = bool(message.get("tool_calls"))
    said = bool((message.get("content") or "").strip())
    return {"reasoning": has_reasoning(message), "tool-calls": calls}.get(part, said or not calls)


# --- pairs ---------------------------------------------------------------------------------------


def digest(ids: Sequence[int] | np.ndarray) -> bytes:
    """Stand for a prefix: the digest of its tokens as little-endian int32."""
    return hashlib.blake2b(np.asarray(ids, dtype="<i4").tobytes(), digest_size=16).digest()


def expected_pairs(found: Iterable[tuple[int, Sequence[int], Sequence[int]]]) -> Counter[Pair]:
    """Count each (prefix, token) that the views train, once, however many views share it.

    >>> sorted(expected_pairs([(1, [5], [6, 7]), (3, [5, 6], [7])]).values())
    [1, 1]
    """
    pairs: set[Pair] = set()
    for _, prompt, completion in found:
        prefix = hashlib.blake2b(np.asarray(prompt, dtype="<i4").tobytes(), digest_size=16)
        for token in completion:
            pairs.add((prefix.digest(), token))
            prefix.update(np.int32(token).astype("<i4").tobytes())
    return Counter(pairs)


def visible_until(columns: Columns) -> np.ndarray:
    """Spread the table of segments over the tokens: int64[T], exclusive, row-relative."""
    bounds = [*columns["segment_start"], len(columns["input_ids"])]
    until = np.zeros(len(columns["input_ids"]), dtype=np.int64)
    for segment, end in enumerate(columns["segment_visible_until"]):
        until[bounds[segment] : bounds[segment + 1]] = end
    return until


def visible(columns: Columns) -> np.ndarray:
    """Look from every token at every token: bool[T, T], `[q, k]` is True where q sees k."""
    token = np.arange(len(columns["input_ids"]))
    until = visible_until(columns)
    return (token[None, :] <= token[:, None]) & (token[:, None] < until[None, :])


def check_samples(columns: Columns) -> list[Counter[Pair]]:
    """Check a row token by token and count what each packed sample trains.

    `columns` are the plain lists of one row: input_ids, position_ids, labels, segment_start,
    segment_visible_until, sample_start. A token may stand twice, untrained the second time, to be
    followed by another trained token. Raises AssertionError if the tables do not tile the row, a
    token does not see exactly the positions 0, 1, 2, … up to its own, samples see each other, or a
    trained token does not directly follow the prefix that it is to be predicted from.
    """
    _check_tables(columns)
    ids = np.asarray(columns["input_ids"], dtype=np.int64)
    positions = np.asarray(columns["position_ids"], dtype=np.int64)
    labels = np.asarray(columns["labels"], dtype=np.int64)
    until = visible_until(columns)
    token = np.arange(len(ids))
    samples = [*columns["sample_start"], len(ids)]

    counts: list[Counter[Pair]] = []
    for start, end in itertools.pairwise(samples):
        pairs: Counter[Pair] = Counter()
        before = np.empty(0, dtype=np.int64)  # what the token before sees, in position order
        for query in range(start, end):
            keys = np.flatnonzero(query < until[: query + 1])
            assert keys[0] >= start, (
                f"token {query} of the sample {start}:{end} sees {keys[0]}, in another sample"
            )
            if not np.array_equal(positions[keys], token[: len(keys)]):
                keys = keys[np.argsort(positions[keys], kind="stable")]
                assert np.array_equal(positions[keys], token[: len(keys)]), (
                    f"token {query} sees the positions {positions[keys].tolist()}, expected 0, 1, …"
                )
            assert positions[query] == len(keys) - 1, (
                f"token {query} is at position {positions[query]} and sees {len(keys)} tokens"
            )
            if labels[query] != UNTRAINED:
                assert labels[query] == ids[query], (
                    f"token {query} is {ids[query]}, its label {labels[query]}, expected unshifted"
                )
                assert query > start, f"token {query} is trained and has nothing before it"
                # The hidden state of the token just before predicts it, so that one has to see all
                # that the view shows. What a token sees is gone for good once it is not seen, so
                # the same count before it means the same tokens.
                assert positions[query] == len(before), (
                    f"token {query} is trained at position {positions[query]}, but token "
                    f"{query - 1}, which predicts it, sees {len(before)} tokens"
                )
                pairs[digest(ids[before]), int(ids[query])] += 1
            before = keys
        counts.append(pairs)
    return counts


def check_row(columns: Columns) -> Counter[Pair]:
    """Check a row as `check_samples` does and count what the whole row trains."""
    return sum(check_samples(columns), Counter())


# --- calls ---------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call as it was logged: what it saw, what it wrote, and which of that is trained."""

    id: str
    prompt_ids: list[int]
    completion_ids: list[int]
    mask: list[bool] | None = None
    weight: float = 1.0

    def pairs(self) -> list[Pair]:
        """List each trained token with its prefix."""
        ids = [*self.prompt_ids, *self.completion_ids]
        mask = self.mask or [True] * len(self.completion_ids)
        places = [len(self.prompt_ids) + at for at, trained in enumerate(mask) if trained]
        return [(digest(ids[:place]), ids[place]) for place in places]


def expected_weights(calls: Iterable[Call]) -> Counter[Pair]:
    """Add up what the calls, one by one, weigh each (prefix, token) with."""
    weights: Counter[Pair] = Counter()
    for call in calls:
        for pair in call.pairs():
            weights[pair] += call.weight  # type: ignore[assignment]
    return weights


def expected_per_call(calls: Iterable[Call]) -> Counter[tuple[str, Pair]]:
    """Count what each call trains."""
    return Counter((call.id, pair) for call in calls for pair in call.pairs())


class Target(NamedTuple):
    """A token that a loss is taken of, found in a row: its place, its pair, and its call."""

    place: int
    pair: Pair
    call: str


def targets(columns: Columns, *, labels: str = "labels") -> list[Target]:
    """Find the targets of a row, and their calls, by looking at every token from every token."""
    check_row(columns)
    ids = np.asarray(columns["input_ids"])
    positions = np.asarray(columns["position_ids"])
    sees = visible(columns)
    segment_of = np.searchsorted(columns["segment_start"], np.arange(len(ids)), "right") - 1
    found = []
    for place in np.flatnonzero(np.asarray(columns[labels]) != UNTRAINED).tolist():
        keys = np.flatnonzero(sees[place])
        keys = keys[keys != place]
        prefix = ids[keys[np.argsort(positions[keys])]]
        pair, call = (digest(prefix), int(ids[place])), ""
        if "segment_call" in columns:
            number = columns["segment_call"][segment_of[place]]
            assert number >= 0, f"token {place} is trained and of no call"
            call = str(columns["call_id"][number])
        found.append(Target(place, pair, call))
    return found


def weights(rows: Iterable[Columns]) -> Counter[Pair]:
    """Add up the weights with which rows train each (prefix, token)."""
    found: Counter[Pair] = Counter()
    for columns in rows:
        for target in targets(columns):
            found[target.pair] += columns["loss_weights"][target.place]
    return found


def per_call(rows: Iterable[Columns]) -> Counter[tuple[str, Pair]]:
    """Count what rows train of each call."""
    return Counter((each.call, each.pair) for columns in rows for each in targets(columns))


def _check_tables(columns: Columns) -> None:
    length = len(columns["input_ids"])
    for name in ("position_ids", "labels"):
        assert len(columns[name]) == length, f"{name} has {len(columns[name])} of {length} tokens"
    starts, until = columns["segment_start"], columns["segment_visible_until"]
    assert len(starts) == len(until), f"{len(starts)} segment_start, {len(until)} visible_until"
    for name in ("segment_start", "sample_start"):
        bounds = [*columns[name], length]
        assert bounds[0] == 0, f"{name} begins at {bounds[0]}"
        assert all(a < b for a, b in itertools.pairwise(bounds)), f"{name}: {bounds}"
    assert set(columns["sample_start"]) <= set(starts), "a sample begins inside a segment"
    ends = [*starts[1:], length]
    for segment, (end, seen) in enumerate(zip(ends, until, strict=True)):
        assert end <= seen <= length, (
            f"segment {segment} ends at {end} and is visible until {seen} of {length}"
        )


# --- planted faults ------------------------------------------------------------------------------

FAULTS = (
    "label-shifted",
    "branches-swapped",
    "context-first",
    "until-short",
    "until-long",
    "row-positions",
)
COPY_FAULTS = ("copy-trained", "copy-of-another")
"""Those that have a place only where a token has several trained children."""


def planted(columns: Columns, fault: str) -> dict[str, list[int]] | None:
    """Copy a right row with one fault in it; None where the row has no place for that fault.

    - label-shifted: every label one token late, as if the labels were shifted already
    - branches-swapped: the tokens of two sibling branches change places, the table of segments not
    - context-first: the same with the table moved too, so that only the order is wrong: as in the
      paper's `h t r_in r_out`, what later turns read stands before a trained branch. A place is a
      trained branch whose sibling then comes before it
    - until-short, until-long: one `visible_until` off by one
    - row-positions: positions as row index
    - copy-trained, copy-of-another: a token that stands a second time, for a further trained child,
      is trained there too, or is another token
    """
    row = {name: list(values) for name, values in columns.items() if name in _COLUMNS}
    length = len(row["input_ids"])
    if fault == "label-shifted":
        row["labels"] = [UNTRAINED, *row["labels"][:-1]]
    elif fault == "branches-swapped":
        places = [place for place in _siblings(row) if not _alike(row, *place)]
        if places:
            _swap(row, *places[0])
    elif fault == "context-first":
        places = [place for place in _siblings(row) if row["labels"][place[0]] != UNTRAINED]
        if places:
            _swap(row, *places[0])
            _swap_table(row, *places[0])
    elif fault == "until-short":
        row["segment_visible_until"][0] -= 1
    elif fault == "until-long":
        inside = [s for s, end in enumerate(row["segment_visible_until"]) if end < length]
        if inside:
            row["segment_visible_until"][inside[0]] += 1
    elif fault == "row-positions":
        row["position_ids"] = list(range(length))
    elif fault == "copy-trained":
        for place in _copies(row)[:1]:
            row["labels"][place] = row["input_ids"][place]
    elif fault == "copy-of-another":
        for place in _copies(row)[:1]:
            row["input_ids"][place] += 1
    else:
        raise ValueError(f"unknown fault {fault!r}")
    return None if all(row[name] == list(columns[name]) for name in row) else row


_COLUMNS = (
    "input_ids",
    "position_ids",
    "labels",
    "segment_start",
    "segment_visible_until",
    "sample_start",
)


def _copies(row: Columns) -> list[int]:
    """List the tokens that stand in the row a second time, behind the same tokens."""
    seen = [tuple(np.asarray(row["input_ids"])[keys].tolist()) for keys in visible(row)]
    return [place for place, path in enumerate(seen) if place and path in seen[:place]]


def _siblings(row: Columns) -> list[tuple[int, int, int]]:
    """List (start, middle, end) of each two neighbouring branches below one token."""
    starts, until = list(row["segment_start"]), list(row["segment_visible_until"])
    found = []
    for left, start in enumerate(starts):
        middle = until[left]
        above = [until[s] for s in range(left) if until[s] > start]
        if middle in starts and above and min(above) > middle:
            found.append((start, middle, until[starts.index(middle)]))
    return found


def _alike(row: Columns, start: int, middle: int, end: int) -> bool:
    """Tell whether two branches can change places: the same tokens, or the same table."""
    left, right = slice(start, middle), slice(middle, end)
    same = all(row[name][left] == row[name][right] for name in ("input_ids", "labels"))
    return same or _table(row, start, middle) == _table(row, middle, end)


def _table(row: Columns, start: int, end: int) -> list[tuple[int, int]]:
    """List the segments of a branch as (start, visible_until), counted from its first token."""
    table = zip(row["segment_start"], row["segment_visible_until"], strict=True)
    return [(begin - start, seen - start) for begin, seen in table if start <= begin < end]


def _swap(row: dict[str, list[int]], start: int, middle: int, end: int) -> None:
    for name in ("input_ids", "position_ids", "labels"):
        row[name][start:end] = row[name][middle:end] + row[name][start:middle]


def _swap_table(row: dict[str, list[int]], start: int, middle: int, end: int) -> None:
    table = list(zip(row["segment_start"], row["segment_visible_until"], strict=True))
    for segment, (begin, seen) in enumerate(table):
        if start <= begin < end:
            move = end - middle if begin < middle else start - middle
            table[segment] = (begin + move, seen + move)
    table.sort()
    row["segment_start"] = [begin for begin, _ in table]
    row["segment_visible_until"] = [seen for _, seen in table]


# --- the paper's formulas ------------------------------------------------------------------------

Segment = tuple[str, int]  # ("h" | "t" | "r_out" | "r_in", turn from 1)
Token = tuple[Segment, int]  # (segment, offset in it)


@dataclass(frozen=True, slots=True)
class Paper:
    """Visibility sets, positions and loss mask of arXiv 2504.18246, keyed by (segment, offset)."""

    visible: dict[Token, frozenset[Token]] = field(default_factory=dict)
    position: dict[Token, int] = field(default_factory=dict)
    trained: set[Token] = field(default_factory=set)


def paper_visibility(
    *, h: Sequence[int], t: Sequence[int], r_out: Sequence[int], r_in: Sequence[int]
) -> Paper:
    """Write out the paper's sets for N turns whose streams have the given lengths.

    Every token sees itself and what precedes it in its own segment, and besides
    h_i: h_j, r_in_j for j < i; t_i: h_j for j ≤ i, r_in_j for j < i; r_out_i: the same and t_i;
    r_in_i: what t_i sees. Positions: h_1 begins at 0; t_i and r_in_i begin after h_i; r_out_i after
    t_i; h_{i+1} after r_in_i. Loss: t and r_out.
    """
    paper = Paper()
    begin = 0
    for turn, lengths in enumerate(zip(h, t, r_out, r_in, strict=True), start=1):
        size = dict(zip(("h", "t", "r_out", "r_in"), lengths, strict=True))
        after_h = begin + size["h"]
        starts = {"h": begin, "t": after_h, "r_out": after_h + size["t"], "r_in": after_h}
        history = {
            (stream, past): (h if stream == "h" else r_in)[past - 1]
            for past in range(1, turn)
            for stream in ("h", "r_in")
        }
        for kind, length in size.items():
            context = dict(history)
            if kind != "h":
                context["h", turn] = size["h"]
            if kind == "r_out":
                context["t", turn] = size["t"]
            others = {(name, offset) for name, count in context.items() for offset in range(count)}
            for offset in range(length):
                token = ((kind, turn), offset)
                own = {((kind, turn), earlier) for earlier in range(offset + 1)}
                paper.visible[token] = frozenset(others | own)
                paper.position[token] = starts[kind] + offset
                if kind in ("t", "r_out"):
                    paper.trained.add(token)
        begin = starts["r_in"] + size["r_in"]
    return paper


# --- dialects ------------------------------------------------------------------------------------


def plain_chat(record: Json) -> tuple[list[Json], list[Json] | None]:
    """Read a record of `fixtures/chats.jsonl`, in whatever dialect, as (messages, tools)."""
    if "messages" in record:
        messages = record["messages"]
    elif "conversations" in record:
        names = {"human": "user", "gpt": "assistant", "system": "system"}
        messages = [
            {"role": names[each["from"]], "content": each["value"]}
            for each in record["conversations"]
        ]
    else:
        messages = [*record["prompt"], *record["completion"]]
    tools = record.get("tools")
    return [_plain_message(each) for each in messages], (
        json.loads(tools) if isinstance(tools, str) else tools
    )


def _plain_message(message: Json) -> Json:
    plain = {name: value for name, value in message.items() if value is not None}
    for name in ("reasoning", "thinking"):
        if name in plain:
            plain["reasoning_content"] = plain.pop(name)
    content = plain.get("content", "")
    if plain["role"] == "assistant" and content.startswith("<think>"):
        reasoning, _, answer = content.removeprefix("<think>").partition("</think>")
        plain |= {"reasoning_content": reasoning.strip("\n"), "content": answer.lstrip("\n")}
    if "tool_calls" in plain:
        plain["tool_calls"] = [_plain_call(call) for call in plain["tool_calls"]]
    return plain


def _plain_call(call: Json) -> Json:
    arguments = call["function"]["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return {**call, "function": {**call["function"], "arguments": arguments}}
