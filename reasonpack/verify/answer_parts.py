r"""Finds the parts of an answer that are trained, and its texts in renderings.

<think>\nA\n</think>\n\nB\n<tool_call>…</tool_call><|im_end|>
└──── reasoning ────┘└response└────────── tool-calls ─────────┘
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from reasonpack.verify.chat import Message, Refused
from reasonpack.verify.record_names import END, TAG

PARTS = ("reasoning", "response", "tool-calls")


def parts_of(train_on: str) -> tuple[str, ...]:
    """Return the parts that the option `train_on` names; all of them if it names none.

    >>> parts_of("last-turn,reasoning"), parts_of("all") == PARTS
    (('reasoning',), True)
    """
    named = tuple(part for part in PARTS if part in train_on.split(","))
    return named or PARTS


def has_part(message: Message, parts: Sequence[str]) -> bool:
    """Return whether an answer has one of the parts; without calls it always has a response."""
    calls = bool(message.calls)
    has = (message.thinks, bool(message.content.strip()) or not calls, calls)
    return any(each for part, each in zip(PARTS, has, strict=True) if part in parts)


def stretches(
    message: Message,
    completion: str,
    reasoning_end: tuple[int, int],
    closer: str,
    parts: Sequence[str],
) -> tuple[tuple[int, int], ...]:
    """Return start and stop of each of the parts in a completion, in characters.

    `reasoning_end` is where reasoning ends in the completion, at least and at most.

    Raises:
        Refused: only one of text and calls is trained, and the calls do not follow the text.
    """
    if tuple(parts) == PARTS:
        return ((0, len(completion)),)
    end, most = reasoning_end
    verbatim, said = message.verbatim or "", message.content.rstrip()
    place, behind = max(0, verbatim.find(message.reasoning)), len(verbatim) - len(message.content)
    inline = verbatim[place:behind]
    if message.thinks and END in inline and (said or not closer) and inline + said in completion:
        # The record's own tags are in the completion, so the record tells where they end.
        closer = END + inline.rpartition(END)[2]
        end, most = completion.find(inline + said) + len(inline.rstrip()), len(completion)
    for space in closer[len(closer.rstrip()) :] * message.thinks:
        if end >= most or completion[end] != space:
            break
        end += 1
    text_end = len(completion)
    if message.calls and ("response" in parts) != ("tool-calls" in parts):
        content = message.content.strip()
        at = completion.find(content, end)
        text_end = at + len(content)
        names = [call["function"]["name"] for call in message.calls]
        if at < 0 or any(tool_name_end(completion, name, text_end) < 0 for name in names):
            raise Refused("calls that do not follow the text")
    ends = (end, text_end, len(completion))
    each = zip(PARTS, (0, *ends), ends, strict=False)
    return tuple((begin, end) for part, begin, end in each if part in parts and begin < end)


# --- finding texts, whole or stripped of white space -----------------------------------


def as_shown(text: str, part: str, start: int = 0) -> str:
    """Return `part`, or `part` without outer white space if only this is in the text."""
    return next((each for each in (part, part.strip()) if text.find(each, start) >= 0), part)


def last_place(text: str, part: str, start: int = 0) -> int:
    """Return the last place of a part, or of the stripped part, from `start` on; −1 without one.

    >>> last_place("a b a ", " a "), last_place("a b a", " a "), last_place("b", "a")
    (3, 4, -1)
    """
    return text.rfind(as_shown(text, part, start), start)


def before(text: str, content: str) -> str:
    """Return what stands before a content in a text; all of it for a content of white space."""
    return text[: max(0, last_place(text, content))] if content.strip() else text


def holds(text: str, part: str) -> bool:
    """Return whether a text has a part, or the stripped part."""
    return as_shown(text, part) in text


def shown_end(text: str, part: str, place: int) -> int:
    r"""Return where a part at `place` ends, with as much of its final white space as is shown.

    >>> shown_end("A \n", " A \n", 0), shown_end("A</b>", " A \n", 0)
    (3, 1)
    """
    end = place + len(part if text.startswith(part, place) else part.strip())
    white = part[len(part.rstrip()) :]
    shown = not text.startswith(part, place) and text.startswith(white, end)
    return end + len(white) if shown else end


def contains_token(message: Message, token: str) -> bool:
    """Return whether the content, reasoning or a call of a message contains a token."""
    calls = (json.dumps(call, ensure_ascii=False) for call in message.calls)
    return any(token in text for text in (message.content, message.reasoning, *calls))


def tool_name_end(text: str, tool: str, start: int = 0) -> int:
    """Return where the name of a tool, as a whole word, ends in a text from `start` on, or −1."""
    found = re.compile(rf"(?<![-\w]){re.escape(tool)}(?![-\w])").search(text, start)
    return found.end() if found else -1


def opened_tag(prompt: str, content: str) -> str:
    r"""Return the tag at the end of a prompt, with white space after it; empty unless closed.

    >>> opened_tag("…<judge>\n", "Easy.</judge>So."), opened_tag("…<judge>\n", "So.")
    ('<judge>\n', '')
    """
    opened = re.search(r"<([^<>/\s]+)>\s*\Z", prompt)
    return opened[0] if opened and f"</{opened[1]}>" in content else ""


def begins_with_block(text: str, message: Message) -> bool:
    """Return whether a text begins with the record's own think block."""
    return text.lstrip().startswith((message.verbatim or "").partition(END)[0].lstrip() + END)


def find_reasoning_end(message: Message, completion: str, closer: str) -> tuple[int, int]:
    """Return where reasoning ends in a completion, at least and at most.

    That is after the closer, or after the white space after it; (0, all) if they are not found.
    """
    if not message.thinks:
        return 0, 0
    shown = as_shown(completion, message.reasoning)
    place = completion.find(shown)  # the first one, as the answer may repeat its reasoning
    behind = max(place, 0) + len(shown)
    at = completion.find(closer.strip(), behind) if closer.strip() else -1
    if at < 0 <= place and not completion[behind:].strip():  # cut off within the reasoning
        return len(completion), len(completion)
    if place < 0 or at < 0:
        return 0, len(completion)
    least = at + len(closer.strip())
    return least, least + len(completion[least:]) - len(completion[least:].lstrip())


def is_prompt(text: str, end: str) -> bool:
    r"""Return whether a user's text ends as a prompt does, perhaps without its special tokens.

    `end` is what follows the last text of the user in a prompt.

    >>> is_prompt("<|user|>2+2?<|bot|>\n", "<|bot|>\n"), is_prompt("user\n2+2?\nbot", "<|s|>bot\n")
    (True, True)
    """
    text, end = _undecided(text), _undecided(end)
    word = re.sub(r"<[^<>\s]*>", "", end).strip()
    if word == end:
        return False
    lines = text.split("\n")
    ends = text.endswith(end) and text != end
    return ends or (bool(word) and text.startswith(_ROLES) and lines[-1] == word)


_ROLES = ("user\n", "system\n")


def _undecided(prompt: str) -> str:
    """Return a prompt without white space around it, and without reasoning that it opens."""
    return re.sub(rf"{TAG}\s*({END})?\s*$", "", prompt).strip()
