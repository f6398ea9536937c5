"""Longer and longer beginnings of one conversation → their renderings, made from each other.

    m0 u1 a2 t3 a4 t5 a6 …          prompt of a4   "… a2 t3"  + header
       └┘       └────┘              prompt of a6   "… a2 t3"  + "a4 t5" + header
       rendered alone: u1 a4 t5 and what this changes at the end is changed at the end of
       the prompt before

Rendering every beginning from its start costs the square of the conversation's length.
Here the template renders the last messages only, with the request that they belong to, twice:
without and with what is new. If the prompt before ends like the first, its end is replaced
by that of the second.

A template may do what makes this wrong, so it is checked, not believed: the last
view, and those at positions 1, 4, 16, 64 …, are rendered whole and compared, which
costs no more than is linear. One difference, and all views of the conversation are
rendered whole. Short conversations are from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.spans import common_length

__all__ = ["WORTH_IT", "Render", "Rendered", "render_whole", "renderings"]

Messages = Sequence[Mapping[str, Any]]
Variables = Mapping[str, Any]
Render = Callable[[Messages, Variables, bool], str]
"""Messages, variables, and whether to add the generation prompt → text."""

WORTH_IT = 8
"""Views from which the short way is tried; with fewer it would be the longer one."""
PROMPT, ANSWERED = True, False


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the template makes of the messages before an answer, and of those with it.

    Attributes:
        prompt: rendering of the messages before, with the generation prompt.
        prompt_end: rendering of the last of them, or of all.
        full_end: rendering of those, and of the answer.
    """

    prompt: str
    prompt_end: str
    full_end: str

    @property
    def full(self) -> str:
        """Rendering with the answer."""
        full = _edit(self.prompt, self.prompt_end, self.full_end)
        assert full is not None
        return full


def renderings(
    render: Render, messages: Messages, asked: Sequence[tuple[int, Variables]]
) -> Iterator[Rendered]:
    """Render the views of a conversation, in their order.

    Args:
        render: calls the template.
        messages: of the conversation, as the template takes them.
        asked: index of each answer, ascending, and the variables for its view.

    Raises:
        RecordError: the template refuses messages; `path` says which.

    >>> def render(messages, variables, prompt):
    ...     return " ".join(message["content"] for message in messages) + " >" * prompt
    >>> chat = [{"role": role, "content": role[0]} for role in ["user", "assistant"] * 9]
    >>> rendered = [*renderings(render, chat, [(1, {}), (3, {})])][1]
    >>> rendered.prompt, rendered.full
    ('u a u >', 'u a u a')
    """
    if len(asked) >= WORTH_IT:
        try:
            made = _short_way(render, messages, asked)
        except RecordError:  # it is raised again when the views before it are done
            made = None
        if made is not None:
            return iter(made)
    return (render_whole(render, messages, index, variables) for index, variables in asked)


def render_whole(render: Render, messages: Messages, index: int, variables: Variables) -> Rendered:
    """Render one view from its start.

    Raises:
        RecordError: the template refuses the messages; `path` says which.
    """
    try:
        prompt = render(messages[:index], variables, PROMPT)
        return Rendered(prompt, prompt, render(messages[: index + 1], variables, ANSWERED))
    except RecordError as error:
        error.path = f"messages[0:{index + 1}]"
        raise


def _short_way(
    render: Render, messages: Messages, asked: Sequence[tuple[int, Variables]]
) -> list[Rendered] | None:
    """Render each view from the one before; None where a check finds this to be wrong."""
    checked = {len(asked) - 1, *(4**power for power in range(16))}
    users, answers = _last_of(messages, "user"), _last_of(messages, "assistant")
    made: list[Rendered] = []
    for number, (index, variables) in enumerate(asked):
        guess = None
        if made and asked[number - 1][1] == variables:
            before = asked[number - 1][0]
            few = _few(messages, users, answers, before, index)
            guess = few and _guess(
                render, few, index - before, messages[index], variables, made[-1]
            )
        if not guess or number in checked:
            whole = render_whole(render, messages, index, variables)
            if guess and not _is_same(guess, whole):
                return None
            guess = whole
        made.append(guess)
    return made


def _is_same(guess: Rendered, whole: Rendered) -> bool:
    return (guess.prompt, guess.full) == (whole.prompt, whole.full)


def _last_of(messages: Messages, role: str) -> list[int]:
    """Return for each message the index of the last one of a role before it, −1 for none.

    >>> _last_of([{"role": "user"}, {"role": "assistant"}, {"role": "user"}], "user")
    [-1, 0, 0]
    """
    last, found = -1, []
    for index, message in enumerate(messages):
        found.append(last)
        last = index if message.get("role") == role else last
    return found


def _few(
    messages: Messages, users: Sequence[int], answers: Sequence[int], before: int, index: int
) -> Messages | None:
    """Choose what to show of the messages before `index`; None where most are needed.

    What is said before any request is shown, then the request that the answer `before`
    belongs to, then what was said last. Once the user has spoken again, that is all since
    the request: the template may strip it.
    """
    request = users[before]
    if request < 0:
        return None
    first = request + 1 if users[index] > before else max(request + 1, answers[before])
    lead = next(number for number in range(request + 1) if messages[number]["role"] == "user")
    if 2 * (lead + 1 + index - first) > index:
        return None
    return [*messages[:lead], messages[request], *messages[first:index]]


def _guess(
    render: Render,
    few: Messages,
    new: int,
    answer: Mapping[str, Any],
    variables: Variables,
    before: Rendered,
) -> Rendered | None:
    """Do to the view before what a few messages show; the last `new` of them are new."""
    try:
        old_prompt = render(few[:-new], variables, PROMPT)
        prompt = render(few, variables, PROMPT)
        full = render([*few, answer], variables, ANSWERED)
    except RecordError:
        return None
    made = _edit(before.prompt, old_prompt, prompt)
    # The answer must change what is in the whole prompt too.
    same = common_length(prompt, 0, full)
    if made is None or same == 0 or not made.endswith(prompt[same:]):
        return None
    return Rendered(made, prompt, full)


def _edit(text: str, old: str, new: str) -> str | None:
    """Change the end of `text` as the end of `old` is changed in `new`; None if it has another.

    >>> _edit("system, A, B:", "A, B:", "A, B. C:")
    'system, A, B. C:'
    """
    if text is old:
        return new
    same = common_length(old, 0, new)
    end = old[same:]
    if same == 0 or not text.endswith(end):
        return None
    return text[: len(text) - len(end)] + new[same:]
