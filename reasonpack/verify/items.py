"""Items of OpenAI's Responses in a list of messages → messages.

    reasoning  message  function_call  function_call    one answer: any of these, in this order
    function_call_output                                 result of a tool

Adjacent items of the model are one answer, assistant messages among them included. Messages without
other items next to them stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from reasonpack.verify import record_names as names
from reasonpack.verify.chat import Json, Reading, Refused
from reasonpack.verify.fields import all_but, present, read_flag

ONE_ANSWER = re.compile("r?m?c*")
LEFT_OUT = {"type", "id", "status", "summary", "content", "encrypted_content"}
LEFT_OUT_OF_A_CALL = {"type", "id", "status", "name", "arguments", "call_id"}


def as_messages(
    raw: Sequence[Json], reading: Reading, *, trained: bool
) -> Iterator[tuple[int, Json]]:
    """Yield messages, each with the index of its first item in `raw`.

    The items are without keys that count as absent. `trained` is the default of an answer's flag.

    Raises:
        Refused: items of an answer in another order, of another type, or without their text.
    """
    for by_model, group in groupby(enumerate(raw), lambda each: _letter(each[1]) != ""):
        run = list(group)
        letters = "".join(_letter(each) for _, each in run)
        if not by_model or set(letters) == {"m"}:
            yield from ((number, _single(each)) for number, each in run)
            continue
        if not ONE_ANSWER.fullmatch(letters):
            raise Refused("items of an answer, expected reasoning, then a message, then calls")
        said = [read_flag(each, reading) for _, each in run]
        if len({(trained if flag is None else flag, weight) for flag, weight in said}) > 1:
            raise Refused("training flags or weights that differ within one answer")
        yield run[0][0], _answer([each for _, each in run])


def _letter(raw: Json) -> str:
    """Return r for reasoning, m for a message and c for a call of the model, else an empty text."""
    role = raw.get("role", raw.get("from"))
    if role is None:
        return {"reasoning": "r", "function_call": "c"}.get(str(raw.get("type")), "")
    calls = "tool_calls" in raw or role in names.CALL_ROLES
    return "m" if names.ROLES.get(str(role)) == "assistant" and not calls else ""


def _single(raw: Json) -> Json:
    kind = raw.get("type")
    if kind == "message":
        return _bare(raw)
    if kind is None or "role" in raw or "from" in raw:
        return raw
    if kind != "function_call_output":
        raise Refused(f"an item of type {kind!r}")
    rest = all_but(raw, ("type", "id", "status", "output"))
    known = {"tool_call_id": rest.pop("call_id")} if "call_id" in rest else {}
    return {"role": "tool", "content": raw.get("output", ""), **known, **rest}


def _answer(run: Sequence[Json]) -> Json:
    """Join the items of an answer to one message."""
    made: Json = {"role": "assistant"}
    for raw in run:
        letter = _letter(raw)
        if letter == "m":
            if "reasoning_content" in made and raw.keys() & {*names.REASONING}:
                raise Refused("a reasoning item, and a message with reasoning of its own")
            made |= _bare(raw)
            continue
        left_out = LEFT_OUT if letter == "r" else LEFT_OUT_OF_A_CALL
        made = all_but(raw, left_out) | made
        if raw.get("status", "completed") != "completed":
            made["status"] = raw["status"]
        if letter == "r":
            made["reasoning_content"] = _item_text(raw)
            continue
        call = {"id": raw.get("call_id", raw.get("id")), "name": raw.get("name")}
        call["arguments"] = raw.get("arguments")
        made["tool_calls"] = [*made.get("tool_calls", []), present(call)]
    return made


def _bare(raw: Json) -> Json:
    """Drop the fields of a message that only an item has, but keep a status of a cut-off answer."""
    cut = raw.get("status") != "completed"
    is_empty = raw.get("type") == "message" and not raw.get("content")
    text = {"content": ""} if is_empty else {}
    rest = {key: one for key, one in raw.items() if key != "type" and (key != "status" or cut)}
    return {**rest, **text}


def _item_text(item: Json) -> str:
    """Return the text of a reasoning item.

    Raises:
        Refused: it has none; encrypted content or a summary does not count.
    """
    parts: Any = item.get("content")
    texts = []
    for part in parts if isinstance(parts, list) else [{}]:
        known = isinstance(part, dict) and part.get("type") in ("reasoning_text", "text")
        if not known or not isinstance(part.get("text"), str):
            raise Refused("a reasoning item without the text of its reasoning")
        texts.append(part["text"])
    if text := "".join(texts):
        return text
    raise Refused("a reasoning item without the text of its reasoning")


def block_text(name: str, blocks: Any) -> str:
    """Join the texts of reasoning blocks in a provider's field `name`, one of `names.BLOCKS`.

    Raises:
        Refused: a block has an unknown type, or all lack the text of the reasoning.
    """
    texts: list[Any] = []
    for block in blocks if isinstance(blocks, list) else [None]:
        if not isinstance(block, dict):
            raise Refused("blocks of reasoning: expected a list of objects")
        kind = block.get("type")
        if name == "reasoning_items":
            texts.append(_item_text(block))
        elif name == "reasoningContentBlocks" and isinstance(block.get("reasoningText"), dict):
            texts.append(block["reasoningText"].get("text"))
        elif (name, kind) == ("reasoning_details", "reasoning.text"):
            texts.append(block.get("text"))
        elif (name, kind) == ("thinking_blocks", "thinking"):
            texts.append(block.get("thinking"))
        elif (name, kind) != ("reasoning_details", "reasoning.summary"):
            raise Refused(f"a block of reasoning of type {kind!r}")
    text = "".join(str(each) for each in texts if each)
    if not text and any(block.get("signature") or block.get("summary") for block in blocks):
        raise Refused("blocks of reasoning without its text")
    return text
