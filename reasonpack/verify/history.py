"""The messages of a prompt → which kind and message their tokens must have.

    prompt   <|user|>Ask one.<|end|><|bot|>Answer one.<|end|><|user|>…
                     └─ h, 0 ──┘           └── r_in, 1 ──┘

Only certain tokens are given: those wholly within the text of a message that no other message has,
and that the prompt has unchanged and only once. The messages are looked for in order, with the
names of their calls; the search ends at the first that is missing. Template text between messages
is not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reasonpack.rows.kind import Kind
from reasonpack.verify.chat import Message
from reasonpack.verify.marked_messages import SHORT

Stretch = tuple[int, int, int, int]
"""Index of a message, kind, start and stop: in characters, or in tokens."""


def find_messages(prompt: str, messages: Sequence[Message]) -> tuple[Stretch, ...]:
    """Find the stretches of a prompt, in characters, that are the texts of messages.

    >>> find_messages("<u>What is two and two?<a>4", [Message("user", "What is two and two?")])
    ((0, <Kind.CONTEXT: 0>, 3, 23),)
    """
    found: list[Stretch] = []
    said = Counter(each.content.strip() for each in messages)
    called: list[str] = []
    at = 0
    for message in messages:
        text = message.content.strip()
        place = prompt.find(text, at)
        if place < 0 or not _all_in(prompt[at:place], called):
            break
        at = place + len(text)
        called = [call["function"]["name"] for call in message.calls]
        is_once = said[text] == 1 and prompt.find(text) == prompt.rfind(text)
        if len(text) > SHORT and is_once:
            kind = Kind.R_IN if message.role == "assistant" else Kind.CONTEXT
            found.append((message.source, kind, place, at))
    return tuple(found)


def _all_in(text: str, names: Sequence[str]) -> bool:
    """Return whether a text has all names, one after another."""
    at = 0
    return all((at := text.find(name, at) + len(name)) >= len(name) for name in names)
