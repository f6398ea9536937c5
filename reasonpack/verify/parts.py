r"""Which parts of an answer are trained, and where they stand in what the model wrote.

<think>\nA\n</think>\n\nB\n<tool_call>…</tool_call><|im_end|>
└──── reasoning ────┘└response└────────── tool-calls ─────────┘
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from reasonpack.verify.chat import Message, Refused
from reasonpack.verify.names import END

PARTS = ("reasoning", "response", "tool-calls")


def parts_of(train_on: str) -> tuple[str, ...]:
    """Return the parts that an option names; all of them if it names none.

    >>> parts_of("last-turn,reasoning"), parts_of("all") == PARTS
    (('reasoning',), True)
    """
    named_ = tuple(part for part in PARTS if part in train_on.split(","))
    return named_ or PARTS


def has_part(message: Message, parts: Sequence[str]) -> bool:
    """Tell whether an answer has one of the parts; without calls its stop is of the response."""
    calls = bool(message.calls)
    has = (message.thinks, bool(message.content.strip()) or not calls, calls)
    return any(each for part, each in zip(PARTS, has, strict=True) if part in parts)


def stretches(
    message: Message,
    completion: str,
    thought: tuple[int, int],
    closer: str,
    parts: Sequence[str],
) -> tuple[tuple[int, int], ...]:
    """List where the parts begin and end in a completion.

    `thought` is where in it reasoning ends, at least and at most.

    Raises:
        Refused: text and calls cannot be told apart, and one of them is trained.
    """
    if tuple(parts) == PARTS:
        return ((0, len(completion)),)
    end, most = thought
    verbatim, said = message.verbatim or "", message.content.rstrip()
    place, behind = max(0, verbatim.find(message.reasoning)), len(verbatim) - len(message.content)
    inline = verbatim[place:behind]
    if message.thinks and END in inline and (said or not closer) and inline + said in completion:
        # With the tags of the record, which says what parts the answer from them.
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
        if at < 0 or any(named(completion, name, text_end) < 0 for name in names):
            raise Refused("calls that do not stand behind the text")
    ends = (end, text_end, len(completion))
    each = zip(PARTS, (0, *ends), ends, strict=False)
    return tuple((begin, end) for part, begin, end in each if part in parts and begin < end)


# --- in any text, as they are or stripped of white space ------------------------------


def fitting(text: str, part: str, start: int = 0) -> str:
    """Return the part, or what is left of it where it was stripped, as the text has it."""
    return next((each for each in (part, part.strip()) if text.find(each, start) >= 0), part)


def last_place(text: str, part: str, start: int = 0) -> int:
    """Return where the part stands last in a text from `start` on; −1 if it does not.

    >>> last_place("a b a ", " a "), last_place("a b a", " a "), last_place("b", "a")
    (3, 4, -1)
    """
    return text.rfind(fitting(text, part, start), start)


def holds(text: str, part: str) -> bool:
    """Tell whether a text has a part, or what is left of it where it was stripped."""
    return fitting(text, part) in text


def shown_end(text: str, part: str, place: int) -> int:
    r"""Return where a part ends that stands at `place`, with the white space at its end if shown.

    >>> shown_end("A \n", " A \n", 0), shown_end("A</b>", " A \n", 0)
    (3, 1)
    """
    end = place + len(part if text.startswith(part, place) else part.strip())
    white = part[len(part.rstrip()) :]
    shown = not text.startswith(part, place) and text.startswith(white, end)
    return end + len(white) if shown else end


def says(message: Message, token: str) -> bool:
    """Tell whether a token stands in the texts of a message or in a call of it."""
    calls = (json.dumps(call, ensure_ascii=False) for call in message.calls)
    return any(token in text for text in (message.content, message.reasoning, *calls))


def named(text: str, tool: str, start: int = 0) -> int:
    """Return where the name of a tool ends in a text from `start` on, in no longer one; or −1."""
    found = re.compile(rf"(?<![-\w]){re.escape(tool)}(?![-\w])").search(text, start)
    return found.end() if found else -1


def begun(prompt: str, content: str) -> str:
    r"""Return the tag that a prompt opens and a content closes, with what follows the tag.

    >>> begun("…<judge>\n", "Easy.</judge>So."), begun("…<judge>\n", "So.")
    ('<judge>\n', '')
    """
    opened = re.search(r"<([^<>/\s]+)>\s*\Z", prompt)
    return opened[0] if opened and f"</{opened[1]}>" in content else ""


def begins(text: str, message: Message) -> bool:
    """Tell whether a text begins with reasoning in its tags as the record has it in the content."""
    return text.lstrip().startswith((message.verbatim or "").partition(END)[0].lstrip() + END)


def thought_end(message: Message, completion: str, closer: str) -> tuple[int, int]:
    """Find where reasoning ends in a completion: between the closer and the white space on."""
    if not message.thinks:
        return 0, 0
    place = last_place(completion, message.reasoning)
    behind = max(place, 0) + len(fitting(completion, message.reasoning))
    at = completion.find(closer.strip(), behind) if closer.strip() else -1
    if at < 0 <= place and not completion[behind:].strip():  # it was cut off before its end
        return len(completion), len(completion)
    if place < 0 or at < 0:
        return 0, len(completion)
    least = at + len(closer.strip())
    return least, least + len(completion[least:]) - len(completion[least:].lstrip())
