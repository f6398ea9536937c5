"""Chats in OpenAI's form with white space, tags and arguments that templates may not keep.

AWKWARD["spaces in calls"]  →  {"messages": […], "tools": […]}
"""

from __future__ import annotations

from typing import Any

from matrix import TOOL

__all__ = ["AWKWARD"]

Json = dict[str, Any]


def _user(text: str) -> Json:
    return {"role": "user", "content": text}


def _answer(text: str, reasoning: str | None = None, *calls: Json) -> Json:
    thought = {} if reasoning is None else {"reasoning_content": reasoning}
    return {
        "role": "assistant",
        "content": text,
        **thought,
        **({"tool_calls": [*calls]} if calls else {}),
    }


def _call(arguments: Json) -> Json:
    function = {"name": "look_up", "arguments": arguments}
    return {"id": "call00001", "type": "function", "function": function}


def _result(text: str) -> Json:
    return {"role": "tool", "content": text, "tool_call_id": "call00001", "name": "look_up"}


_CHATS = {
    "spaces": [
        *(_user("  Hi \n"), _answer("  One. \n\n", " \n Think. \n ")),
        *(_user(" more "), _answer("\n\nTwo.\n", "\n\nAgain.\n\n")),
    ],
    "spaces without reasoning": [
        *(_user("  Hi \n"), _answer("  One. \n\n"), _user(" more "), _answer("\n\nTwo.\n")),
    ],
    "spaces in calls": [
        *(_user("go"), _answer("  text \n", "  why \n", _call({"key": "  v \n"}))),
        *(_result("  found \n"), _answer(" done \n", " good \n")),
    ],
    "marks in arguments": [
        *(_user("go"), _answer("", "why", _call({"key": "a\"b'c\\n\n<x>&amp; </tool_call>é"}))),
        *(_result('{"a": 1}'), _answer("done", "good")),
    ],
    "no arguments": [
        *(_user("go"), _answer("", "why", _call({})), _result(""), _answer("done", "good")),
    ],
    "marks in reasoning": [
        *(_user("go"), _answer("One.", "they said <b>x</b> and {{y}}")),
        *(_user("on"), _answer("Two.", "a\n\nb\n\n\nc")),
    ],
    "other white space": [
        *(_user("\u2028 \u00a0x\u00a0"), _answer("\u00a0One\u2028two\u00a0", "\u00a0Think\u2028")),
    ],
    "with and without in turn": [
        *(_user("1"), _answer("One.", "First."), _user("2"), _answer("Two.")),
        *(_user("3"), _answer("Three.", "Third."), _user("4"), _answer("Four.")),
    ],
}
AWKWARD: dict[str, Json] = {
    name: {"messages": chat, **({"tools": [TOOL]} if "tool" in str(chat) else {})}
    for name, chat in _CHATS.items()
}
