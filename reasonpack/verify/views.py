"""A chat → the views of its trained messages in text, and where their stop tokens come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.verify.answer_parts import (
    PARTS,
    contains_token,
    has_part,
    is_prompt,
    stretches,
)
from reasonpack.verify.chat import Chat, Json, Message, NotChecked, Refused
from reasonpack.verify.history import find_messages
from reasonpack.verify.marked_messages import marked
from reasonpack.verify.one_view import OneView, TextView
from reasonpack.verify.stop import contradiction
from reasonpack.verify.view_rules import Rules


class TextViews(Struct):
    """The views of a chat in text, and what was met when they were built.

    Attributes:
        views: one for each trained message.
        numbers: index in the chat of each of these messages.
        untrained: number of messages left untrained, as they lack reasoning that the prompt opens.
        context: number of messages kept as context, as their views cannot be built.
        stops: number of stop tokens by source, a key of `FOUND_IN` or `CUT_OFF`.
        doubt: why this check could not build a view that pack may have built; empty otherwise.
        contradictions: descriptions of stop tokens that the manifest names otherwise.
    """

    views: list[TextView] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    untrained: int = 0
    context: int = 0
    stops: dict[str, int] = field(default_factory=dict)
    doubt: str = ""
    contradictions: list[str] = field(default_factory=list)

    def add(self, other: TextViews) -> None:
        """Add the counts and contradictions of other views, but not their texts."""
        self.untrained += other.untrained
        self.context += other.context
        self.stops = dict(Counter(self.stops) + Counter(other.stops))
        self.contradictions += other.contradictions


def build_views(chat: Chat, rules: Rules, parts: Sequence[str] = PARTS) -> TextViews:
    """Build the views of a chat; only the given parts of its answers are trained.

    Raises:
        NotChecked: this check cannot build a view.
        Refused: pack must refuse the chat.
    """
    made = TextViews()
    bare = [each if each.thinks else replace(each, verbatim=None) for each in chat.messages]
    chats = [replace(chat, messages=tuple(bare))]
    if rules.closer and bare != list(chat.messages):  # first with the record's own empty blocks
        chats.insert(0, chat)
    stories = [(one, [rules.written(each) for each in one.messages]) for one in chats]
    for number, message in enumerate(chat.messages):
        if not message.trained or not has_part(message, parts):
            continue
        try:
            _refuse(message, number, rules)
            one = _prepared(stories, number, rules)
            _refuse_prompts(chat.messages[:number], one)
            view = one.view()
            trained = view and stretches(
                message, view.completion, view.reasoning_end, rules.closer, parts
            )
        except (NotChecked, Refused) as error:
            if not rules.keep_as_context:
                raise
            if isinstance(error, NotChecked):
                made.doubt = made.doubt or str(error)
            made.context += 1
            continue
        if view is None:
            made.untrained += 1
            continue
        if not trained:
            continue  # the template shows none of the trained parts
        history = find_messages(view.prompt, chat.messages[:number])
        made.views.append(replace(view, trained=trained, history=history))
        made.numbers.append(number)
        made.stops[one.stop_from] = made.stops.get(one.stop_from, 0) + 1
        if what := contradiction(rules.claimed, one.stop, one.stop_from, calls=bool(message.calls)):
            made.contradictions.append(what)
    if made.doubt and not made.views:
        raise NotChecked(made.doubt)
    return made


def _refuse(message: Message, number: int, rules: Rules) -> None:
    """Refuse calls that were cut off or have no stop token, and an answer that contains one."""
    if message.cut and message.calls:
        raise Refused(f"messages[{number}]: calls of an answer that was cut off")
    if rules.keep_as_context and message.calls and not rules.claimed[1].token:
        raise Refused(f"messages[{number}]: calls, for which the manifest has no stop token")
    for token in (*rules.stops.listed, *(each.token.strip() for each in rules.claimed)):
        if token and contains_token(message, token):
            raise Refused(f"messages[{number}]: the stop token {token!r} in its text or calls")


def _refuse_prompts(messages: Sequence[Message], one: OneView) -> None:
    """Refuse a text of a user that is a whole prompt, as a template wrote it."""
    asked = {number: each for number, each in enumerate(messages) if each.role == "user"}
    end = one.rules.after_user(next(iter(asked.values())), one.variables) if asked else ""
    for number, each in asked.items():
        if is_prompt(each.content, end):
            raise Refused(f"messages[{number}]: a whole prompt as the text of a user")


def _prepared(stories: Sequence[tuple[Chat, Sequence[Json]]], number: int, rules: Rules) -> OneView:
    """Render a message, with marks for its texts if the rendering is otherwise the same.

    If the prompt closes a think block, empty blocks of the record and reasoning of white space are
    dropped.
    """
    for chat, given in stories:
        plain = OneView(chat, given, number, rules)
        if len(stories) == 1 or not plain.closed():
            break
    if plain.message.reasoning and not plain.message.thinks and plain.closed():
        said = replace(plain.original, verbatim=None, reasoning="")
        before, behind = chat.messages[:number], chat.messages[number + 1 :]
        chat = replace(chat, messages=(*before, said, *behind))
        plain = OneView(chat, [*given[:number], rules.written(said)], number, rules)
    marks = None if plain.begun else marked(plain.message, plain.whole)
    if marks is None:
        return plain
    own = rules.written(marks.message)
    try:
        one = OneView(chat, [*given[:number], own], number, rules, marks)
    except NotChecked:
        return plain
    return one if marks.unmarked(one.whole) == plain.whole else plain
