"""Errors for messages without an exact view; each says what was found and how to fix it.

Message, its prompt and its rendering  ──→  RecordError("view", "messages[3]", …)
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.message import Message
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.marked_chats import common_length
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.completion import closed_block
from reasonpack.views.tool_calls import are_calls, find_name
from reasonpack.wording import count

_KEEP = (
    'set "train": false on the message to keep it as context, or pass --on-message-error context '
    "to do so with all such messages"
)
_STATE_STOP = (
    'name it with --template-behaviour FILE, where FILE holds {"call_stop": {"token": "…"}}'
)
_STATE_TAGS = (
    "remove the reasoning, or say with --template-behaviour FILE what opens and closes it; FILE "
    'holds, if the model writes it so, {"opener": "<think>\\n", "closer": "\\n</think>\\n\\n"}'
)


def no_completion(
    name: str, index: int, prompt: str, full: str, message: Message, behaviour: Behaviour
) -> RecordError:
    """Return the error that says why no completion was found for a message.

    `prompt` is rendered for generation, `full` ends with the message.
    """
    what, expected, fix = _why(prompt, full, message, behaviour)
    what = f"the chat template ({name}) {what}"
    return RecordError("view", f"messages[{index}]", what, expected, fix or _KEEP)


def _why(  # noqa: PLR0911 (one kind each)
    prompt: str, full: str, message: Message, behaviour: Behaviour
) -> tuple[str, str, str]:
    """Return what was found, what was expected, and a fix; an empty fix stands for `_KEEP`."""
    content, reasoning = (message.content or "").strip(), (message.reasoning or "").strip()
    own = full[common_length(full, 0, prompt) :]  # after the descriptions of tools
    missing = [call for call in message.tool_calls if call.name not in own]
    nameless = [call for call in message.tool_calls if find_name(call.id or "", call.name) < 0]
    if message.tool_calls and not message.finished:
        return "shows a message with calls that was cut off", "a complete one", ""
    if behaviour.forms.name_in_ids and nameless:
        what = f"shows the id of a call, {nameless[0].id!r}, and not the tool's name"
        name = nameless[0].name
        return what, "an id with the name in it", f"write an id such as 'functions.{name}:0'"
    bare = [replace(call, arguments={}) for call in message.tool_calls]
    if len(bare) > 1 and (missing or not are_calls(own, bare, ())):
        names = ", ".join(call.name for call in message.tool_calls)
        what = f"does not show all calls of this message ({names})"
        return what, "one call per message, as this model writes them", ""
    if content and content not in full:
        if message.tool_calls:
            expected = "a call without text, or text without a call"
            return "does not show the text beside a call", expected, ""
        return "does not show the content of this message", "all of it", ""
    if missing:
        return f"does not show this message's call of {missing[0].name!r}", "it shown", ""
    if message.tool_calls and not behaviour.call_stop.token:
        what = "has no reliable stop token for a message with tool calls"
        return what, "a special token that the model stops at", f"{_STATE_STOP}, or {_KEEP}"
    if reasoning and not behaviour.closer:
        fix = "" if behaviour.prompt_opener.strip() else _STATE_TAGS  # it opens something else
        return "has no place for reasoning, which this message has", "one that has", fix
    if reasoning and (block := closed_block(prompt, behaviour)):
        what = f"ends the prompt in {block!r}, and reasoning follows"
        fix = f"take out what switches thinking off (/no_think, enable_thinking), or {_KEEP}"
        return what, "a prompt that lets the model reason", fix
    if reasoning and reasoning not in full:
        opener = (behaviour.prompt_opener + behaviour.opener).strip()
        what = "does not show the reasoning of this message, and its prompt ends in "
        return what + repr(prompt[-30:]), f"a prompt that lets the model reason ({opener!r})", ""
    what = f"does not show exactly this message after its prompt {_difference(prompt, full)}"
    return what, "the whole message and nothing else", ""


def _difference(prompt: str, full: str) -> str:
    """Describe where two texts differ, with a few characters of each."""
    at = common_length(full, 0, prompt)
    if at == len(prompt):
        return f"({full[at : at + 40]!r} follows)"
    after = count(at, "character")
    return f"({full[at : at + 30]!r} instead of {prompt[at : at + 30]!r} after {after})"


def without_reasoning(name: str, index: int) -> RecordError:
    """Return the error for a message without reasoning whose prompt opens some."""
    what = f"the chat template ({name}) makes the model write an empty block of reasoning, and the "
    what += "message has none"
    fix = f"{_KEEP}, or pass --missing-reasoning skip-loss"
    return RecordError("missing-reasoning", f"messages[{index}]", what, "some", fix)


def refuse_stop_inside(message: Message, index: int, behaviour: Behaviour) -> None:
    """Refuse a message whose text contains a token that ends a generation.

    Raises:
        RecordError: the content, reasoning or calls contain one.
    """
    calls = [f"{each.name} {each.arguments_text or each.arguments}" for each in message.tool_calls]
    own = {"content": message.content, "reasoning": message.reasoning, "tool_calls": "".join(calls)}
    for field, text in own.items():
        for token in behaviour.ends_generation:
            if text and token in text:
                what = f"{token!r} stands in the {field}"
                expected = "it at the end only: the model stops there"
                fix = f"take the token out of the text, or {_KEEP}"
                raise RecordError("stop-token", f"messages[{index}]", what, expected, fix)


_TOKEN = re.compile(r"<[^<>\s]*>")
_BARE = ("user\n", "system\n")
"""How a prompt begins whose special tokens were left out."""


def refuse_rendered(messages: Sequence[Message], behaviour: Behaviour) -> None:
    """Refuse a user message that is a whole prompt, as a template wrote it.

    Such a text ends with the end of a user message and the header of an answer; logs of trainers
    leave out their special tokens.

    Raises:
        RecordError: there is one.
    """
    header = (behaviour.ends.get("user", "") + behaviour.header).strip()
    bare = _TOKEN.sub("", header).strip()
    for index, message in enumerate(messages):
        if message.role != "user" or bare == header:
            continue
        text = (message.content or "").strip().removesuffix("<think>").rstrip()
        is_bare = bool(bare) and text.startswith(_BARE) and text.endswith(f"\n{bare}")
        if (text.endswith(header) and text != header) or is_bare:
            what = f"a text that ends as a prompt does ({header!r}), so a chat template wrote it"
            fix = "write the messages of this prompt, or log its token ids and those of the answer"
            fix += " as calls; or leave the record out (--on-error skip)"
            path = f"messages[{index}].content"
            raise RecordError("content", path, what, "what the user wrote", fix)


Shown = Sequence[tuple[int, int]]
"""For each message: where it and all before it end, and where the last user message ends."""


def check_context(
    prompt: str,
    messages: Sequence[Message],
    template: ChatTemplate,
    before: Shown,
    same: int,
    *,
    shows_results: bool,
) -> Shown:
    """Refuse a prompt that lacks the content of a message other than an answer.

    Args:
        prompt: the prompt of a view.
        messages: the messages of the prompt.
        template: the template that rendered it.
        before: what this function returned for an earlier prompt.
        same: how many leading characters the two prompts share.
        shows_results: whether the template shows tool results. They are not searched then, since
            it may write them in another form.

    Raises:
        RecordError: the content of a message is missing or incomplete.
    """
    kept = bisect_right(before, (same, math.inf))
    ends = list(before[:kept])
    over, at = ends[-1] if ends else (0, 0)
    for index, message in enumerate(messages[kept:], kept):
        if message.role != "assistant" and not (message.role == "tool" and shows_results):
            # Other messages come in order; a template may put a system message anywhere.
            start = at if message.role in {"user", "tool"} else 0
            end = _end_of(message.content or "", prompt, start, template.removed)
            if end is None:
                raise _left_out(template.name, index, message)
            over = max(over, end)
            if message.role == "user":
                at = end
        ends.append((over, at))
    return ends


def hidden_answers(prompt: str, messages: Sequence[Message], known: int, shown: Shown) -> int:
    """Return how many answers, after `known` messages, have text or calls that a prompt lacks.

    `shown` is what `check_context` returned for the prompt.
    """
    hidden = 0
    for message, (_, start) in zip(messages[known:], shown[known:], strict=True):
        if message.role == "assistant":
            texts = (message.content or "").strip(), *(call.name for call in message.tool_calls)
            hidden += any(prompt.find(text, start) < 0 for text in texts)
    return hidden


def _end_of(content: str, prompt: str, start: int, removed: Sequence[str]) -> int | None:
    """Return where `content` ends in a prompt, searched from `start`; None if it is incomplete.

    Words in `removed`, such as `/no_think`, may be missing.
    """
    whole = content.strip()
    at = prompt.find(whole, start)
    if at >= 0:
        return at + len(whole)
    taken = [word for word in removed if word in whole]
    if not taken:
        return None
    at = start
    for piece in re.split("|".join(map(re.escape, taken)), whole):
        found = prompt.find(piece.strip(), at)
        if found < 0:
            return None
        at = found + len(piece.strip())
    return at


def _left_out(name: str, index: int, message: Message) -> RecordError:
    """Return the error for a context message whose content the template does not show."""
    what = f"the chat template ({name}) does not show the content of this {message.role} message"
    fix = "remove the message, or give it a role that the template shows"
    shown = {"developer": "system", "tool": "user"}.get(message.role)
    fix += f", as --role {message.role}={shown} does" if shown else ""
    return RecordError("view", f"messages[{index}]", what, "what was said", fix)
