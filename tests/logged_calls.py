"""Groups of calls as an agent logs them, made from conversations; and what they are to train.

conversation ── calls_of ──▶ one record for each answer: the messages before it, the answer
records ── logged ──▶ compaction, other agents between, retries, repeated lines, any order
records ── expected ──▶ oracle.Call, each rendered and encoded by itself
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import oracle
import strategies
from hypothesis import strategies as st
from tokenizers import Tokenizer

Json = dict[str, Any]


def calls_of(record: Json, name: str = "c") -> list[Json]:
    """Turn a conversation into the calls that made it."""
    beside = {key: record[key] for key in ("tools",) if key in record}
    return [
        {
            "id": f"{name}{index}",
            "messages": record["messages"][:index],
            **beside,
            "response": {"choices": [{"message": message}]},
        }
        for index, message in enumerate(record["messages"])
        if message["role"] == "assistant"
    ]


def answer_of(call: Json) -> Json:
    """Return the message that a call was answered with."""
    message: Json = call["response"]["choices"][0]["message"]
    return message


def expected(
    calls: Sequence[Json], family: str, source: str, encode: Callable[[str], list[int]]
) -> list[oracle.Call]:
    """Render and encode each call by itself; raises oracle.PrefixError where that cannot be said.

    What is logged twice, by the same id, counts once; an answer that the model never gives like
    this is context.
    """
    facts = oracle.FAMILIES[family]
    found: dict[str, oracle.Call] = {}
    for call in calls:
        answer = answer_of(call)
        if is_empty(answer) or not (facts.takes_bare_answers or oracle.has_reasoning(answer)):
            continue
        messages = [*call["messages"], answer]
        prompt, completion = oracle.view_texts(
            messages,
            source,
            len(messages) - 1,
            stop=facts.stop,
            tools=call.get("tools"),
            reasoning_field=facts.reasoning_field,
        )
        weight = call.get("weight", 1.0)
        found[call["id"]] = oracle.Call(
            call["id"], encode(prompt), encode(completion), weight=weight
        )
    return list(found.values())


def is_empty(answer: Json) -> bool:
    """Tell whether the model wrote nothing: there is then nothing to train."""
    texts = (answer.get("content"), answer.get("reasoning_content"))
    return not any(texts) and not answer.get("tool_calls")


def encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


# --- what harnesses do ---------------------------------------------------------------------------


def _compacted(calls: list[Json], draw: st.DrawFn) -> list[Json]:
    """From some call on, put a summary in place of the beginning of the history."""
    first = draw(st.integers(0, len(calls) - 1))
    cut = draw(st.integers(0, len(calls[first]["messages"]) - 1))
    while cut and calls[first]["messages"][cut]["role"] != "user":
        cut -= 1  # what comes behind it has to begin like a conversation
    summary = {"role": "user", "content": "So far: " + draw(strategies.texts())}
    for call in calls[first:]:
        call["messages"] = [summary, *call["messages"][cut + 1 :]]
    return calls


def _rewritten(calls: list[Json], draw: st.DrawFn) -> list[Json]:
    """From some call on, show a message of the user or of a tool in other words."""
    first = draw(st.integers(0, len(calls) - 1))
    inputs = [
        index
        for index, message in enumerate(calls[first]["messages"])
        if message["role"] in ("user", "tool")
    ]
    at = draw(st.sampled_from(inputs))
    words = draw(strategies.texts())
    for call in calls[first:]:
        if at < len(call["messages"]) and call["messages"][at]["role"] in ("user", "tool"):
            call["messages"][at] = {**call["messages"][at], "content": words}
    return calls


def _retried(calls: list[Json], draw: st.DrawFn) -> list[Json]:
    """Answer a prompt again, with other words or with the same."""
    call = copy.deepcopy(draw(st.sampled_from(calls)))
    call["id"] += f"-{len(calls)}"
    call.pop("weight", None)
    if draw(st.booleans()):
        reasoned = any(oracle.has_reasoning(answer_of(each)) for each in calls)
        answer = draw(strategies.answers(reasoning="always" if reasoned else "never"))
        answer.setdefault("content", "")
        call["response"]["choices"][0]["message"] = answer
    return [*calls, call]


def _weighed(calls: list[Json], draw: st.DrawFn) -> list[Json]:
    for call in calls:
        call["weight"] = draw(st.sampled_from([1.0, 0.5, 2.0]))
    return calls


def _repeated(calls: list[Json], draw: st.DrawFn) -> list[Json]:
    return [*calls, copy.deepcopy(draw(st.sampled_from(calls)))]


_CHANGES = (_compacted, _rewritten, _retried, _retried, _weighed)


@st.composite
def groups(
    draw: st.DrawFn, *, reasoning: strategies.Reasoning | None = None, most: int = 12
) -> list[Json]:
    """Make the calls of one or two agents, as they may be logged; there may be none."""
    calls: list[Json] = []
    for agent in range(draw(st.sampled_from([1, 1, 2]))):
        chat = draw(
            strategies.conversations(reasoning=reasoning, train_flags=False, max_messages=most)
        )
        messages = [
            {"content": "", **message} if message["role"] == "assistant" else message
            for message in chat["messages"]
        ]
        calls += calls_of({**chat, "messages": messages}, "ab"[agent])
    calls = [call for call in copy.deepcopy(calls) if call["messages"]]
    for change in draw(st.lists(st.sampled_from(_CHANGES), max_size=3)) if calls else ():
        calls = change(calls, draw)
    if calls and draw(st.booleans()):
        calls = _repeated(calls, draw)
    return draw(st.permutations(calls)) if draw(st.booleans()) else calls
