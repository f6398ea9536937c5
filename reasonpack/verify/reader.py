r"""A record → a chat, read by the shapes of `record.schema.json` and by nothing else.

    {"id": "x", "messages": [{"role": "user", …}, {"role": "assistant", …}]} ─→ Chat

What is known here are names and shapes. What a record has beyond them makes it one that is not
checked (`NotChecked`), never one that is sound; what must not be packed is `Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import decode
from reasonpack.verify import names
from reasonpack.verify.chat import Chat, Json, Message, NotChecked, Reading, Refused
from reasonpack.verify.tools import read_tools

__all__ = ["read_chat"]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A message before those that are one generation are joined."""

    message: Message
    flag: bool | None = None
    kind: str = "message"


@dataclass(slots=True)
class _Content:
    """What the content of a message holds."""

    text: str = ""
    thoughts: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    results: list[Json] = field(default_factory=list)
    cut: bool = False


def read_chat(record: Json, reading: Reading) -> Chat:
    """Read a record that was decoded, nulls and all.

    Raises:
        NotChecked: it has what is not known here.
        Refused: it must not be packed.
    """
    try:
        drafts = list(_drafts(_present(record), reading))
        tools, variables = read_tools(record), _variables(record)
    except RecordError as error:
        raise Refused(str(error)) from error
    messages = [_finished(each) for each in drafts]
    if system := record.get("system"):
        text = _content(system, answer=False).text if isinstance(system, list) else system
        messages.insert(0, Message("system", _text(text, "system")))
    if reading.last_turn:
        users = [number for number, each in enumerate(messages) if each.role == "user"]
        first = users[-1] if users else 0
        messages[:first] = [replace(each, trained=False) for each in messages[:first]]
    return Chat(tuple(messages), tools, variables)


def _drafts(record: Json, reading: Reading) -> Iterator[_Draft]:
    """Read the messages; those of a prompt are untrained unless flagged."""
    found = [name for name in names.CONTAINERS if name in record]
    whole = "prompt" in record and "completion" in record
    if len(found) + whole != 1:
        raise Refused("expected one conversation")
    said = {name: record[name] for name in names.REASONING if name in record}
    drafts: list[_Draft] = []
    before = 1 if record.get("system") else 0
    for name in ("prompt", "completion") if whole else found:
        raw, flag = record[name], False if name == "prompt" else None
        if isinstance(raw, str) and whole:
            answer = {"role": "assistant", "content": raw, **said}
            raw = [{"role": "user", "content": raw} if name == "prompt" else answer]
        if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
            raise Refused("messages: expected a list of objects")
        if not whole and said and "answer" in record and not any(map(_is_answer, raw)):
            raw = [*raw, {"role": "assistant", "content": record["answer"], **said}]
        if raw and name != "prompt" and _is_answer(raw[-1]) and not _ends(raw[-1]):
            raw = [*raw[:-1], {**raw[-1], **_ends(record)}]
        for number, each in enumerate(raw, before):
            for draft in _read(_present(each), reading):
                own = flag if draft.flag is None else draft.flag
                drafts.append(_Draft(replace(draft.message, source=number), own, draft.kind))
        before += len(raw)
    return _joined(drafts)


def _is_answer(raw: Json) -> bool:
    return names.ROLES.get(str(raw.get("role", raw.get("from")))) == "assistant"


def _ends(raw: Json) -> Json:
    return {name: raw[name] for name in names.ENDS if raw.get(name)}


def _present(raw: Json) -> Json:
    """Leave out keys that count as absent; content "" is an answer without text."""
    empty: tuple[Any, ...] = (None, "", [], {})
    texts = {key: one for key, one in raw.items() if key in ("content", "value") and one == ""}
    return {key: one for key, one in raw.items() if one not in empty} | texts


