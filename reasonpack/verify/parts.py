r"""Which parts of an answer are trained, and where they stand in what the model wrote.

<think>\nA\n</think>\n\nB\n<tool_call>…</tool_call><|im_end|>
└──── reasoning ────┘└response└────────── tool-calls ─────────┘
"""

from __future__ import annotations

from collections.abc import Sequence

from reasonpack.verify.chat import Message, Refused
from reasonpack.verify.names import END
from reasonpack.verify.texts import named, thought_end

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
    message: Message, completion: str, closer: str, parts: Sequence[str]
) -> tuple[tuple[int, int], ...]:
    """List where the parts begin and end in a completion.

    Raises:
        Refused: text and calls cannot be told apart, and one of them is trained.
    """
    if tuple(parts) == PARTS:
        return ((0, len(completion)),)
    as_written = END + (message.verbatim or "").partition(END)[2]
    if message.verbatim and as_written in completion:  # the record's own tags
        closer = as_written.removesuffix(message.content)
    thought, most = thought_end(message, completion, closer)
    for space in closer[len(closer.rstrip()) :]:
        if thought >= most or completion[thought] != space:
            break
        thought += 1
    said = len(completion)
    if message.calls and ("response" in parts) != ("tool-calls" in parts):
        content = message.content.strip()
        at = completion.find(content, thought)
        said = at + len(content)
        names = [call["function"]["name"] for call in message.calls]
        if at < 0 or any(named(completion, name, said) < 0 for name in names):
            raise Refused("calls that do not stand behind the text")
    ends = (thought, said, len(completion))
    each = zip(PARTS, (0, *ends), ends, strict=False)
    return tuple((begin, end) for part, begin, end in each if part in parts and begin < end)
