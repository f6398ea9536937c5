r"""What the model wrote for one message, found in or composed from what the template renders.

    prompt  …<|im_start|>assistant\n<think>\n          as rendered for generation
    full    …<|im_start|>assistant\nHello<|im_end|>\n  as rendered with the answer
    ──→     Greet.\n</think>\n\nHello<|im_end|>        what the model wrote

A completion is taken apart again before it is used: its texts must be the message's own
and what was learned to stand between them, in order, with nothing else but white space.
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
"""By which reasoning was split off the content."""


class Completion(Struct, frozen=True):
    """What the model wrote.

    Attributes:
        text: of the completion, stop token included.
        response: where the response begins in it, in characters, behind reasoning or an
            empty block.
        block: whether there is reasoning, or an empty block of it, in the completion or
            left open by the prompt.
    """

    text: str
    response: int
    block: bool


def find_completion(
    prompt: str, full: str, message: Message, behaviour: Behaviour
) -> Completion | None:
    """Find what the model wrote.

    The prompt is a rendering of the messages before, for generation; `full` is one with the
    message.

    Returns:
        None where neither the rendering nor what was learned gives the whole message,
        and nothing but it.
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
    """Take a message whose reasoning and content were handed over apart."""
    found = _continued(opened, text, message, behaviour)
    return found or _composed(opened, text, message, behaviour)


def _as_written(
    opened: str, text: str, message: Message, behaviour: Behaviour
) -> Completion | None:
    """Take a message whose reasoning was handed over within its content.

    The template shows it so, behind an empty block or not, or in a form of its own, or drops the
    reasoning; what it does not show is as the record has it. The tag that the prompt wrote is not
    written again.
    """
    written, tag = as_written(message, behaviour.forms) or "", opened.strip()
    if tag.endswith(_CLOSING_TAG):
        return None  # what closes the reasoning cannot be followed by some
    start = _find_response(text, replace(message, content=written, reasoning=None), behaviour)
    if start is None:
        own_form = _continued(opened, text, message, behaviour)
        dropped = _find_response(text, replace(message, reasoning=None), behaviour)
        # What parts it from a call is known where the template shows texts beside calls.
        known = behaviour.closer or not message.tool_calls or any(behaviour.text_call)
        if own_form and not (message.reasoning or "").strip():  # the line breaks are the block's
            rest = own_form.text[own_form.response :]
            return replace(own_form, response=len(own_form.text) - len(rest.lstrip("\n")))
        if own_form or dropped is None or not known:
            return own_form
        lead = written[: len(written) - len(message.content or "")]
        content, behind = message.content or "", text[dropped:]
        at = behind.find(content.strip() or behind.lstrip())  # of the content, or the first call
        space = content[: len(content) - len(content.lstrip())]
        kept = space if behind[:at].endswith(space) else ""  # unless the template strips it
        start, text = 0, lead + kept + behind[at:]
    body = text[start:]
    if text.startswith(opened) and _CLOSING_TAG not in text[len(opened) : start]:
        body = text[len(opened) :]
    elif tag == _OPENING_TAG:  # which the record has otherwise, or not at all
        bare = body.lstrip()
        body = bare.removeprefix(tag) if bare.startswith(tag) else body
    elif tag:
        return None
    _, closed, behind = body.partition(_CLOSING_TAG)
    if not closed:  # it was cut off before
        return Completion(body, body.rfind(behaviour.stop(message).token), block=True)
    own = written.partition(_CLOSING_TAG)[2]  # a line break more is of what follows
    breaks = common_length(behind, 0, own[: len(own) - len(own.lstrip("\n"))])
    return Completion(body, len(body) - len(behind) + breaks, block=True)


def _unfinished(found: Completion, message: Message, behaviour: Behaviour) -> Completion | None:
    """Leave out the stop, and what would close it, of a message that was cut off."""
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
    tail = last[len(last.rstrip()) :]  # which the model wrote, if it is shown
    end += len(tail) if found.text.startswith(tail, end) else 0
    return Completion(found.text[:end], min(found.response, end), found.block)


def _last_messages(prompt: str, full: str, opened: str, behaviour: Behaviour) -> Iterator[str]:
    """Yield what may be the message, header cut off, at the end of a rendering."""
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
    """Return what the generation prompt adds to the header, or to a tool's result."""
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
    """Return the block that a prompt opens and closes, as for `/no_think`; empty if it does not."""
    opener, closer = (behaviour.prompt_opener + behaviour.opener).strip(), behaviour.closer.strip()
    _, header, block = prompt.rpartition(behaviour.header or "\0")
    core = block.strip()
    if not (header and opener and closer and core.startswith(opener) and core.endswith(closer)):
        return ""
    return "" if core.removeprefix(opener).removesuffix(closer).strip() else block


def closes_reasoning(prompt: str, behaviour: Behaviour) -> bool:
    """Whether the model has no reasoning to write: the prompt closes it, or there is none."""
    closer = behaviour.closer.strip()
    return not closer or _opened(prompt, behaviour).rstrip().endswith(closer)


def _is_open(opened: str, behaviour: Behaviour) -> bool:
    """Whether what the generation prompt adds to the header leaves reasoning open."""
    whole = behaviour.prompt_opener + behaviour.opener
    known = opened in {behaviour.prompt_opener, whole} or opened.strip() == whole.strip()
    return bool(behaviour.closer and opened) and known


