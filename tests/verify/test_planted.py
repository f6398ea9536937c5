"""Faults that packing once had, planted in what packs: `verify --against` finds each of them.

    record ── parse ──▶ conversation ── each_view ──▶ views ── encode ──▶ ids ──▶ dataset
                  ▲                           ▲                   ▲
                  └────────── one fault at one of these ──────────┘

Nothing of `reasonpack.verify` is touched, so a fault that it shared with packing would go unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_twice import TOKENIZER, Json

from reasonpack.datasets.options import Options
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message
from reasonpack.rows.kind import Kind
from reasonpack.run import conversations
from reasonpack.run.pack import pack_files
from reasonpack.templates.learn import learn
from reasonpack.tokens.view_tokens import Pieces
from reasonpack.verify.check import verify_dataset
from reasonpack.views import view as view_module
from reasonpack.views.view import View
from tests.changed import replace

pytestmark = pytest.mark.long

TEMPLATES = TOKENIZER.parent / "templates"
PASSING = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shows the content as it is, think tags and all."""
SWITCHED = (
    "{% set own = '' if enable_thinking else '<think>\n\n</think>\n' %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ own if m.role == 'assistant' }}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ own }}{% endif %}"
)
"""The same, behind an empty block of its own where thinking is off."""
ITEMS = [
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Two and two."}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Four."}]},
]
THINKING = {"role": "assistant", "content": "Four.", "reasoning_content": " Two and two. \n"}
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"key": "a"}}}


def record(*answers: Json, **fields: Any) -> Json:
    """Make a record in which each answer has a question."""
    messages = [each for one in answers for each in ({"role": "user", "content": "And?"}, one)]
    return {"id": "one", "messages": messages, **fields}


