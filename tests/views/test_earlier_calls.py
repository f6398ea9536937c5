"""Calls of a group are rendered as each is by itself, and each of their messages once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from logged_calls import calls_of, groups

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls
from reasonpack.records.message import Message
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.unit import Record
from reasonpack.rows.kind import Kind
from reasonpack.run.context import Context, load_context
from reasonpack.run.waiting_calls import view_of_call
from reasonpack.templates.loops import Memo
from reasonpack.views.earlier_calls import Past, Pasts, Prompt
from reasonpack.views.spans import Found, Span
from reasonpack.views.view import View

FIXTURES = Path(__file__).parents[2] / "fixtures"
Json = dict[str, Any]


def context_of(family: str) -> Context:
    template = str(FIXTURES / "templates" / f"{family}.jinja")
    return load_context(Options(tokenizer=str(FIXTURES / "tokenizer"), chat_template=template))


def read(records: list[Json]) -> list[Call]:
    memo = PromptMemo()
    lines = [json.dumps(each).encode() for each in records]
    return [call for line in lines for call in read_calls(Record("x:1", line), memo=memo)]


def outcome(call: Call, context: Context, pasts: Pasts) -> Any:
    assert call.conversation is not None
    try:
        found = view_of_call(call.conversation, context, "all", pasts)
    except RecordError as error:
        return str(error)
    if isinstance(found, View):
        return found.message, found.prompt, found.completion, found.spans
    return found


@pytest.mark.long
@pytest.mark.parametrize("family", list(oracle.FAMILIES))
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(records=groups())
def test_a_call_is_rendered_as_by_itself(family: str, records: list[Json]) -> None:
    context, pasts = context_of(family), Pasts()
    for call in read(records):
        if call.trained:
            assert outcome(call, context, pasts) == outcome(call, context, Pasts())


def agent(name: str, turns: int) -> list[Json]:
    """Make calls that go on, of which one half way has another history."""
    messages = [{"role": "user", "content": f"I am {name}."}]
    for turn in range(turns):
        thought = {"reasoning_content": f"Thought {turn}."}
        messages.append({"role": "assistant", "content": f"{name} {turn}.", **thought})
        messages.append({"role": "user", "content": f"Go on, {name}, with {turn}."})
    calls = calls_of({"messages": messages[:-1]})
    for call in calls[turns // 2 :]:
        call["messages"] = [*call["messages"]]
        call["messages"][4] = {"role": "user", "content": "?"}
    return calls


def test_what_was_found_of_other_messages_is_forgotten() -> None:
    """However much of the prompt is the same: its text may be that of other messages."""
    one, other, third = (Message("user", text) for text in ("a", "b", "c"))
    past = Past()
    past.begin([one, other, third])
    spans = (Span(1, Kind.CONTEXT, 0), Span(2, Kind.CONTEXT, 1))
    past.end(Prompt("ab", Found(spans, ((1, 1), (2, 2))), [(1, 1), (2, 2)]))
    past.begin([one, third, other])
    assert past.known_prompt() == Prompt("ab", Found(spans[:1], ((1, 1),)), [(1, 1)])


def test_each_message_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two agents take turns; what is rewritten is rendered again from there on."""
    memos: list[Memo] = []
    real = Memo.__init__

    def made(memo: Memo, *args: Any, **more: Any) -> None:
        real(memo, *args, **more)
        memos.append(memo)

    monkeypatch.setattr(Memo, "__init__", made)
    turns, pasts, context = 20, Pasts(), context_of("kept")
    pairs = zip(agent("A", turns), agent("B", turns), strict=True)
    for call in read([call for pair in pairs for call in pair]):
        outcome(call, context, pasts)
    distinct = 2 * (3 * turns + 2 * turns)
    assert 0 < sum(memo.runs for memo in memos) < 2 * distinct