def _read(raw: Json, reading: Reading) -> Iterator[_Draft]:
    """Read a message; results of tools in it are messages before it."""
    raw = {reading.renamed.get(key, key): raw[key] for key in raw if key not in reading.ignored}
    if "type" in raw and "role" not in raw and "from" not in raw:
        raise NotChecked("items of OpenAI's Responses")
    if raw.get("type") == "message":
        raw.pop("status", None)
    name = raw.get("role", raw.get("from"))
    role = names.ROLES.get(str(name))
    if role is None or any(name in raw for name in (*names.MEDIA, "train_detail")):
        raise Refused(f"role {name!r}, media or train_detail, expected a message of a known role")
    more = {name: value for name, value in raw.items() if name not in names.READ}
    content = _content(raw.get("content", raw.get("value", "")), answer=role == "assistant")
    flag = _flag(raw)
    if role != "assistant":
        yield from (_Draft(_result(each)) for each in content.results)
        if content.text or not content.results:
            yield _Draft(Message(role, content.text, more=more), flag)
        return
    _check_fields(more, reading)
    if raw.get("channel") not in (None, "final"):
        raise Refused(f"channel {raw['channel']!r}")
    reasoning = _reasoning(raw, content, reading)
    if name in ("function_call", "tool_call"):
        yield _Draft(_calls_in_text(content.text, reasoning, more), flag, str(name))
        return
    calls = [*content.calls, *raw.get("tool_calls", [])]
    calls += [raw["function_call"]] if "function_call" in raw else []
    if content.calls and len(calls) > len(content.calls):
        raise Refused("tool_use beside tool_calls")
    made = tuple(_call(each, reading) for each in calls)
    message = _split(Message(role, content.text, reasoning, calls=made, more=more), reading)
    said = (*_ends(raw).values(), raw.get("status"))
    cut = any(end.lower() in names.CUT for end in said if isinstance(end, str))
    cut = cut or any(raw.get(name) in (True, "true") for name in ("prefix", "partial"))
    yield _Draft(replace(message, cut=content.cut or cut), flag)


def _result(block: Json) -> Message:
    """Make a message of Anthropic's result of a tool."""
    more = {key: value for key, value in block.items() if key not in ("type", "content")}
    known = {"tool_call_id": more.pop("tool_use_id")} if "tool_use_id" in more else {}
    content = _content(block.get("content", ""), answer=False)
    return Message("tool", content.text, more={**more, **known})


def _check_fields(more: Json, reading: Reading) -> None:
    for name in sorted(_present(more).keys() - names.HARMLESS):
        if name not in reading.template:
            raise NotChecked(f"the field {name!r} of an assistant message")


def _content(content: Any, *, answer: bool) -> _Content:
    """Take the parts of a content apart."""
    if isinstance(content, str):
        return _Content(content)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise Refused("content: expected text or parts")
    found = _Content()
    for part in map(_present, content):
        kind = part.get("type")
        if kind in ("text", "input_text", "output_text") and not found.calls:
            found.text += _text(part.get("text", ""), "text")
        elif kind in ("thinking", "reasoning", "reasoning_text") and answer and not found.text:
            keys = part.keys() & {"thinking", "reasoning", "text"}
            texts = {_content(part[key], answer=False).text for key in keys}
            if len(texts) != 1:
                raise Refused("a part of reasoning without one text")
            found.thoughts += texts
            found.cut = found.cut or part.get("closed") is False
        elif kind == "tool_use" and answer:
            call = {"id": part.get("id"), "name": part.get("name")}
            found.calls.append({**_present(call), "arguments": part.get("input", {})})
        elif kind == "tool_result" and not answer and not found.text:
            found.results.append(part)
        else:
            raise Refused(f"a part of type {kind!r}, or in another order")
    return found


def _reasoning(raw: Json, content: _Content, reading: Reading) -> str:
    """Gather the reasoning of a message from wherever it may stand."""
    side = raw.get("provider_specific_fields", {})
    if not isinstance(side, dict):
        raise NotChecked("provider_specific_fields that are no object")
    others = {key: one for key, one in side.items() if key not in (*names.REASONING, *names.BLOCKS)}
    _check_fields(others, reading)
    texts = {"".join(content.thoughts)} if content.thoughts else set()
    thought = str(raw.get("thought", "")).strip()
    if thought and content.text.strip().startswith(thought):
        raw = {name: value for name, value in raw.items() if name != "thought"}
    for holder in (raw, _present(side)):
        texts |= {_text(holder[name], name) for name in names.REASONING if name in holder}
        texts |= {_blocks(holder[name]) for name in names.BLOCKS if name in holder}
    if len(texts) > 1:
        raise Refused("reasoning that differs between two fields")
    text = texts.pop() if texts else ""
    if text.strip() and content.text.strip().startswith(text.strip()):
        raise NotChecked("reasoning that repeats the answer")
    return text


def _blocks(blocks: Any) -> str:
    """Join the texts of a provider's blocks of reasoning."""
    texts = []
    for block in blocks if isinstance(blocks, list) else [None]:
        if not isinstance(block, dict):
            raise Refused("blocks of reasoning: expected a list of objects")
        kind = block.get("type")
        if isinstance(inner := block.get("reasoningText"), dict):
            texts.append(inner.get("text"))
        elif isinstance(block.get("content"), list):
            texts.append(_content(block["content"], answer=False).text)
        elif kind in ("reasoning.text", "thinking"):
            texts.append(block.get("text" if kind == "reasoning.text" else "thinking"))
        elif kind != "reasoning.summary":
            raise Refused(f"a block of reasoning of type {kind!r}")
    if text := "".join(_text(each, "text") for each in texts if each):
        return text
    raise Refused("blocks of reasoning without its text")


