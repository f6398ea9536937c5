"""Longer and longer beginnings of one conversation → their renderings, made from each other.

    m0 u1 a2 t3 a4 t5 a6 …          prompt of a4   "… a2 t3"  + header
       └┘       └────┘              prompt of a6   "… a2 t3"  + "a4 t5" + header
       rendered alone: u1 a4 t5 and what this changes at the end is changed at the end of
       the prompt before

Rendering every beginning from its start costs the square of the conversation's length.
Here the template renders the last messages only, with the request that they belong to, twice:
without and with what is new. If the prompt before ends like the first, its end is replaced
by that of the second.

A template may do what makes this wrong, so it is checked, not believed: the first and the
last view, and those at positions 4, 16, 64 …, are rendered whole and compared, which
costs no more than is linear. One difference, and all views of the conversation are
rendered whole. Short conversations are from the start.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonpack.errors import RecordError

__all__ = ["Rendered", "WORTH_IT", "render_whole", "renderings"]

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, Mapping[str, Any], bool], str]
"""Messages, variables, and whether to add the generation prompt → text."""

WORTH_IT = 8
"""Views from which the short way is tried; with fewer it would be the longer one."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the template makes of the messages before an answer, and of those with it.

    Attributes:
        prompt: rendering of the messages before, with the generation prompt.
        full: rendering with the answer.
    """

    prompt: str
    full: str


def renderings(
    render: Render, messages: Messages, asked: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[Rendered]:
    """Render the views of a conversation.

    Args:
        render: calls the template.
        messages: of the conversation, as the template takes them.
        asked: index of each answer, ascending, and the variables for its view.

    Raises:
        RecordError: the template refuses messages; `path` says which.
    """
    if len(asked) >= WORTH_IT:
        made = _short_way(render, messages, asked)
        if made is not None:
            return made
    return [render_whole(render, messages, index, variables) for index, variables in asked]


def render_whole(
    render: Render, messages: Messages, index: int, variables: Mapping[str, Any]
) -> Rendered:
    """Render one view from its start.

    Raises:
        RecordError: the template refuses the messages; `path` says which.
    """
    try:
        return Rendered(
            render(messages[:index], variables, True),  # noqa: FBT003
            render(messages[: index + 1], variables, False),  # noqa: FBT003
        )
    except RecordError as error:
        error.path = f"messages[0:{index + 1}]"
        raise


def _short_way(
    render: Render, messages: Messages, asked: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[Rendered] | None:
    """Render each view from the one before; None where a check finds this to be wrong."""
    checked = {len(asked) - 1, *(4**power for power in range(16))}
    made: list[Rendered] = []
    for number, (index, variables) in enumerate(asked):
        guess = None
        if made and asked[number - 1][1] == variables:
            guess = _guess(render, messages, asked[number - 1][0], index, variables, made[-1])
        if guess is None or number in checked:
            whole = render_whole(render, messages, index, variables)
            if guess is not None and guess != whole:
                return None
            guess = whole
        made.append(guess)
    return made


def _guess(
    render: Render,
    messages: Messages,
    before: int,
    index: int,
    variables: Mapping[str, Any],
    rendered: Rendered,
) -> Rendered | None:
    """Make a view from the one before, whose answer is message `before`; None if unable."""
    few = _last_messages(messages, before, index)
    if few is None:
        return None
    start, rest = few
    try:
        old = render([*start, *rest[: before - index]], variables, True)  # noqa: FBT003
        new = render([*start, *rest], variables, True)  # noqa: FBT003
        full = render([*start, *rest, messages[index]], variables, False)  # noqa: FBT003
    except RecordError:
        return None
    prompt = _edit(rendered.prompt, old, new)
    whole = None if prompt is None else _edit(prompt, new, full)
    return None if prompt is None or whole is None else Rendered(prompt, whole)


def _last_messages(messages: Messages, before: int, index: int) -> tuple[Messages, Messages] | None:
    """Choose what to render of the messages before `index`: a start, and the last of them.

    None where little or nothing can be left out.
    """
    roles = [message.get("role") for message in messages[:index]]
    users = [number for number, role in enumerate(roles) if role == "user"]
    lead = users[0] if users else 0
    requests = [number for number in users if number < before]
    if not requests:
        return None
    request = requests[-1]
    if users[-1] > before:  # the user has spoken since: what was said last may look otherwise
        first, start = request, messages[:lead]
    else:
        answers = [n for n in range(request + 1, before) if roles[n] == "assistant"]
        first = answers[-1] if answers else request + 1
        start = [*messages[:lead], messages[request]]
    if 2 * (len(start) + index - first) > index:
        return None
    return start, messages[first:index]


def _edit(text: str, old: str, new: str) -> str | None:
    """Change the end of `text` as the end of `old` is changed in `new`; None if it is another.

    >>> _edit("system, A, B:", "A, B:", "A, B. C:")
    'system, A, B. C:'
    """
    same = len(os.path.commonprefix([old, new]))
    end = old[same:]
    # The text before the change must be the same too, as far as an answer reaches.
    if not same or not text.endswith(end):
        return None
    return text[: len(text) - len(end)] + new[same:]
