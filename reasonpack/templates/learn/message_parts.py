r"""The parts of an assistant message, read from a template's renderings of marked messages.

<|im_start|>assistant\n <think>\n R \n</think>\n\n C <|im_end|> \n
└────── header ───────┘ └opener─┘   └── closer ──┘   └─ stop ─┘ └ after
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.records.message import Message
from reasonpack.templates.learn.marked_chats import (
    ANSWER,
    CALL,
    CALLED,
    NEXT,
    REASON,
    RESULT,
    USER,
    Probe,
    answer,
    before,
    call,
    common_end,
    common_length,
    common_start,
    prompt_end,
    result,
    user,
)
from reasonpack.templates.learn.thinking_switch import think_tag

_TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


# --- header, opener, closer -----------------------------------------------------------


def find_header(thinking: Probe, plain: Probe) -> str:
    """Return the common start of all texts between a user message and an assistant message."""
    history = plain.render([user(), answer(reasoning=False), user(NEXT)])
    # Without what the template writes for the second user message.
    history = history.rpartition(NEXT)[0]
    last = thinking.render([user(), answer(reasoning=True)])
    mark = REASON if REASON in last else ANSWER
    texts = [
        prompt_end(thinking),
        prompt_end(plain),
        before(plain, history, ANSWER),
        before(thinking, last, mark),
    ]
    header = common_start(texts, plain.added_tokens)
    opening, _ = think_tag(plain)
    return header.partition(opening)[0] if opening else header


def find_delimiters(probe: Probe, header: str, prompt_opener: str) -> tuple[str, str, bool]:
    """Return the opener and closer of reasoning, and whether a rendering showed them.

    No rendering does if the template drops the reasoning even of the last message.
    """
    bare = before(probe, probe.render([user(), call()]), CALL)
    for message, mark in (
        (answer(reasoning=True), ANSWER),
        (call(ANSWER, REASON), ANSWER),
        (call(None, REASON), CALL),
    ):
        text = probe.render([user(), message])
        closer, found, _ = text.rpartition(USER)[2].partition(REASON)[2].partition(mark)
        if mark == CALL:
            closer = closer.removesuffix(common_end([closer, bare], probe.added_tokens))
        elif CALL in closer:
            continue  # the content follows the calls
        opener = before(probe, text, REASON).removeprefix(header)
        # Text after the closing tag is not reasoning.
        if found and first_tag(closer, probe.added_tokens) not in opener:
            return opener.removeprefix(prompt_opener), closer, True
    return "", _conventional_closer(probe, prompt_opener), False


def find_strips(probe: Probe, closer: str) -> tuple[str, str]:
    """Return what the template strips from the start and the end of reasoning that it shows."""
    pad, core = "\n \n", first_tag(closer, probe.added_tokens)
    message = Message("assistant", ANSWER, pad + REASON + pad)
    for story in (message, replace(message, content=None, tool_calls=call().tool_calls)):
        text = probe.render([user(), story]).rpartition(USER)[2]
        before_it, shown, after = text.partition(REASON)
        if shown:
            plain = probe.render([user(), replace(story, reasoning=REASON)])
            plain_before, _, plain_after = plain.rpartition(USER)[2].partition(REASON)
            start = before_it[common_length(before_it, 0, plain_before) :]
            end = after.partition(core)[0].removesuffix(plain_after.partition(core)[0])
            return _stripped(start, pad), _stripped(end[::-1], pad)
    return "nothing", "nothing"


def _stripped(left: str, pad: str) -> str:
    return {pad: "nothing", "": "white space"}.get(left, "newlines")


def _conventional_closer(probe: Probe, prompt_opener: str) -> str:
    r"""Return the closer for a template that never shows reasoning; '' if its prompt opens none.

    Line breaks follow the generation prompt: `<think>\n` goes with `\n</think>\n\n`,
    `<think>` with `</think>`.
    """
    opening, closing = think_tag(probe)
    if not opening or not prompt_opener.rstrip().endswith(opening):
        return ""
    return f"\n{closing}\n\n" if prompt_opener.endswith("\n") else closing


def first_tag(text: str, added_tokens: Sequence[str]) -> str:
    r"""Return the first tag or added token in `text`; without any, `text` stripped.

    >>> first_tag("\n</think>\n\n", [])
    '</think>'
    """
    found = [(text.find(token), token) for token in added_tokens if token in text]
    found += [(match.start(), match[0]) for match in _TAG.finditer(text)]
    return min(found, key=lambda each: (each[0], -len(each[1])))[1] if found else text.strip()


# --- around content and calls ---------------------------------------------------------


class Lead(Struct, frozen=True):
    """What may precede a response: the header, and an empty block of reasoning.

    Attributes:
        header: the header of the message.
        opener: what the generation prompt adds to the header.
        tag: the tag that closes reasoning; empty if there is none.
    """

    header: str
    opener: str
    tag: str

    def cut(self, text: str) -> str:
        """Return `text` without the header and an empty block of reasoning."""
        text = text.removeprefix(self.header)
        if self.tag and self.tag in text:
            return text.rpartition(self.tag)[2].lstrip()
        return text.removeprefix(self.opener) if self.tag else text


def before_content(probe: Probe, lead: Lead) -> str:
    """Return the text between header and content of an answer without reasoning."""
    text = probe.render([user(), answer(reasoning=False)])
    return lead.cut(before(probe, text, ANSWER))


def around_calls(probe: Probe, lead: Lead) -> str:
    """Return the text before the tool's name (or call id) in a message of calls alone."""
    starts = [lead.cut(before(probe, text, CALL)) for text in _with_two_ids(probe, None)]
    # Some templates number the calls of a conversation.
    later = probe.render([user(), call(), result(), call()]).rpartition(RESULT)[2]
    after, found, _ = later.partition(CALL)
    if found and lead.header and lead.header in after:
        starts.append(lead.cut(lead.header + after.partition(lead.header)[2]))
    return common_start(starts, probe.added_tokens)


def around_text_and_calls(probe: Probe, lead: Lead) -> tuple[str, str]:
    """Return the text before the content of a message with calls, and that before the calls."""
    texts = list(_with_two_ids(probe, ANSWER))
    gaps = [text.rpartition(USER)[2].partition(ANSWER)[2].partition(CALL) for text in texts]
    if not all(found for _, found, _ in gaps):
        return "", ""  # the content is not shown, or follows the calls
    start = lead.cut(before(probe, texts[0], ANSWER))
    return start, common_start([gap for gap, _, _ in gaps], probe.added_tokens)


def _with_two_ids(probe: Probe, content: str | None) -> Iterator[str]:
    for id_ in ("call00000", "xyzw99999"):
        yield probe.render([user(), call(content, ids=[id_])])


def writes_none(probe: Probe) -> bool:
    """Return whether the template writes a null argument of a call as the word None."""
    (only,) = call().tool_calls
    null = replace(only, arguments={"key": None, "other": CALLED})
    message = replace(call(), tool_calls=(null,))
    return "None" in probe.render([user(), message]).rpartition(USER)[2]
