"""The messages of a call → a `Conversation` whose last message is the answer.

    prompt [system, user, assistant, tool], answer {"content": "4"}
                              ↓
    Conversation of 5 messages; only the last one is trained

An answer that also ends the prompt is taken once: many logs are written after the answer was
added to the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.blocks import refuse_media
from reasonpack.records.call_draft import CallDraft
from reasonpack.records.conversation import Conversation, conversation_of
from reasonpack.records.draft import FLAGS, REASONING, ROLES, is_absent, is_answer, present
from reasonpack.records.message import NOTHING_WRITTEN, Message
from reasonpack.records.no_messages import answer_fix
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.reading import Reading
from reasonpack.records.side_fields import SIDE_FIELDS
from reasonpack.records.tool_calls import contradictions
from reasonpack.records.unknown import UnknownFieldError, sorted_out


class CallMessages(Struct, frozen=True):
    """The messages of a call, as read.

    Attributes:
        conversation: prompt and answer; None if the log does not have both, or ids replace them.
        is_empty: whether the answer has no text, reasoning or tool calls.
        train: False if a flag of the answer says so, or it was cut off before any text.
        notes: oddities that were noticed and not refused.
    """

    conversation: Conversation | None
    is_empty: bool = False
    train: bool = True
    notes: tuple[str, ...] = ()


def read_messages_of(
    draft: CallDraft, where: str, reading: Reading, memo: PromptMemo, *, has_ids: bool
) -> CallMessages:
    """Read the messages of a call, and check the fields that nothing reads.

    If the call has ids, messages that cannot be read are left out with a note: the ids are
    what the model saw and wrote, unless the messages show images.

    Raises:
        UnknownFieldError: an unread field may hold what the model is to learn.
        RecordError: the messages cannot be read; its path is one in the draft.
    """
    refused, left = sorted_out(draft.unread, reading.ignored)
    found = None
    try:
        found = _read(draft, where, reading, memo, has_ids=has_ids)
    except UnknownFieldError as error:
        refused += [replace(each, path=draft.place(each.path)) for each in error.fields]
    except RecordError as error:
        if not refused and (not has_ids or error.reason == "media"):
            raise
        found = CallMessages(None, notes=(f"text-not-read {error.reason}",))
    if refused:
        raise UnknownFieldError(refused)
    assert found
    answer = _prompt_and_answer(draft)[1]
    if found.conversation is None and answer:
        said = answer[-1] if isinstance(answer[-1], dict) else {}
        found = replace(found, train=all(said.get(name, 1) not in (0, False) for name in FLAGS))
    return replace(found, notes=(*left, *found.notes))


def _read(
    draft: CallDraft, where: str, reading: Reading, memo: PromptMemo, *, has_ids: bool
) -> CallMessages:
    (prompt, answer), notes = _prompt_and_answer(draft), []
    if answer is not draft.answer:
        draft.places["completion[0]"] = f"{draft.place('prompt')}[{len(prompt)}]"
        notes.append("answer-in-messages")
    if prompt is None or answer is None:
        if not has_ids and "failed-call" not in draft.notes:
            raise _incomplete(prompt, answer, [each.name for each in draft.unread])
        refuse_media(prompt, "prompt")
        return CallMessages(None, notes=("no-answer-text",) if prompt and has_ids else ())
    if has_ids and isinstance(prompt, str):
        return CallMessages(None, notes=("text-not-compared",))
    answer = _with_content(answer)
    record = {**draft.context, "prompt": prompt, "completion": answer}
    read = conversation_of(
        record,
        where,
        reading,
        read_list=memo.read,
        notes_messages=False,  # other calls share the history, and would repeat its notes
    )
    read, found = _own_answer(read, draft, prompt)
    last = read.messages[-1]
    if has_ids and NOTHING_WRITTEN in last.noticed:  # in the text; the ids may say otherwise
        return CallMessages(None, notes=("no-answer-text",))
    is_empty = not (last.content or last.reasoning or last.tool_calls)
    wrong = contradictions(last.tool_calls, read.tools or ())
    notes += [*found, *last.noticed, *(f"argument-type {each}" for each in wrong), *read.notes]
    return CallMessages(read, is_empty, last.train, tuple(notes))


def _prompt_and_answer(draft: CallDraft) -> tuple[Any, list[Any] | None]:
    """Return prompt and answer of a call; the last message of the prompt may be its answer."""
    prompt, answer = draft.prompt, draft.answer
    if answer is None and isinstance(prompt, list) and prompt and is_answer(prompt[-1]):
        return prompt[:-1], prompt[-1:]
    return prompt, answer


def _incomplete(prompt: object, answer: object, unread: Sequence[str]) -> RecordError:
    there = "an answer" if answer is not None else "a prompt" if prompt is not None else ""
    lacking = "the messages that it answers" if answer is not None else "an answer"
    what = f"{there} without {lacking}" if there else ""
    what = what or "neither messages with an answer nor token ids"
    fix = (answer_fix(unread) if answer is None else "") + (
        "write messages and response, or prompt_token_ids and completion_token_ids; see "
        "schemas/call.schema.json"
    )
    return RecordError("missing", "", what, "both" if there else "one of them", fix)


def _with_content(answer: list[Any]) -> list[Any]:
    """Return an answer, with an empty text as content if it is empty."""
    if not answer:
        return [{"role": "assistant", "content": ""}]
    (first, *others) = answer
    if others or not isinstance(first, dict) or not is_answer({"role": "assistant", **first}):
        return answer
    if "type" in first or present(first, _WRITTEN):
        return answer
    return [{**first, "content": ""}]


_WRITTEN = ("content", "value", "tool_calls", "function_call", *REASONING, *SIDE_FIELDS, "refusal")
"""Fields that hold what the model wrote; an answer without any of them is empty."""


def _own_answer(
    read: Conversation, draft: CallDraft, prompt: Any
) -> tuple[Conversation, list[str]]:
    """Train only the answer, and remove its copy from the end of the prompt; return notes too."""
    notes: list[str] = []
    messages = list(read.messages)
    sources = list(read.sources or range(len(messages)))
    first = len(prompt) if isinstance(prompt, list) else 1
    first += _is_inserted(draft.context.get("system"), prompt)
    answers = sum(source >= first for source in sources)
    if answers != 1 or messages[-1].role != "assistant":
        what = f"an answer of {answers} messages"
        fix = "write each answer as a call of its own, with all that the model saw before it"
        raise RecordError("content", "completion", what, "one of the assistant", fix)
    last = messages[-1]
    before = messages[-2] if len(messages) > 1 else None
    if before is not None and _is_same(before, last):
        del messages[-2], sources[-2]
        notes.append("answer-in-prompt")
        before = messages[-2] if len(messages) > 1 else None
        if before is not None and _is_same(before, last):
            what, expected = "a prompt that ends in the answer twice", "it once at most"
            raise RecordError("conflict", "prompt", what, expected, "log what the model was sent")
    elif before and before.role == "assistant" and (draft.continues or not before.finished):
        at = f"prompt[{sources[-2] - _is_inserted(draft.context.get('system'), prompt)}]"
        what = "an answer that continues the assistant message at the end of the prompt"
        fix = "log the ids of prompt and completion, or leave the call out"
        raise RecordError("content", at, what, "its own message", fix)
    if before is None:
        what = "an answer without messages before it"
        raise RecordError("no-prompt", "prompt", what, "some", "log what the model was sent")
    for i, message in enumerate(messages[:-1]):
        if message.role == "assistant" and message.train:
            messages[i] = replace(message, train=False)
            notes.append("history-flag")
    kept = () if sources == [*range(len(messages))] else tuple(sources)
    return replace(read, messages=tuple(messages), sources=kept), notes


def _is_inserted(system: object, prompt: object) -> bool:
    """Return whether `conversation_of` puts the text of `system` before a prompt as a message."""
    if is_absent(system) or not isinstance(prompt, list) or not prompt:
        return not is_absent(system)
    said = prompt[0].get("role") or prompt[0].get("from")
    return ROLES.get(said) != "system"


def _is_same(one: Message, answer: Message) -> bool:
    """Return whether a message of the prompt repeats the answer, perhaps without its reasoning."""
    return (
        one.role == "assistant"
        and one.content == answer.content
        and one.reasoning in (None, answer.reasoning)
        and [(c.name, c.arguments) for c in one.tool_calls]
        == [(c.name, c.arguments) for c in answer.tool_calls]
        and bool(one.content or one.tool_calls or one.reasoning)
    )
