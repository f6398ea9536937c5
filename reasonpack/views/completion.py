r"""The completion: what the model wrote for one message, found in or composed from renderings.

    prompt  …<|im_start|>assistant\n<think>\n          as rendered for generation
    full    …<|im_start|>assistant\nHello<|im_end|>\n  as rendered with the answer
    ──→     Greet.\n</think>\n\nHello<|im_end|>        what the model wrote

Each completion is checked before it is used: it must consist of the message's texts, in order, and
of the delimiters that were learned from the template, with nothing else but white space.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.records.message import Message
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.forms import as_written
from reasonpack.templates.learn.marked_chats import common_length
from reasonpack.views.tool_calls import are_calls

_OPENING_TAG, _CLOSING_TAG = "<think>", "</think>"
"""The tags at which readers of records split reasoning from content."""


class Completion(Struct, frozen=True):
    """What the model wrote.

    Attributes:
        text: the completion, stop token included.
        response: offset of the response in characters, after reasoning or an empty block.
        block: whether the completion has reasoning or an empty block, or the prompt opens one.
    """

    text: str
    response: int
    block: bool


def find_completion(
    prompt: str, full: str, message: Message, behaviour: Behaviour
) -> Completion | None:
    """Find what the model wrote for `message`.

    `prompt` is the rendering of the messages before it with the generation prompt, `full` the
    rendering that ends with it.

    Returns:
        None if neither the rendering nor the learned parts give the whole message and only it.
    """
    opened = _opened(prompt, behaviour)
    if not (message.reasoning or "").strip() and closes_reasoning(prompt, behaviour):
        message = replace(message, verbatim=None)
    find = _in_parts if as_written(message, behaviour.forms) is None else _as_written
    for last in _last_messages(prompt, full, opened, behaviour):
        text = _cut_stop(last, message, behaviour)
        found = find(opened, text, message, behaviour) if text else None
        if found is not None:
            return found if message.finished else _unfinished(found, message, behaviour)
    return None


def _in_parts(opened: str, text: str, message: Message, behaviour: Behaviour) -> Completion | None:
    """Find the completion of a message whose reasoning and content are separate fields."""
    found = _continued(opened, text, message, behaviour)
    return found or _composed(opened, text, message, behaviour)


def _as_written(
    opened: str, text: str, message: Message, behaviour: Behaviour
) -> Completion | None:
    """Find the completion of a message whose content includes its reasoning.

    The template may show the content unchanged, perhaps after an empty block, show it in a form of
    its own, or drop the reasoning, which is then taken from the record. A tag that the prompt ends
    with is not part of the completion.
    """
    written, tag = as_written(message, behaviour.forms) or "", opened.strip()
    lead = written[: len(written) - len(message.content or "")]
    if tag.endswith(_CLOSING_TAG):
        return None  # no reasoning can follow a prompt that closes it
    start = _find_response(text, replace(message, content=written, reasoning=None), behaviour)
    if start is None:
        own_form = _continued(opened, text, message, behaviour)
        dropped = _find_response(text, replace(message, reasoning=None), behaviour)
        # The text between content and calls is known if the template shows content with calls.
        known = behaviour.closer or not message.tool_calls or any(behaviour.text_call)
        if own_form and not (message.reasoning or "").strip():  # line breaks belong to the block
            rest = own_form.text[own_form.response :]
            return replace(own_form, response=len(own_form.text) - len(rest.lstrip("\n")))
        if own_form or dropped is None or not known:
            return own_form
        content, behind = message.content or "", text[dropped:]
        at = behind.find(content.strip() or behind.lstrip())  # content or first call
        space = content[: len(content) - len(content.lstrip())]
        kept = space if behind[:at].endswith(space) else ""  # unless the template strips it
        start, text = 0, lead + kept + behind[at:]
    body = text[start:]
    if text.startswith(opened) and _CLOSING_TAG not in text[len(opened) : start]:
        body = text[len(opened) :]
    elif tag == _OPENING_TAG:  # the record may lack it, or have other white space
        bare = body.lstrip()
        body = bare.removeprefix(tag) if bare.startswith(tag) else body
    elif tag:
        return None
    *_, behind = body.split(_CLOSING_TAG, tags := lead.count(_CLOSING_TAG))
    if not tags:  # the message was cut off within its reasoning
        return Completion(body, body.rfind(behaviour.stop(message).token), block=True)
    # Line breaks beyond those of the record, or of the closer before a call, are not reasoning's.
    closer = lead if (message.content or "").strip() or not behaviour.closer else behaviour.closer
    breaks = common_length(behind, 0, closer.rpartition(_CLOSING_TAG)[2])
    return Completion(body, len(body) - len(behind) + breaks, block=True)


def _unfinished(found: Completion, message: Message, behaviour: Behaviour) -> Completion | None:
    """Return the completion of a message that was cut off, without closer and stop token.

    None for a message with tool calls.
    """
    if message.tool_calls:
        return None
    if (message.content or "").strip():
        last, closed = message.content or "", found.text
        closers = [behaviour.answer_stop.token, behaviour.answer[1]]
    else:
        last, closed = message.reasoning or "", found.text[: found.response]
        known = closed.rstrip().endswith(behaviour.closer.strip() or "\0")
        closers = [behaviour.closer if known else _CLOSING_TAG]
    for closer in closers:
        closed = closed.rstrip().removesuffix(closer.strip())
    end = len(closed.rstrip())
    tail = last[len(last.rstrip()) :]  # white space that the model wrote, kept if shown
    end += len(tail) if found.text.startswith(tail, end) else 0
    return Completion(found.text[:end], min(found.response, end), found.block)


def _last_messages(prompt: str, full: str, opened: str, behaviour: Behaviour) -> Iterator[str]:
    """Yield candidates for the text of the last message in `full`, without its header."""
    before = prompt[: len(prompt) - len(opened)]
    if full.startswith(before):
        yield full[len(before) :]
    header = behaviour.header
    begins = bool(header) and before.endswith(header)
    at = full.rfind(header) if begins else -1
    while at >= 0:
        yield full[at + len(header) :]
        at = full.rfind(header, 0, at)


def _opened(prompt: str, behaviour: Behaviour) -> str:
    """Return what the generation prompt adds to the header, or to a tool result; '' if nothing."""
    whole = behaviour.prompt_opener + behaviour.opener
    known = {behaviour.prompt_opener, behaviour.prompt_closed, whole}
    for opened in sorted(known, key=len, reverse=True):
        if behaviour.header and prompt.endswith(behaviour.header + opened):
            return opened
    if closed := closed_block(prompt, behaviour):
        return closed
    for opened in sorted(known, key=len, reverse=True) if behaviour.closer else ():
        if opened.strip() and prompt.endswith(opened):
            return opened
    return ""


def closed_block(prompt: str, behaviour: Behaviour) -> str:
    """Return the empty reasoning block at the end of a prompt (`/no_think`); '' if none."""
    opener, closer = (behaviour.prompt_opener + behaviour.opener).strip(), behaviour.closer.strip()
    _, header, block = prompt.rpartition(behaviour.header or "\0")
    core = block.strip()
    if not (header and opener and closer and core.startswith(opener) and core.endswith(closer)):
        return ""
    return "" if core.removeprefix(opener).removesuffix(closer).strip() else block


def closes_reasoning(prompt: str, behaviour: Behaviour) -> bool:
    """Return whether the prompt closes the reasoning, or the template has no place for any."""
    closer = behaviour.closer.strip()
    return not closer or _opened(prompt, behaviour).rstrip().endswith(closer)


def _is_open(opened: str, behaviour: Behaviour) -> bool:
    """Return whether `opened`, which the generation prompt adds, leaves a reasoning block open."""
    whole = behaviour.prompt_opener + behaviour.opener
    known = opened in {behaviour.prompt_opener, whole} or opened.strip() == whole.strip()
    return bool(behaviour.closer and opened) and known


def _cut_stop(text: str, message: Message, behaviour: Behaviour) -> str:
    """Return `text` up to and including the stop token.

    The token is added if the template never shows it after the last message. Empty if it is
    missing though the template shows it.
    """
    stop = behaviour.stop(message)
    if not stop.shown:
        return text + stop.token
    body, after = text.rstrip(), stop.after.strip()
    body = body[: len(body) - len(after)].rstrip() if body.endswith(after) else ""
    return body if stop.token and body.endswith(stop.token) else ""


def _continued(opened: str, text: str, message: Message, behaviour: Behaviour) -> Completion | None:
    """Return the completion if `text`, the message without header, continues the prompt."""
    if not text.startswith(opened):
        return None
    start = _find_response(text, message, behaviour)
    if start is None:
        return None
    response = max(start - len(opened), 0)
    return Completion(text[len(opened) :], response, response > 0 or _is_open(opened, behaviour))


def _closes(content: str, tag: str) -> bool:
    """Return whether `content` closes `tag`, which the prompt opened, without opening it.

    >>> _closes("A</judge>B", "<judge>"), _closes("<judge>A</judge>B", "<judge>")
    (True, False)
    """
    return tag.startswith("<") and f"</{tag[1:]}" in content and tag not in content


def _composed(opened: str, last: str, message: Message, behaviour: Behaviour) -> Completion | None:
    """Compose a completion from the message's reasoning, delimiters and the rendered response."""
    reasoning = message.reasoning if (message.reasoning or "").strip() else ""
    bare = replace(message, reasoning=None)
    start = _find_response(last, bare, behaviour)
    if start is None and reasoning:
        start = _find_response(last, message, behaviour)
    if start is None and last.startswith(behaviour.prompt_opener):
        # Some templates open a block before the response and do not close it.
        last = last.removeprefix(behaviour.prompt_opener)
        start = _find_response(last, bare, behaviour)
    if start is None:
        return None
    if opened and not behaviour.closer and not _closes(message.content or "", opened.strip()):
        return None  # the answer does not continue the block that the prompt opens
    lead, is_open = "", _is_open(opened, behaviour)
    if reasoning:
        # No reasoning can follow a prompt that closes it.
        if not behaviour.closer or not (is_open or opened == behaviour.prompt_opener == ""):
            return None
        whole = behaviour.prompt_opener + behaviour.opener
        lead = whole.removeprefix(opened) + behaviour.strip(reasoning) + behaviour.closer
    elif is_open:
        block = behaviour.prompt_opener + behaviour.opener + behaviour.closer
        lead = block[len(opened) :] if block.startswith(opened) else behaviour.closer
    body = last[start:]
    if lead[-1:].isspace():  # the closer ends with the white space that also begins the response
        first, closer = behaviour.answer[0], behaviour.closer
        due = closer[len(closer.rstrip()) :] if start else first[: len(first) - len(first.lstrip())]
        body = body if start and last[:start].endswith(due) else body.removeprefix(due)
    return _continued(opened, opened + lead + body, message, behaviour)


