"""Conversations for property tests, in OpenAI's format: `{"messages": […], "tools": […]?}`.

Texts are joined from a few awkward pieces (white space at every edge, letters that normalise or
split over tokens, text that looks like special tokens) with a little arbitrary unicode between.
`tame` conversations hold nothing that a template could take for the edge of a think block; `wild`
ones do, and there a right answer may also be to refuse.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from hypothesis import strategies as st

Json = dict[str, Any]
Reasoning = Literal["mixed", "always", "never"]

EDGES = ["", "", "", " ", "\n", "\n\n", "  ", "\t", " \n", "\n ", "\r\n", "\u3000", "\u00a0"]
PIECES = [
    "a",
    "Yes",
    " is",
    "The answer is 42.",
    "  two spaces",
    "line\nline",
    "\n\n",
    " ",
    "don't",
    "x = [1, 2]\n\tif x:\n\t\tpass\n",
    '{"a": null, "b": "\\n"}',
    "日本語",
    "你好，世界",
    "Größe",
    "مرحبا",
    "e\u0301",  # NFC joins it
    "\u0301",  # … with whatever the template wrote before
    "\u1100\u1161",  # a Korean syllable in two parts
    "👩\u200d🔬",
    "🇩🇪",
    "\ufeff",
    "\u200b",
    "\x00",
    "\u2028",
    "{{ messages }}",
    "{% raw %}",
    "&lt;b&gt;",
    "'\"\\",
]
TOKEN_LIKE = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|endoftext|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "<|eot|>",
    "<|turn|>model<|body|>",
    "<|bos|>",
    "<|im_",
    "<",
    "|>",
]
THINK_LIKE = [
    "<think>",
    "</think>",
    "<think>\n\n</think>\n\n",
    "<think></think>",
    "<|thought|>",
    "<|/thought|>",
    "think>",
]
#: together with its opener this may wrap a whole user message, which Qwen3 takes for a tool result
WILD = [*THINK_LIKE * 2, "</tool_response>"]
TOOLS: list[Json] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {"query": {"type": "string", "description": "what – “to” do"}},
                "required": ["query"],
            },
        },
    }
    for name, description in (("look_up", "Look something up."), ("add", "Füge\nhinzu 🎉"))
]


@functools.cache  # hypothesis is slow to make strategies
def texts(*, wild: bool = False) -> st.SearchStrategy[str]:
    """Make a text, perhaps empty, with white space at its edges."""
    piece = st.sampled_from(PIECES + TOKEN_LIKE + (WILD if wild else []))
    # No lone surrogates (they are bad input), and nothing that could close a gap into a delimiter.
    letters = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="<>|/"), max_size=6
    )
    middle = st.lists(st.one_of(piece, piece, piece, letters), max_size=5).map("".join)
    edge = st.sampled_from(EDGES)
    return st.builds(lambda a, b, c: a + b + c, edge, middle, edge)


@functools.cache
def written(*, wild: bool = False) -> st.SearchStrategy[str]:
    """Make a text that a model can have written: the tokens it stops at do not stand in it."""
    return texts(wild=wild).map(lambda text: text.replace("<|im_end|>", "").replace("<|eot|>", ""))


@functools.cache
def reasonings(*, wild: bool = False) -> st.SearchStrategy[str]:
    """Make reasoning that is more than white space."""
    return written(wild=wild).map(lambda text: text if text.strip() else text + "Hmm.")


@functools.cache
def arguments() -> st.SearchStrategy[Json]:
    """Make the arguments of a tool call: an object of JSON values."""
    leaf = st.one_of(
        st.none(), st.booleans(), st.integers(-99, 99), st.just(0.5), st.sampled_from(PIECES)
    )
    value = st.one_of(leaf, leaf, st.lists(leaf, max_size=2), st.just({"a": None}))
    return st.dictionaries(st.sampled_from(["query", "n", "größe", "a b"]), value, max_size=3)


@st.composite
def answers(
    draw: st.DrawFn, *, reasoning: Reasoning = "mixed", calls: int = 0, wild: bool = False
) -> Json:
    """Make an assistant message with so many tool calls; a field is absent rather than None."""
    message: Json = {"role": "assistant"}
    if not calls or draw(st.booleans()):
        message["content"] = draw(written(wild=wild))
    if reasoning == "always" or (reasoning == "mixed" and draw(st.booleans())):
        message["reasoning_content"] = draw(reasonings(wild=wild))
    elif reasoning == "mixed" and draw(st.integers(0, 3)) == 0:
        message["reasoning_content"] = draw(st.sampled_from(EDGES)) if wild else ""
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {
                    "name": draw(st.sampled_from(TOOLS))["function"]["name"],
                    "arguments": draw(arguments()),
                },
            }
            for number in range(calls)
        ]
    return message


@st.composite
def turns(
    draw: st.DrawFn,
    *,
    reasoning: Reasoning = "mixed",
    tools: bool = True,
    wild: bool = False,
) -> list[Json]:
    """Make a user message, perhaps a tool loop, and perhaps (nearly always) a final answer."""
    made: list[Json] = [{"role": "user", "content": draw(texts(wild=wild))}]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 3])) if tools else 0):
        calls = draw(st.sampled_from([1, 1, 2, 3]))
        call = draw(answers(reasoning=reasoning, calls=calls, wild=wild))
        made.append(call)
        made += [
            {
                "role": "tool",
                "tool_call_id": each["id"],
                "name": each["function"]["name"],
                "content": draw(texts(wild=wild)),
            }
            for each in call["tool_calls"]
        ]
    if draw(st.integers(0, 9)):
        made.append(draw(answers(reasoning=reasoning, wild=wild)))
    return made


@st.composite
def conversations(
    draw: st.DrawFn,
    *,
    reasoning: Reasoning | None = None,
    wild: bool = False,
    train_flags: bool = True,
    max_messages: int = 30,
) -> Json:
    """Make a conversation of 1 to `max_messages` messages.

    `reasoning` says which assistant messages have some; None draws that too. There may be nothing
    to train: no answer, or `train` false on each. Two assistant messages never follow each other
    (templates differ on whether they continue their prompt then); two users may.
    """
    modes: list[Reasoning] = ["mixed", "mixed", "always", "never"]
    mode = draw(st.sampled_from(modes)) if reasoning is None else reasoning
    tools = draw(st.booleans())
    messages: list[Json] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(texts(wild=wild))})
    count = draw(st.sampled_from([1, 1, 2, 2, 3, 4, 6, 15]))
    for _ in range(count):
        messages += draw(turns(reasoning=mode, tools=tools, wild=wild))
        if len(messages) >= max_messages:
            break
    messages = _cut(messages, max_messages=max_messages)
    if train_flags and draw(st.integers(0, 3)) == 0:
        for message in messages:
            if message["role"] == "assistant":
                message["train"] = draw(st.booleans())
    return {"messages": messages, **({"tools": TOOLS} if tools and draw(st.booleans()) else {})}


def _cut(messages: list[Json], *, max_messages: int) -> list[Json]:
    """Cut where no tool call is left without its result, unless the loop is longer than that."""
    end = min(len(messages), max_messages)
    while end < len(messages) and end > 1 and messages[end]["role"] == "tool":
        end -= 1
    return messages[:end]