def _cut_stop(text: str, message: Message, behaviour: Behaviour) -> str:
    """Cut what the template adds after the stop token, or add the stop where it has none.

    Returns:
        The empty text where there is no stop token.
    """
    stop = behaviour.stop(message)
    if not stop.shown:
        return text + stop.token
    body, after = text.rstrip(), stop.after.strip()
    body = body[: len(body) - len(after)].rstrip() if body.endswith(after) else ""
    return body if stop.token and body.endswith(stop.token) else ""


def _continued(opened: str, text: str, message: Message, behaviour: Behaviour) -> Completion | None:
    """Take the completion from a message as rendered, header cut off."""
    if not text.startswith(opened):
        return None
    start = _find_response(text, message, behaviour)
    if start is None:
        return None
    response = max(start - len(opened), 0)
    return Completion(text[len(opened) :], response, response > 0 or _is_open(opened, behaviour))


def _closes(content: str, tag: str) -> bool:
    """Whether a content goes on from a tag that stands before it.

    >>> _closes("A</judge>B", "<judge>"), _closes("<judge>A</judge>B", "<judge>")
    (True, False)
    """
    return tag.startswith("<") and f"</{tag[1:]}" in content and tag not in content


def _composed(opened: str, last: str, message: Message, behaviour: Behaviour) -> Completion | None:
    """Put a completion together from what was learned and the response as rendered."""
    reasoning = message.reasoning if (message.reasoning or "").strip() else ""
    bare = replace(message, reasoning=None)
    start = _find_response(last, bare, behaviour)
    if start is None and reasoning:
        start = _find_response(last, message, behaviour)
    if start is None and last.startswith(behaviour.prompt_opener):
        # Some open a block before the response that nothing closes.
        last = last.removeprefix(behaviour.prompt_opener)
        start = _find_response(last, bare, behaviour)
    if start is None:
        return None
    if opened and not behaviour.closer and not _closes(message.content or "", opened.strip()):
        return None  # the answer has to go on from what the prompt opens
    lead, is_open = "", _is_open(opened, behaviour)
    if reasoning:
        # A prompt that closes the reasoning cannot be followed by some.
        if not behaviour.closer or not (is_open or opened == behaviour.prompt_opener == ""):
            return None
        whole = behaviour.prompt_opener + behaviour.opener
        lead = whole.removeprefix(opened) + behaviour.strip(reasoning) + behaviour.closer
    elif is_open:
        block = behaviour.prompt_opener + behaviour.opener + behaviour.closer
        lead = block[len(opened) :] if block.startswith(opened) else behaviour.closer
    body = last[start:]
    if lead[-1:].isspace():  # the closer has the white space that is due here
        first, closer = behaviour.answer[0], behaviour.closer
        due = closer[len(closer.rstrip()) :] if start else first[: len(first) - len(first.lstrip())]
        body = body if start and last[:start].endswith(due) else body.removeprefix(due)
    return _continued(opened, opened + lead + body, message, behaviour)


# --- a message taken apart ------------------------------------------------------------


def _find_response(text: str, message: Message, behaviour: Behaviour) -> int | None:
    """Return where the response begins in the text of a message, behind the header.

    None where the text is anything but the whole message, as it was learned to be.
    """
    starts = _response_starts(text, (message.reasoning or "").strip(), behaviour)
    return next((at for at in starts if _is_response(text, at, message, behaviour)), None)


def _response_starts(text: str, reasoning: str, behaviour: Behaviour) -> Iterator[int]:
    """Yield where the response may begin: behind the reasoning, or behind an empty block."""
    closer, closed = behaviour.closer, behaviour.prompt_closed
    opened = _skip(text, 0, behaviour.prompt_opener + behaviour.opener)
    if reasoning:
        at = _skip(text, _skip(text, opened, reasoning), closer)
        if closer and at >= 0:
            yield _behind(text, at, closer)
        return
    if closed and text.startswith(closed) and not _is_open(closed, behaviour):
        yield len(closed)
    for at in (_skip(text, opened, closer), _skip(text, 0, closer)):
        if closer and at >= 0:
            yield _behind(text, at, closer)
    yield 0


def _is_response(text: str, at: int, message: Message, behaviour: Behaviour) -> bool:
    """Whether the text from `at` on is the content, the calls and the stop token."""
    content = (message.content or "").strip()
    before, after = behaviour.text_call if message.tool_calls else behaviour.answer
    stop = behaviour.stop(message).token
    if not message.tool_calls:
        at = _skip(text, _skip(text, at, before), content)
        return at >= 0 and text[at:].strip() == (after + stop).strip()
    with_text = _skip(text, _skip(text, _skip(text, at, before), content), after)
    starts = [with_text] if content else [_skip(text, at, behaviour.call)]
    if message.content and not content and after:  # white space alone may be shown as a text is
        starts.append(with_text)
    stops = (behaviour.answer_stop.token, behaviour.call_stop.token)
    ends = len(text) - len(stop)
    return any(at >= 0 and are_calls(text[at:ends], message.tool_calls, stops) for at in starts)


def _skip(text: str, at: int, wanted: str) -> int:
    r"""Return where `wanted`, between white space, ends in `text` from `at`; −1 if it is not there.

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


def _behind(text: str, at: int, closer: str) -> int:
    """Return where the white space that belongs to a closer which ends at `at` is over."""
    return at + common_length(text, at, closer[len(closer.rstrip()) :])
