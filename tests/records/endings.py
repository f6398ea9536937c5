"""Records whose fields say that an answer was cut off, or that its generation failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reasonpack.records.last_answer import ENDS, STATES, TRUNCATED

Json = dict[str, Any]
ASK, ANSWER = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]}
TOLD: dict[str, object] = {
    **dict.fromkeys(ENDS, "Reason.LENGTH"),
    **dict.fromkeys(STATES, "truncated"),
    **dict.fromkeys(TRUNCATED, True),
    "finish_details": {"type": "length"},
    "error": {"message": "m"},
    "metadata": {"finish_reason": "length"},
}
"""By each field, a value with which no stop is trained, or the answer is refused."""
HOLDERS: dict[str, Callable[[Json], Json]] = {
    "": lambda said: {"messages": [ASK, ANSWER], **said},
    "record.": lambda said: {"messages": [ASK, ANSWER], **said},
    "message.": lambda said: {"messages": [ASK, {**ANSWER, **said}]},
    "response.": lambda said: {"messages": [ASK], "response": {"output": [ITEM], **said}},
    "choices.": lambda said: {"messages": [ASK], "choices": [{"message": ANSWER, **said}]},
    "candidates.": lambda said: {"messages": [ASK], "candidates": [{"text": "4", **said}]},
    "calls.": lambda said: {"calls": [{"messages": [ASK], "response": "4", **said}]},
}
"""Records of one answer by where a field is, as options name it."""
