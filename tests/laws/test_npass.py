"""The theorem: a row trains what N-pass trains, token for token.

For every trained token the tokens visible to it, in position order, are exactly the prefix of
its view; and the (prefix, token) pairs trained are those of N-pass, each once. The oracle
renders with plain jinja2, encodes whole texts and shares no code with the package.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
import strategies
from encoded import LaidOut, lay_out_tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from reasonpack.choices import Layout
from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message, parse_line
from reasonpack.records.tool_calls import ToolCall
from reasonpack.records.unit import Record
from reasonpack.rows.schema import schema
from reasonpack.rows.table import rows_to_table
from reasonpack.run.context import load_context as load_context_anew
from reasonpack.run.conversations import Chats
from reasonpack.tokens.view_tokens import Cutter, Pieces
from reasonpack.views.chosen import PARTS
from reasonpack.views.view import build_views
from tests.changed import replace

load_context = functools.cache(load_context_anew)

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SHARED = ROOT.parent / "shared" / "data"
FAMILIES = list(oracle.FAMILIES)
EXAMPLES = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

Json = dict[str, Any]


@functools.cache
def tokenizer(directory: Path = FIXTURES / "tokenizer") -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def template(family: str) -> Path:
    return FIXTURES / "templates" / f"{family}.jinja"


def options(family: str, **changes: Any) -> Options:
    return Options(
        tokenizer=str(FIXTURES / "tokenizer"), chat_template=str(template(family)), **changes
    )


def verbatim(record: Json) -> Conversation:
    """Take a record word for word: parse_line finds reasoning in contents with think tags."""
    known = {"role", "content", "reasoning_content", "tool_calls", "train"}
    messages = [
        Message(
            role=each["role"],
            content=each.get("content"),
            reasoning=each.get("reasoning_content"),
            tool_calls=tuple(
                ToolCall(call["function"]["name"], call["function"]["arguments"], None, call["id"])
                for call in each.get("tool_calls", ())
            ),
            train=each.get("train", True),
            extra={name: value for name, value in each.items() if name not in known},
            finished=each["role"] != "assistant" or not oracle.is_cut_off(each),
        )
        for each in record["messages"]
    ]
    tools = record.get("tools")
    return Conversation("test", tuple(messages), tuple(tools) if tools else None)


def laid_out(record: Json | Conversation, chosen: Options) -> LaidOut:
    """Run a record through the package as a work unit does; raises RecordError."""
    context = load_context(chosen)
    given = isinstance(record, Conversation)
    line = b"" if given else json.dumps(record).encode()
    conversation = record if given else parse_line(line, "test:1", reading=context.reading)
    views = build_views(conversation, context.rendering(conversation), train_on=chosen.train_on)
    tokenizer = context.tokenizer
    pieces = Pieces(tokenizer.cut, reach=tokenizer.reach, decode=tokenizer.decode)
    cutter = Cutter(pieces)
    cut = [cutter.add(view) for view in views]
    pieces.encode(tokenizer.encode_batch)
    return lay_out_tokens(conversation.id, pieces.look_up([cut]), layout=chosen.layout)


def rows(made: LaidOut) -> list[Json]:
    """Write samples as rows of plain lists."""
    order = [[index] for index in range(len(made.samples))]
    table: list[Json] = rows_to_table(made.samples, order, schema()).to_pylist()
    return table


def trained(made: LaidOut) -> Counter[Any]:
    """Check rows token by token and count the (prefix, token) pairs that they train."""
    return sum(map(oracle.check_row, rows(made)), Counter())


def expected(record: Json, family: str, *, train_on: str = "all") -> Counter[Any]:
    """Count what N-pass trains; raises PrefixError where the oracle cannot say."""
    return oracle.expected_pairs(expected_views(record, family, train_on=train_on))


def expected_views(record: Json, family: str, *, train_on: str = "all") -> list[oracle.View]:
    """List the views of a record; raises PrefixError where the oracle cannot say."""
    facts = oracle.FAMILIES[family]
    messages = record["messages"]
    if not facts.takes_bare_answers:  # they stay context: the model never answers like this
        messages = [
            each if each["role"] != "assistant" or oracle.has_reasoning(each)
            else {**each, "train": False}
            for each in messages
        ]  # fmt: skip
    return oracle.views(
        messages,
        template(family).read_text("utf-8"),
        tokenizer(),
        stop=facts.stop,
        tools=record.get("tools"),
        train_on=train_on,
        reasoning_field=facts.reasoning_field,
    )


def conversations(family: str, *, wild: bool) -> st.SearchStrategy[Json]:
    shows = oracle.FAMILIES[family].shows_reasoning
    reasoning: strategies.Reasoning | None = None if shows else "never"
    return strategies.conversations(reasoning=reasoning, wild=wild)


def in_full(record: Json) -> Json:
    """Give every assistant message a content, as records have to that are no tool calls."""
    messages = [
        {"content": "", **each} if each["role"] == "assistant" else each
        for each in record["messages"]
    ]
    return {**record, "messages": messages}


@pytest.mark.parametrize("layout", ["onepass", pytest.param("npass", marks=pytest.mark.long)])
@pytest.mark.parametrize("family", FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_rows_train_what_npass_trains(family: str, layout: Layout, data: st.DataObject) -> None:
    record = in_full(data.draw(conversations(family, wild=False)))
    train_on = data.draw(st.sampled_from(["all", "all", "last-turn", "last-message"]))
    wanted = expected(record, family, train_on=train_on)
    chosen = options(family, layout=layout, train_on=train_on)
    if not wanted:
        with pytest.raises(RecordError) as refusal:
            laid_out(record, chosen)
        assert refusal.value.reason in {"nothing-to-train", "no-assistant"}
        return
    assert trained(laid_out(record, chosen)) == wanted


def trained_in_parts(record: Json, family: str) -> Counter[Any]:
    """Count what is trained where each part of answers is trained by itself.

    Raises a RecordError where a text cannot be told from calls in front of it.
    """
    found = Counter[Any]()
    for part in PARTS:
        try:
            found += trained(laid_out(record, options(family, train_on=part)))
        except RecordError as refused:
            if refused.reason not in {"nothing-to-train", "no-assistant"}:
                raise
    return found


@pytest.mark.parametrize("family", FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_each_part_is_trained_after_the_prefixes_of_the_whole(
    family: str, data: st.DataObject
) -> None:
    record = in_full(data.draw(conversations(family, wild=False)))
    wanted = expected(record, family)
    with contextlib.suppress(RecordError):
        assert trained_in_parts(record, family) == wanted


@pytest.mark.parametrize("family", [each for each in FAMILIES if each != "plain"])
def test_an_answer_without_the_part_between_two_that_have_it(family: str) -> None:
    """The next view is cut from where it parts from the last one that is trained."""
    cut_off = {"reasoning_content": "Two and two", "content": ""}
    whole = {"reasoning_content": "Easy.", "content": "It is four."}
    answers = [{"content": "Four."}, cut_off, {"content": "Five."}, cut_off, whole, cut_off, whole]
    messages = [
        message
        for answer in answers
        for message in ({"role": "user", "content": "So?"}, {"role": "assistant", **answer})
    ]
    record = {"messages": messages}
    assert trained_in_parts(record, family) == expected(record, family)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_wild_texts_are_exact_or_refused(family: str, data: st.DataObject) -> None:
    record = in_full(data.draw(conversations(family, wild=True)))
    for message in record["messages"]:  # reasoning of white space is left untrained: test_views
        if not oracle.has_reasoning(message):
            message.pop("reasoning_content", None)
    try:
        made = laid_out(verbatim(record), options(family))
    except RecordError:
        return
    found = trained(made)  # whatever the oracle can say, the row is sound in itself
    try:
        wanted = expected(record, family)
    except oracle.PrefixError:
        return
    assert found == wanted


@pytest.mark.long
@pytest.mark.parametrize("layout", ["onepass", "npass"])
@pytest.mark.parametrize("family", FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_what_fits_is_trained_as_npass_trains_it(
    family: str, layout: Layout, data: st.DataObject
) -> None:
    record = in_full(data.draw(conversations(family, wild=False)))
    views = expected_views(record, family)
    if not views:
        return
    lengths = {view.message: len(view.prompt_ids) + len(view.completion_ids) for view in views}
    limits = st.integers(min(lengths.values()), max(lengths.values()) + 20)
    row, position = data.draw(limits), data.draw(st.none() | limits)
    chosen = options(family, layout=layout, max_length=row)
    context = replace(load_context(options(family)), max_position=position)
    given_record = Record("test:1", json.dumps({"id": "test", **record}).encode())
    made = Chats(chosen, context).lay_out([given_record])
    most = min(row, position or row)
    fitting = [view for view in views if lengths[view.message] <= most]
    table = rows_to_table(made.samples, made.rows["train"], schema()).to_pylist()
    found = sum((oracle.check_row(each) for each in table), Counter())
    assert found == oracle.expected_pairs(fitting)
    assert all(each["length"] <= row for each in table)
    left = {(line["message"], line["tokens"]) for line in made.rejects if "kind" in line}
    long = {(message, length) for message, length in lengths.items() if length > most}
    assert left == (long if fitting else set())
    assert made.counts.rejects == ({} if fitting else {"overlong": 1})


# --- planted faults -------------------------------------------------------------------


def fixture_records() -> list[Json]:
    lines = (FIXTURES / "chats.jsonl").read_text("utf-8").splitlines()
    return [record for record in map(json.loads, lines) if "messages" in record]


FAULTS = ["label-shifted", "branches-swapped", "until-short", "until-long", "row-positions"]


@pytest.mark.parametrize("fault", [*FAULTS, "context-first"])
def test_a_planted_fault_is_found(fault: str) -> None:
    tried = 0
    for record in fixture_records()[:8]:
        try:
            made = laid_out(record, options("stripped"))
        except RecordError:
            continue
        (row,) = rows(made)
        good = oracle.check_row(row)
        broken = oracle.planted(row, fault)
        if broken is None:
            continue
        tried += 1
        try:
            found = oracle.check_row(broken)
        except AssertionError:
            continue
        assert found != good, f"{fault} went unnoticed in {record['id']}"
    assert tried, f"no row has a place for {fault}"


def test_a_wrong_oracle_would_be_noticed() -> None:
    """The comparison itself must be able to fail: another stop text gives other pairs."""
    record = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    made = trained(laid_out(record, options("kept")))
    assert made == expected(record, "kept")
    changed = {"messages": [record["messages"][0], {"role": "assistant", "content": "c"}]}
    assert made != expected(changed, "kept")


# --- what is shipped, and what is real ------------------------------------------------


@pytest.mark.parametrize("family", ["stripped", "empty_history", "tool_loop", "kept"])
def test_shipped_conversations(family: str) -> None:
    checked = 0
    for record in fixture_records():
        plain = {name: record[name] for name in ("messages", "tools") if name in record}
        dialect = {"reasoning", "thinking", "thought"}
        known = all(not dialect & message.keys() for message in plain["messages"])
        if not known or "<think>" in json.dumps(plain) or isinstance(plain.get("tools"), str):
            continue  # dialects that the oracle does not read; test_conversation reads them
        if any(
            isinstance(call["function"]["arguments"], str)
            for message in plain["messages"]
            for call in message.get("tool_calls") or []
        ):
            continue
        checked += 1
        assert trained(laid_out(plain, options(family))) == expected(plain, family)
    assert checked >= 10


def real_records(name: str) -> Iterator[Json]:
    with (SHARED / name).open("rb") as lines:
        yield from map(json.loads, lines)


@pytest.mark.network
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real conversations beside the checkout")
@pytest.mark.parametrize("name", ["llamafactory_reason_tool_use.jsonl", "nemo_gym_rollouts.jsonl"])
@pytest.mark.parametrize(
    ("layout", "chat_template"),
    [
        ("npass", "Qwen3's own"),
        *(("onepass", each) for each in ("Qwen3's own", "trl/qwen3_6", "trl/qwen3_8")),
    ],
)
def test_real_conversations(name: str, layout: Layout, chat_template: str) -> None:
    """Over real chats, the real Qwen3 tokenizer, and templates that strip and that keep."""
    import assets

    directory = assets.tokenizer_dir("qwen3")
    config = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
    own = chat_template == "Qwen3's own"
    source = config["chat_template"] if own else assets.template(chat_template)
    reference = tokenizer(directory)
    chosen = Options(
        tokenizer=str(directory),
        layout=layout,
        chat_template=source,
        stray_closing_tag="text",  # two answers hold a tag, and have reasoning
    )
    checked = beyond = 0
    for record in real_records(name):
        made = laid_out(record, chosen)
        if made.counts.npass_tokens > 7_000:  # the oracle looks at every pair of tokens
            continue
        found = trained(made)
        try:
            views = oracle.views(
                record["messages"],
                source,
                reference,
                stop="<|im_end|>",
                tools=record.get("tools"),
            )
        except oracle.PrefixError:
            beyond += 1  # the answer does not continue its prompt: the package composes it
            continue
        assert found == oracle.expected_pairs(views)
        checked += 1
    assert checked >= 45
    assert beyond <= 4
