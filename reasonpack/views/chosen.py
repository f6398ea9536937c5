r"""What `--train-on` selects: which answers are trained, and which parts of them.

last-turn,reasoning     the reasoning of the answers after the last user message

<think>\nEasy.\n</think>\n\nIt is 4.\n<tool_call>…</tool_call><|im_end|>
└──── reasoning ─────┘└ response ┘└────────── tool-calls ──────────┘  with the stop token
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import get_args

from msgspec import Struct

from reasonpack.choices import Part, Scope
from reasonpack.errors import RecordError, UsageError
from reasonpack.records.message import Message
from reasonpack.views.rendering import is_reasoned

SCOPES: tuple[Scope, ...] = get_args(Scope)
PARTS: tuple[Part, ...] = get_args(Part)


class Chosen(Struct, frozen=True):
    """What is to be trained.

    Attributes:
        scope: which answers, in addition to those that the record marks for training.
        parts: which parts of these answers.
    """

    scope: Scope = "all"
    parts: tuple[Part, ...] = PARTS

    def messages(self, messages: Sequence[Message]) -> list[int]:
        """Return the indices of the answers to train: those in scope that have one of the parts."""
        answers = [n for n, message in enumerate(messages) if message.role == "assistant"]
        first = 0
        if self.scope == "last-turn":
            users = (n for n, message in enumerate(messages) if message.role == "user")
            first = max(users, default=0)
        elif self.scope == "last-message":
            first = max(answers, default=0)
        return [
            number
            for number in answers
            if messages[number].train
            and (number >= first or messages[number].flagged)
            and self._has_part(messages[number])
        ]

    def _has_part(self, message: Message) -> bool:
        has = {
            "reasoning": is_reasoned(message),
            "response": bool((message.content or "").strip()) or not message.tool_calls,
            "tool-calls": bool(message.tool_calls),
        }
        return self.parts == PARTS or any(has[part] for part in self.parts)

    def stretches(
        self, completion: str, messages: Sequence[Message], index: int, reasoning: int
    ) -> list[tuple[int, bool]]:
        """Cut a completion into its parts; return where each ends, and whether it is trained.

        `index` is the index of the completion's message; `reasoning` is where the reasoning ends.

        Raises:
            RecordError: the border between response and tool calls is not found.
        """
        if self.parts == PARTS:
            return [(reasoning, True), (len(completion), True)]
        ends = {"reasoning": reasoning, "response": len(completion), "tool-calls": len(completion)}
        apart = ("response" in self.parts) != ("tool-calls" in self.parts)
        if apart and messages[index].tool_calls:
            ends["response"] = _end_of_text(completion, messages[index], index, reasoning)
        starts = (0, ends["reasoning"], ends["response"])
        return [
            (ends[part], part in self.parts and start < ends[part])
            for start, part in zip(starts, PARTS, strict=True)
        ]


def _end_of_text(completion: str, message: Message, index: int, start: int) -> int:
    """Return where in a completion the response ends and the tool calls begin."""
    content = (message.content or "").strip()
    at = completion.find(content, start)
    end = at + len(content)
    if at < 0 or any(call.name not in completion[end:] for call in message.tool_calls):
        what = "tool calls that do not follow the text"
        fix = "name both response and tool-calls in --train-on, or neither"
        raise RecordError("view", f"messages[{index}]", what, "them after it", fix)
    return end


@cache
def read_train_on(text: str) -> Chosen:
    """Parse the value of `--train-on`.

    Raises:
        UsageError: a name is unknown or repeated, or there are two scopes.

    >>> read_train_on("reasoning,last-turn")
    Chosen(scope='last-turn', parts=('reasoning',))
    """
    names = [name.strip() for name in text.split(",")]
    scopes = [scope for scope in SCOPES if scope in names]
    parts = tuple(part for part in PARTS if part in names)
    if len(scopes) > 1 or len({*scopes, *parts}) != len(names):
        raise UsageError(
            "--train-on",
            repr(text),
            f"one of {', '.join(SCOPES)}, some of {', '.join(PARTS)}, or both, with commas between",
            "write such as last-turn,reasoning",
        )
    return Chosen(scopes[0] if scopes else "all", parts or PARTS)


def written(chosen: Chosen) -> str:
    """Return the canonical text of `--train-on`.

    >>> written(read_train_on("reasoning,last-turn")), written(read_train_on("response, all"))
    ('last-turn,reasoning', 'response')
    """
    parts = () if chosen.parts == PARTS else chosen.parts
    scope = () if chosen.scope == "all" and parts else (chosen.scope,)
    return ",".join((*scope, *parts))