def said(content: str, **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


@dataclass(frozen=True)
class Planted:
    """A fault: what it does to the messages or views of a record that shows it."""

    record: Json
    messages: Callable[[Sequence[Message]], Sequence[Message]] = lambda messages: messages
    view: Callable[[str], str] = lambda text: text
    prompt: Callable[[str], str] = lambda text: text
    reading: dict[str, str] | None = None
    ids: Callable[[str, Any], Any] = lambda _text, ids: ids
    template: str | None = None
    parquet: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def each(**change: Any) -> Callable[[Sequence[Message]], list[Message]]:
    """Change the fields of every answer; a function gets the message."""

    def changed(message: Message) -> Message:
        if message.role != "assistant":
            return message
        values = {name: new(message) if callable(new) else new for name, new in change.items()}
        return replace(message, **values)

    return lambda messages: [changed(message) for message in messages]


def apart(messages: Sequence[Message]) -> list[Message]:
    """Make two messages of one that has reasoning and calls."""
    made: list[Message] = []
    for message in messages:
        if message.tool_calls and message.reasoning:
            made.append(replace(message, tool_calls=(), content="", finished=True))
            made.append(replace(message, reasoning=None, verbatim=None))
        else:
            made.append(message)
    return made


def other_ids(text: str, ids: Any) -> Any:
    """Give the last token of a text with a long s another id, as one backend did."""
    return np.append(ids[:-1], ids[-1] + 1).astype(np.int32) if "ſ" in text else ids


STRAY = "It writes </think> and then answers."
FAULTS = {
    "stop one token too far": Planted(record(THINKING), view=lambda text: text + "\n"),
    "a line break for the stop": Planted(
        record(THINKING), view=lambda text: text.removesuffix("<|im_end|>") + "\n"
    ),
    "no stop": Planted(record(THINKING), view=lambda text: text.removesuffix("<|im_end|>")),
    "an opener that inline reasoning lacks": Planted(
        record(said("Two and two.\n</think>\n\nFour.")),
        view=lambda text: "<think>\n" + text,
        template=PASSING,
    ),
    "inline reasoning respaced": Planted(
        record(said("<think>Two and two.</think>Four.")),
        view=lambda text: text.replace("<think>", "<think>\n").replace(
            "</think>", "\n</think>\n\n"
        ),
        template=PASSING,
    ),
    "a closing tag in an answer taken for the end of reasoning": Planted(
        record(said(STRAY)), reading={"stray_closing_tag": "reasoning"}
    ),
    "a closing tag in an answer lost": Planted(
        record(said(STRAY)),
        messages=each(content="It writes and then answers."),
        template=PASSING,
    ),
    "a field of reasoning dropped": Planted(record(THINKING), messages=each(reasoning=None)),
    "blocks of reasoning dropped": Planted(
        record(said("Four.", thinking_blocks=[{"type": "thinking", "thinking": "Two and two."}])),
        messages=each(reasoning=None),
    ),
    "reasoning of an item dropped": Planted(
        {**record(), "messages": [{"role": "user", "content": "And?"}, *ITEMS]},
        messages=each(reasoning=None),
    ),
    "an item that was cut off trained to stop": Planted(
        {
            **record(),
            "messages": [
                {"role": "user", "content": "And?"},
                ITEMS[0],
                {**ITEMS[1], "status": "incomplete"},
            ],
        },
        messages=each(finished=True),
    ),
    "a renamed field dropped": Planted(
        record(said("Four.", extra={"cot": "Two and two."})),
        messages=each(reasoning=None),
        options={"field": ("extra.cot=thought",)},
    ),
    "a field read that is only not to be refused": Planted(
        record(said("Four.", extra={"cot": "Two and two."})),
        messages=each(reasoning="Two and two."),
        options={"ignore_fields": ("extra.cot",)},
    ),
    "reasoning with what ends it": Planted(
        record(said("Four.", reasoning_content="Two</think>and two.")),
        reading={"stray_closing_tag": "text"},
    ),
    "several closing tags split at the first": Planted(
        record(said("<think>Two</think>and two.</think>Four.")),
        messages=each(reasoning="Two", content="and two.</think>Four."),
        options={"stray_closing_tag": "reasoning"},
    ),
    "a loss flag ignored": Planted(
        record({**THINKING, "step_loss_mask": 0}, THINKING), messages=each(train=True)
    ),
    "a message not trained": Planted(
        record(THINKING, said("Five.")),
        messages=each(train=lambda message: message.content != "Five."),
    ),
    "a thought trained twice": Planted(
        record(said("I list the files.", thought="I list the files.")),
        messages=each(reasoning="I list the files."),
    ),
    "null arguments kept": Planted(
        record(
            said("", tool_calls=[{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]),
            said("", tool_calls=[{**CALL, "function": {"name": "f", "arguments": {"b": 1}}}]),
        ),
        reading={"null_arguments": "keep"},
        parquet=True,
    ),
    "a stop token in an answer": Planted(
        record(said("It ends with <|im_end|> always.")),
        messages=each(content="It ends with XXXX always."),
        view=lambda text: text.replace("XXXX", "<|im_end|>"),
    ),
    "one generation as two messages": Planted(
        record(said("<think>\nLook.\n</think>"), tools=[{**CALL, "function": {"name": "look_up"}}])
        | {
            "messages": [
                {"role": "user", "content": "Look."},
                said("<think>\nLook it up.\n</think>"),
                {"role": "function_call", "content": json.dumps(CALL["function"])},
            ]
        },
        messages=apart,
    ),
    "a cut answer trained to stop": Planted(
        record(said("Four and", finish_reason="length")), messages=each(finished=True)
    ),
    "cut reasoning trained to close": Planted(
        record(said("", reasoning_content="Two and")), messages=each(finished=True)
    ),
    "cut inline reasoning trained to close": Planted(
        record(said("<think>Two and", finish_reason="length")), messages=each(finished=True)
    ),
    "cut inline reasoning trained to close where it is shown as it is": Planted(
        record(said("<think>Two and", finish_reason="length")),
        messages=each(finished=True),
        template=PASSING,
    ),
    "reasoning stripped": Planted(
        record(THINKING),
        messages=each(reasoning=lambda message: message.reasoning.strip()),
        template=str(TEMPLATES / "kept.jinja"),
    ),
    "white space added to reasoning": Planted(
        record(THINKING),
        messages=each(reasoning=lambda message: message.reasoning + "\n"),
        template=str(TEMPLATES / "kept.jinja"),
    ),
    "an empty block of the record left out": Planted(
        record(said("<think>\n\n</think>\nFour."), chat_template_kwargs={"enable_thinking": True}),
        messages=each(verbatim=None),
        template=SWITCHED,
        options={"missing_reasoning": "empty-think", "train_empty_think": True},
    ),
    "an answer that was cut off before it began trained": Planted(
        record(said("", finish_reason="length"), said("Four.")), messages=each(train=True)
    ),
    "arguments under another name left out": Planted(
        record(said("", tool_calls=[{"name": "look_up", "args": {"key": "a"}}])),
        messages=each(
            tool_calls=lambda message: tuple(
                replace(call, arguments={}) for call in message.tool_calls
            )
        ),
    ),
    "an empty block trained": Planted(
        record(said("Four.")), view=lambda text: "<think>\n\n</think>\n\n" + text
    ),
    "a prompt without its header": Planted(
        record(THINKING), prompt=lambda text: text.removesuffix("<|im_start|>assistant\n")
    ),
    "other ids by a backend": Planted(record(said("A loſt thing.")), ids=other_ids),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    planted = FAULTS[name]
    source = tmp_path / ("a.parquet" if planted.parquet else "a.jsonl")
    records = [planted.record, {**record(THINKING), "id": "two"}]
    if planted.parquet:
        pq.write_table(pa.Table.from_pylist(records), source)
    else:
        source.write_text("".join(json.dumps(one) + "\n" for one in records))
    asked = {"on_error": "skip", "chat_template": planted.template, **planted.options}
    options = Options(tokenizer=str(TOKENIZER), **asked)
    pack_files([str(source)], tmp_path / "right", options)
    right = verify_dataset(tmp_path / "right", [str(source)])
    assert (right.total, right.unchecked) == (0, {}), [str(one) for one in right.listed]

    plant(monkeypatch, planted)
    pack_files([str(source)], tmp_path / "wrong", options)
    assert verify_dataset(tmp_path / "wrong").total == 0, "by itself it is sound"
    wrong = verify_dataset(tmp_path / "wrong", [str(source)])
    assert {finding.sample for finding in wrong.listed} == {"one"}, wrong.counts
    assert wrong.total == 1


def test_a_stop_that_was_learned_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of two tokens behind an answer, of which the model's files name the first."""
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(record(said("Four."), said("Five."))) + "\n")
    template = PASSING.replace("<|im_end|>", "<|im_end|><|endoftext|>")
    options = Options(tokenizer=str(TOKENIZER), chat_template=template)
    pack_files([str(source)], tmp_path / "right", options)
    assert verify_dataset(tmp_path / "right", [str(source)]).total == 0

    find = learn.find_answer_stop

    def learned(*args: Any) -> Any:
        stop, behind = find(*args)
        return replace(stop, token="<|endoftext|>", after="\n"), behind + stop.token

    monkeypatch.setattr(learn, "find_answer_stop", learned)
    other = replace(options, chat_template=template + "{# learned again #}")
    pack_files([str(source)], tmp_path / "wrong", other)
    assert verify_dataset(tmp_path / "wrong").total == 0, "by itself it is sound"
    wrong = verify_dataset(tmp_path / "wrong", [str(source)])
    assert wrong.counts == {"RP309": 1, "RP313": 1}
    said_of_it = wrong.listed[-1].what
    assert "answers end with '<|endoftext|>'" in said_of_it
    assert "expected '<|im_end|>' (named by the model's files); of 2 messages" in said_of_it


def plant(monkeypatch: pytest.MonkeyPatch, planted: Planted) -> None:
    """Put a fault into what packs, for the record with the id `one` alone."""

    def reading(parse: Callable[..., Conversation]) -> Callable[..., Conversation]:
        def parsed(value: Any, where: str, **more: Any) -> Conversation:
            if planted.reading:
                more["reading"] = replace(more["reading"], **planted.reading)
            read = parse(value, where, **more)
            if read.id != "one":
                return read
            messages = tuple(planted.messages(read.messages))
            sources = read.sources if len(messages) == len(read.messages) else ()
            return replace(read, messages=messages, sources=sources)

        return parsed

    each_view = conversations.each_view

    def views(chat: Conversation, *args: Any, **more: Any) -> Iterator[View | str]:
        for view in each_view(chat, *args, **more):
            changed = isinstance(view, View) and chat.id == "one"
            yield rewritten(view, planted) if changed else view  # type: ignore[arg-type]

    encode = Pieces.encode

    def encoded(pieces: Pieces, encode_batch: Callable[[Sequence[str]], Any]) -> None:
        def batch(texts: Sequence[str]) -> list[Any]:
            return [planted.ids(*one) for one in zip(texts, encode_batch(texts), strict=True)]

        encode(pieces, batch)

    monkeypatch.setattr(conversations, "parse_line", reading(conversations.parse_line))
    monkeypatch.setattr(conversations, "parse_row", reading(conversations.parse_row))
    monkeypatch.setattr(conversations, "each_view", views)
    monkeypatch.setattr(Pieces, "encode", encoded)


def rewritten(view: View, planted: Planted) -> View:
    """Change the texts of a view; its spans tile them still."""
    prompt, completion = planted.prompt(view.prompt), planted.view(view.completion)
    moved = len(prompt) - len(view.prompt)
    whole = len(prompt) + len(completion)
    spans: list[Any] = []
    for span in view.spans[:-1]:
        stop = min(span.stop + moved * (span.stop > len(prompt)), whole)
        if not spans or stop > spans[-1].stop:
            spans.append(span._replace(stop=stop))
    return replace(
        view,
        prompt=prompt,
        completion=completion,
        spans=(*spans, view.spans[-1]._replace(stop=whole)),
    )


LONG_ASK = "What are two and two together, when both are counted?"
LONG = "They are four, whichever of them is counted first by you."


def swapped(spans: Any) -> Any:
    """Take what others see of a response for context, and the other way round."""
    other = {Kind.R_IN: Kind.CONTEXT, Kind.CONTEXT: Kind.R_IN}
    return [span._replace(kind=other.get(span.kind, span.kind)) for span in spans]


def shifted(spans: Any) -> Any:
    return [span._replace(message=span.message + 2) for span in spans]


@pytest.mark.parametrize("layout", ["onepass", "npass"])
@pytest.mark.parametrize("fault", [swapped, shifted])
def test_other_kinds_and_messages_in_the_history_are_found(
    fault: Callable[[Any], Any], layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.jsonl"
    asked, answer = {"role": "user", "content": LONG_ASK}, said(LONG, reasoning_content="Two.")
    source.write_text(
        json.dumps(record() | {"messages": [asked, answer, {**asked, "content": "And?"}, THINKING]})
    )
    options = Options(tokenizer=str(TOKENIZER), layout=layout)
    pack_files([str(source)], tmp_path / "right", options)
    right = verify_dataset(tmp_path / "right", [str(source)])
    assert (right.total, right.unchecked) == (0, {})
    assert right.checked["context tokens"] > 10

    find = view_module.find_messages

    def found(*args: Any) -> Any:
        made = find(*args)
        return replace(made, spans=tuple(fault(made.spans)))

    monkeypatch.setattr(view_module, "find_messages", found)
    pack_files([str(source)], tmp_path / "wrong", options)
    assert verify_dataset(tmp_path / "wrong").total == 0, "by itself it is sound"
    assert verify_dataset(tmp_path / "wrong", [str(source)]).counts == {"RP312": 1}