# --- a message taken apart ------------------------------------------------------------


def _find_response(text: str, message: Message, behaviour: Behaviour) -> int | None:
    """Return where the response begins in `text`, a rendered message without its header.

    None if the text is not exactly the whole message with the learned delimiters.
    """
    starts = _response_starts(text, (message.reasoning or "").strip(), behaviour)
    return next((at for at in starts if _is_response(text, at, message, behaviour)), None)


def _response_starts(text: str, reasoning: str, behaviour: Behaviour) -> Iterator[int]:
    """Yield where the response may begin: after the reasoning, or after an empty block or none."""
    closer, closed = behaviour.closer, behaviour.prompt_closed
    opened = _skip(text, 0, behaviour.prompt_opener + behaviour.opener)
    if reasoning:
        at = _skip(text, _skip(text, opened, reasoning), closer)
        if closer and at >= 0:
            yield _skip_space(text, at, closer)
        return
    if closed and text.startswith(closed) and not _is_open(closed, behaviour):
        yield len(closed)
    for at in (_skip(text, opened, closer), _skip(text, 0, closer)):
        if closer and at >= 0:
            yield _skip_space(text, at, closer)
    yield 0


def _is_response(text: str, at: int, message: Message, behaviour: Behaviour) -> bool:
    """Return whether the text from `at` on is exactly content, calls and stop token."""
    content = (message.content or "").strip()
    before, after = behaviour.text_call if message.tool_calls else behaviour.answer
    stop = behaviour.stop(message).token
    if not message.tool_calls:
        at = _skip(text, _skip(text, at, before), content)
        return at >= 0 and text[at:].strip() == (after + stop).strip()
    with_text = _skip(text, _skip(text, _skip(text, at, before), content), after)
    starts = [with_text] if content else [_skip(text, at, behaviour.call)]
    if message.content and not content and after:  # may be shown like other content
        starts.append(with_text)
    stops = (behaviour.answer_stop.token, behaviour.call_stop.token)
    ends = len(text) - len(stop)
    return any(at >= 0 and are_calls(text[at:ends], message.tool_calls, stops) for at in starts)


def _skip(text: str, at: int, wanted: str) -> int:
    r"""Return where `wanted` ends if `text` has it at `at`, white space aside; else −1.

    >>> _skip("a\n<b>c", 1, "\n\n<b>\n")
    5
    """
    core = wanted.strip()
    if at < 0 or not core:
        return at
    while not text.startswith(core, at):
        if not text[at : at + 1].isspace():
            return -1
        at += 1
    return at + len(core)


def _skip_space(text: str, at: int, closer: str) -> int:
    """Return the offset after the closer's trailing white space; its tag ends at `at`."""
    return at + common_length(text, at, closer[len(closer.rstrip()) :])
