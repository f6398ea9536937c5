"""The types of a conversation as this check reads it, and the two exceptions of reading it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from msgspec import Struct, field

from reasonpack.verify.record_names import END

Json = dict[str, Any]


class NotChecked(Exception):  # noqa: N818 (no error: a limit of this check)
    """A record has something that this check does not know; it is counted by this text."""


class Refused(Exception):  # noqa: N818 (what pack must refuse as well)
    """A record, or one of its views, must not be packed; the text says why."""


@contextmanager
def known_shape() -> Iterator[None]:
    """Turn errors of a value that is missing or of an unexpected type into `NotChecked`.

    Raises:
        NotChecked: in place of AttributeError, LookupError, TypeError or ValueError.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise NotChecked("a value that is missing or of an unknown type") from error


class Arguments(dict[str, Any]):
    """Arguments of a call, decoded from JSON text in the record, which `text` keeps."""

    def __init__(self, read: Json, text: str) -> None:
        super().__init__(read)
        self.text = text


class Reading(Struct, frozen=True):
    """How records are to be read, by the manifest's options and what it says of the templates.

    Attributes:
        ignored: fields to ignore.
        renamed: for each renamed field, the known name under which it is read.
        roles: for each renamed role, its known name.
        stray_tag: what a `</think>` that may be text or end reasoning is: `reasoning`, `text`, or
            `refuse`.
        null_arguments: what to do with nulls in arguments from Parquet: `keep`, `drop`, `refuse`.
        trained_answers: which answers without a flag are trained: `all`, those of the `last-turn`,
            or the `last-message`.
        weighs: the dataset has a column for weights other than 0 and 1.
        closers: what the templates write after reasoning; empty if none shows reasoning.
        prompt_opens: all templates open reasoning in the prompt.
        template: source of the template; any field that it mentions is known.
        row: the record is a row of Parquet.
    """

    ignored: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    stray_tag: str = "refuse"
    null_arguments: str = "refuse"
    trained_answers: str = "all"
    weighs: bool = False
    closers: tuple[str, ...] = (END,)
    prompt_opens: bool = False
    template: str = ""
    row: bool = False


class Message(Struct, frozen=True):
    """A message, in one form for all dialects of records.

    Attributes:
        role: system, developer, user, assistant or tool.
        content: its text, without reasoning.
        reasoning: its reasoning, unchanged; empty without any.
        verbatim: the whole text with the tags if reasoning stood in the content, else None.
        calls: tool calls in OpenAI's form, with decoded arguments.
        more: other fields, passed to the template unchanged.
        trained: its tokens are trained.
        source: index of the message in the record, or of the first of several that it joins.
        cut: the model wrote no stop token, because the answer was cut off or goes on.
        null: it has no content, not even an empty text.
        flag: its own training flag; None without one.
        kind: the name of its role if that stands for a call (`CALL_ROLES`), else empty.
    """

    role: str
    content: str = ""
    reasoning: str = ""
    verbatim: str | None = None
    calls: tuple[Json, ...] = ()
    more: Json = field(default_factory=dict)
    trained: bool = False
    source: int = 0
    cut: bool = False
    null: bool = False
    weight: float = 1.0
    flag: bool | None = None
    kind: str = ""

    @property
    def parts(self) -> list[Any]:
        """Role, content, reasoning, and the name and arguments of each call."""
        functions = [call["function"] for call in self.calls]
        calls = [[each["name"], each["arguments"]] for each in functions]
        return [self.role, self.content, self.reasoning, calls]

    @property
    def is_empty(self) -> bool:
        """Whether it has neither text nor reasoning nor calls."""
        return not (self.content or self.reasoning or self.calls)

    @property
    def thinks(self) -> bool:
        """Whether its reasoning is more than white space."""
        return bool(self.reasoning.strip())

    @property
    def is_silent(self) -> bool:
        """Whether it has no calls, and no text but white space."""
        return not (self.content.strip() or self.calls)


class Chat(Struct, frozen=True):
    """A conversation: messages, tools, its own template variables, and its loss weight."""

    messages: tuple[Message, ...]
    tools: list[Json]
    variables: Json
    weight: float = 1.0

    @property
    def canonical(self) -> bytes:
        """Messages and tools as canonical JSON, by which duplicates and splits are found."""
        messages = [each.parts for each in self.messages]
        return json.dumps([messages, list(self.tools)], sort_keys=True).encode()

    def weights(self, numbers: Sequence[int], scheme: str) -> Iterator[tuple[float, int | None]]:
        """Yield for some messages their loss weight, and the group whose tokens share it, or None.

        `scheme` is the option `loss_weights`.

        >>> said = [Message("user"), Message("assistant", weight=0.5), Message("assistant")]
        >>> list(Chat((*said, *said), [], {}, 3.0).weights([1, 2, 4], "turn"))
        [(1.5, 1), (3.0, 1), (1.5, 2)]
        """
        turns = list(accumulate(each.role == "user" for each in self.messages))
        for number in numbers:
            group = {"message": number, "turn": turns[number], "conversation": 0}.get(scheme)
            yield self.weight * self.messages[number].weight, group