def _split(message: Message, reading: Reading) -> Message:
    """Take reasoning that stands in the text apart from the answer."""
    text = message.content
    if "</think>" not in text:
        return message
    found = None if message.reasoning else names.TAG.fullmatch(text)
    before, _, after = text.partition("</think>")
    first = before.rpartition("\n")[2].strip() == "" or reading.prompt_opens
    sure = not message.reasoning and text.count("</think>") == 1 and first
    left = found[2] if found else "" if sure else text
    if "</think>" in left and reading.has_place and reading.stray_tag == "refuse":
        raise Refused("a </think> that may be text or end reasoning")
    if found is None and not sure and reading.stray_tag != "reasoning":
        return message
    if message.reasoning:
        raise NotChecked("a </think> beside other reasoning, to be read as the end of reasoning")
    before, after = found.groups() if found else (before, after)
    reasoning, content = before.strip("\n"), after.lstrip("\n")
    return replace(message, content=content, reasoning=reasoning, verbatim=text)


def _flag(raw: Json) -> bool | None:
    said = {bool(raw[name]) for name in names.FLAGS if name in raw}
    if len(said) > 1 or any(raw[name] not in (0, 1) for name in names.FLAGS if name in raw):
        raise Refused("flags that differ, or are neither true nor false")
    return said.pop() if said else None


def _joined(drafts: Iterable[_Draft]) -> Iterator[_Draft]:
    """Join what the model wrote in one go: reasoning, or text, and then its calls."""
    held: _Draft | None = None
    for draft in drafts:
        if held is not None and _goes_on(held, draft):
            if held.flag is not draft.flag and (held.flag is False) != (draft.flag is False):
                raise Refused("training flags that differ within one answer")
            one, two = held.message, draft.message
            made = replace(two, content=one.content + two.content, reasoning=one.reasoning)
            verbatim = None if one.verbatim is None else one.verbatim + two.content
            more, calls = {**one.more, **two.more}, one.calls + two.calls
            made = replace(made, verbatim=verbatim, calls=calls, more=more, source=one.source)
            held = replace(draft, message=made)
            continue
        if held is not None:
            yield held
        held = draft
    if held is not None:
        yield held


def _goes_on(held: _Draft, draft: _Draft) -> bool:
    one, two = held.message, draft.message
    if (one.role, two.role) != ("assistant", "assistant") or two.reasoning or not two.calls:
        return False
    if one.calls:
        return {held.kind, draft.kind} <= {"tool_call", "function_call"}
    return draft.kind == "tool_call" or (bool(one.reasoning) and not one.content.strip())


def _finished(draft: _Draft) -> Message:
    """Say whether a message is trained, and whether it was cut off: so is reasoning alone."""
    message = draft.message
    trained = message.role == "assistant" and draft.flag is not False
    silent = message.thinks and not message.content and not message.calls
    return replace(message, trained=trained, cut=message.cut or silent)


def _calls_in_text(text: str, reasoning: str, more: Json) -> Message:
    """Read the calls that a content has as JSON, perhaps behind their reasoning."""
    split = _split(Message("assistant", text, reasoning), Reading(prompt_opens=True))
    found = decode(split.content.strip().encode())
    made = tuple(_call(one, Reading()) for one in (found if isinstance(found, list) else [found]))
    return Message("assistant", reasoning=split.reasoning, calls=made, more=more)


def _call(raw: Any, reading: Reading) -> Json:
    call = dict(raw) if isinstance(raw, dict) else {}
    function: Json = dict(call.pop("function", None) or {})
    function |= {key: call.pop(key) for key in ("name", "arguments") if call.get(key) is not None}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = decode(arguments.encode(), "arguments")
    elif reading.row and isinstance(arguments, dict) and None in arguments.values():
        if reading.null_arguments == "refuse":
            raise Refused("a null in a struct of arguments")
        if reading.null_arguments == "drop":
            arguments = {key: value for key, value in arguments.items() if value is not None}
    if not isinstance(function.get("name"), str) or not isinstance(arguments, dict):
        raise Refused("a call: expected a function with name and arguments")
    call = {key: value for key, value in call.items() if value is not None}
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _variables(record: Json) -> Json:
    given = record.get("chat_template_kwargs") or {}
    if isinstance(given, str):
        given = decode(given.encode(), "chat_template_kwargs")
    if not isinstance(given, dict):
        raise Refused("chat_template_kwargs: expected an object")
    switch = {"enable_thinking": record.get("enable_thinking")}
    return {**given, **(switch if switch["enable_thinking"] is not None else {})}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name}: expected text")
    return value
