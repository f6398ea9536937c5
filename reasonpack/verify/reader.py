r"""A record → a chat, read by `record.schema.json` alone.

    {"id": "x", "messages": [{"role": "user", …}, {"role": "assistant", …}]} ─→ Chat

A record with a name or shape that is unknown here raises `NotChecked`, so that it never counts as
sound; one that pack must refuse raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import decode
from reasonpack.verify import record_names as names
from reasonpack.verify.chat import Chat, Json, Message, Reading, Refused, known_shape
from reasonpack.verify.fields import (
    EMPTY,
    all_but,
    check_end,
    check_fields,
    ended,
    ends,
    present,
    read_flag,
    was_cut,
    weight_of_record,
    with_known_names,
    without_ignored,
)
from reasonpack.verify.items import as_messages, block_text
from reasonpack.verify.record_names import END, OF_THE_END, TAG, inside
from reasonpack.verify.tools import calls_in_text, read_call, read_tools, read_variables


class _Content(Struct):
    """The content of a message, taken apart; `held` has the fields of each part that were not read.

    `written`: it has a text, perhaps empty; `cut`: a reasoning part says that it was not closed.
    """

    text: str = ""
    written: bool = False
    thoughts: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    results: list[Json] = field(default_factory=list)
    held: list[Json] = field(default_factory=list)
    cut: bool = False


@known_shape()
def read_chat(record: Json, reading: Reading) -> Chat:
    """Read a decoded record, which may have nulls.

    Raises:
        NotChecked: the record has an unknown field or shape.
        Refused: pack must refuse the record.
    """
    record = without_ignored(record, reading, "record.")
    try:
        messages = [_finished(each, reading) for each in _drafts(present(record), reading)]
        tools, variables = read_tools(record), read_variables(record)
    except RecordError as error:
        raise Refused(str(error)) from error
    messages = _with_system(record.get("system"), messages)
    if reading.trained_answers != "all":
        role = "user" if reading.trained_answers == "last-turn" else "assistant"
        first = max((n for n, each in enumerate(messages) if each.role == role), default=0)
        messages[:first] = [
            replace(each, trained=each.trained and each.flag is True) for each in messages[:first]
        ]
    return Chat(tuple(messages), tools, variables, weight_of_record(record, reading))


def _with_system(system: Any, messages: list[Message]) -> list[Message]:
    """Put the system text of the record first, unless the messages begin with it."""
    if system in EMPTY:
        return messages
    text = _text(_content(system, answer=False).text if isinstance(system, list) else system, "")
    if messages and messages[0].role == "system":
        if messages[0].content != text:
            raise Refused("two system messages that differ")
        return messages
    return [Message("system", text), *(replace(one, source=one.source + 1) for one in messages)]


def _drafts(record: Json, reading: Reading) -> Iterator[Message]:
    """Yield the messages of a record; those of a prompt are untrained unless flagged."""
    found = [name for name in names.CONTAINERS if name in record]
    whole = "prompt" in record and "completion" in record
    if len(found) + whole != 1:
        raise Refused("expected one conversation")
    texts = {name: one for name, one in record.items() if isinstance(one, str)}
    reasons = {*names.REASONING} - {one for one in texts if texts[one].lower() in names.EFFORTS}
    said = {name: one for name, one in texts.items() if name in reasons}
    before = 0
    for name in ("prompt", "completion") if whole else found:
        raw = record[name]
        if isinstance(raw, str) and whole:
            answer = {"role": "assistant", "content": raw, **said}
            raw = [{"role": "user", "content": raw} if name == "prompt" else answer]
        elif isinstance(raw, str) and raw.lstrip().startswith("["):
            raw, reading = decode(raw.encode()), replace(reading, row=False)
        if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
            raise Refused("messages: expected a list of objects")
        if not whole and said and "answer" in texts and not any(map(_is_answer, raw)):
            raw = [*raw, {"role": "assistant", "content": record["answer"], **said}]
        raw = raw if name == "prompt" else ended(record, raw)
        raw = [present(with_known_names(each, reading, names.OF_A_MESSAGE)) for each in raw]
        read: list[Message] = []
        for number, each in as_messages(raw, reading, trained=name != "prompt"):
            for message in _read(each, reading):
                flag = False if message.flag is None and name == "prompt" else message.flag
                read.append(replace(message, source=before + number, flag=flag))
        yield from _joined(read)
        before += len(raw)


def _is_answer(raw: Json) -> bool:
    return names.ROLES.get(str(raw.get("role") or raw.get("from"))) == "assistant"


def _read(raw: Json, reading: Reading) -> Iterator[Message]:
    """Yield a message; tool results in its content are separate messages before it."""
    for one, other in (("role", "from"), ("content", "value")):
        if raw.get(one, raw.get(other)) != raw.get(other, raw.get(one)):
            raise Refused(f"{one} and {other} that differ")
    name = raw.get("role", raw.get("from"))
    role = names.ROLES.get(str(name))
    if role is None or any(name in raw for name in (*names.MEDIA, "train_detail")):
        raise Refused(f"role {name!r}, media or train_detail, expected a message of a known role")
    more = all_but(raw, names.READ)
    content = _content(raw.get("content", raw.get("value", [])), answer=role == "assistant")
    flag, weight = read_flag(raw, reading)
    if role != "assistant":
        alone = bool(content.results) and not content.text
        yield from (_result(each, more if alone else {}) for each in content.results)
        if not alone:
            yield Message(role, content.text, more=more, flag=flag)
        return
    check_fields(more, reading)
    for held in content.held:
        check_fields(held, reading, "content.")
    if raw.get("channel") not in (None, "final"):
        raise Refused(f"channel {raw['channel']!r}")
    reasoning = _reasoning(raw, content, reading)
    cut = content.cut or was_cut(raw, (*names.LIMITED, "prefix", "partial"))
    if name in names.CALL_ROLES:
        reasoning, made = calls_in_text(content.text, reasoning)
        message = Message(role, "", reasoning, None, made, more, cut=cut, null=True)
        yield replace(message, kind=str(name), flag=flag, weight=weight)
        return
    calls = [*content.calls, *raw.get("tool_calls", [])]
    single = raw.get("function_call")
    nothing = isinstance(single, dict) and all(one is None for one in single.values())
    calls += [] if single is None or nothing else [single]
    if content.calls and len(calls) > len(content.calls):
        raise Refused("both tool_use and tool_calls")
    made = tuple(read_call(each, reading) for each in calls)
    null = not content.written
    if null and not (reasoning or made):
        raise Refused("an answer with nothing in it")
    message = Message(role, content.text, reasoning, None, made, more, cut=cut, null=null)
    yield replace(message, flag=flag, weight=weight)


def _result(block: Json, more: Json) -> Message:
    """Convert a `tool_result` part of Anthropic to a message."""
    own = all_but(block, ("type", "content"))
    known = {"tool_call_id": own.pop("tool_use_id")} if "tool_use_id" in own else {}
    content = _content(block.get("content", ""), answer=False)
    return Message("tool", content.text, more={**more, **own, **known})


def _content(content: Any, *, answer: bool) -> _Content:
    """Take a content apart, which is a text or a list of parts."""
    if isinstance(content, str):
        return _Content(content, written=True)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise Refused("content: expected text or parts")
    found = _Content()
    for raw, part in zip(content, map(present, content), strict=True):
        kind, text, read = part.get("type"), "", {"type", "text"}
        if kind in ("text", "input_text", "output_text"):
            text = _text(raw.get("text"), "text")
            found.text, found.written = found.text + text, True
        elif kind in ("thinking", "reasoning", "reasoning_text") and answer and not found.text:
            read = {"type", "thinking", "reasoning", "text"}
            texts = {
                _content(part[key], answer=False).text for key in part.keys() & read - {"type"}
            }
            if len(texts) > 1 or ("signature" in part and not texts):
                raise Refused("a part of reasoning without one text")
            text = "".join(texts)
            found.thoughts.append(text)
            found.cut = found.cut or part.get("closed") is False
        elif kind == "tool_use" and answer:
            read = {"type", "id", "name", "input"}
            read |= {"caller"} if part.get("caller") == {"type": "direct"} else set()
            call = {"id": part.get("id"), "name": part.get("name")}
            found.calls.append({**present(call), "arguments": part.get("input", {})})
        elif kind == "tool_result" and not answer and not found.text:
            read = {*part}
            found.results.append(part)
        else:
            raise Refused(f"a part of type {kind!r}, or in another order")
        if text and found.calls:
            raise Refused("text or reasoning after a call")
        found.held.append(all_but(part, read))
    return found


def _reasoning(raw: Json, content: _Content, reading: Reading) -> str:
    """Return the reasoning of a message, from its parts, fields and blocks, which must agree.

    It is empty if there is none. A field that repeats the content does not count.
    """
    side = raw.get("provider_specific_fields", {})
    if not isinstance(side, dict):
        raise Refused("provider_specific_fields that are no object")
    others = all_but(side, (*names.REASONING, *names.BLOCKS))
    check_fields(others, reading, "provider_specific_fields.")
    texts = {"".join(content.thoughts)} - {""}
    for holder in (raw, present(side)):
        for name in names.REASONING:
            text = _text(holder.get(name, ""), name)
            if not _repeats(text.strip(), content.text.strip(), 0 if name == "thought" else 40):
                texts |= {text} - {""}
                lines = text.split("\n") if name == "thought" else []
                if len("".join(map(str.strip, lines))) > 40 and all(
                    line.strip() in content.text for line in lines
                ):
                    raise Refused("a thought that stands in the answer too")
        texts |= {block_text(name, holder[name]) for name in names.BLOCKS if name in holder} - {""}
    if len(texts) > 1:
        raise Refused("reasoning that differs between two fields")
    text = texts.pop() if texts else ""
    if text.lstrip().startswith(TAG):
        raise Refused("reasoning that begins with its tag")
    return text


def _repeats(thought: str, content: str, by_chance: int) -> bool:
    """Return whether a long thought is the content or its beginning, up to the end of a word."""
    if len(thought) <= by_chance or not content.startswith(thought):
        return False
    return not content[len(thought) - 1 : len(thought) + 1].isalnum() or thought == content


def _split(message: Message, reading: Reading) -> Message:
    """Move reasoning between tags from the content of an answer to its `reasoning`."""
    text, ends_in, thinks = message.content, message.content.count(END), bool(message.reasoning)
    begins, later = text.lstrip().startswith(TAG), TAG in text
    if begins and not thinks and not ends_in:
        if not message.cut:
            raise Refused("reasoning that is never closed")
        return replace(message, content="", reasoning=inside(text), verbatim=text)
    if not ends_in:
        return message
    if begins and thinks:
        raise Refused("reasoning in a field and in the text")
    is_text = not reading.closers and END not in reading.template and not thinks
    if is_text and not inside(text.partition(END)[0]).strip():
        return message  # an empty block, which means nothing to this template
    first_on_its_line = not text.partition(END)[0].rpartition("\n")[2].strip()
    opened = not later and (first_on_its_line or reading.prompt_opens)
    if ends_in == 1 and not thinks and (begins or opened):
        return _split_at(message, text.find(END))
    if not reading.closers or reading.stray_tag == "text":
        return _split_at(message, text.find(END)) if begins else message
    if reading.stray_tag == "reasoning" and (begins or not (thinks or later)):
        return _split_at(message, text.rfind(END))
    raise Refused("a </think> that may be text or end reasoning")


def _split_at(message: Message, at: int) -> Message:
    text, content = message.content, message.content[at + len(END) :].lstrip("\n")
    return replace(message, content=content, reasoning=inside(text[:at]), verbatim=text)


def _joined(messages: Iterable[Message]) -> list[Message]:
    """Join adjacent messages that are one answer: reasoning, or text, and then its calls."""
    made: list[Message] = []
    for two in messages:
        if not made or not _goes_on(made[-1], two):
            made.append(two)
            continue
        one = made.pop()
        if (one.flag is False) != (two.flag is False):
            raise Refused("training flags that differ within one answer")
        if one.weight != two.weight:
            raise Refused("weights that differ within one answer")
        more, cut = {**one.more, **two.more}, one.cut or two.cut
        null, content = one.null and two.null, one.content + two.content
        both = replace(one, content=content, more=more, cut=cut, null=null)
        made.append(replace(both, calls=one.calls + two.calls, flag=two.flag, kind=two.kind))
    return made


def _goes_on(one: Message, two: Message) -> bool:
    if (one.role, two.role) != ("assistant", "assistant"):
        return False
    if two.reasoning or END in two.content or two.content.lstrip().startswith(TAG):
        return False
    if one.calls:
        return bool(two.calls) and {one.kind, two.kind} <= {*names.CALL_ROLES}
    if not two.calls:
        said = one.cut or ends(one.more) or one.more.keys() & {"prefix", "partial", *OF_THE_END}
        return bool(two.content.strip()) and _is_reasoning_alone(one) and not said
    return two.kind == "tool_call" or _is_reasoning_alone(one)


def _is_reasoning_alone(message: Message) -> bool:
    text = message.content.strip()
    if message.reasoning or not text:
        return bool(message.reasoning) and not text
    return text.endswith(END) and text.count(END) == 1 and TAG not in text[len(TAG) :]


def _finished(message: Message, reading: Reading) -> Message:
    """Split reasoning from an answer, and set `trained` and `cut`; reasoning alone is cut off."""
    if message.role != "assistant":
        return message
    closers = () if reading.stray_tag == "text" else reading.closers
    if any(closer in message.reasoning for closer in closers):
        raise Refused("a field of reasoning with what ends reasoning in it")
    message = _split(message, reading)
    silent = message.is_silent
    open_ended = message.more.get("end_turn") is False and not message.calls
    cut = message.cut or open_ended or (silent and message.thinks)
    nothing = cut and silent and not message.thinks  # it was cut off before the first token
    trained = message.flag is not False and not nothing
    if trained:
        check_end(message.more)
    return replace(message, trained=trained, cut=cut)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name}: expected text")
    return value
