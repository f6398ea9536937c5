"""A chat as this check reads it, and the two ways in which it may not be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from msgspec import Struct, field

from reasonpack.verify.names import END

Json = dict[str, Any]


class NotChecked(Exception):  # noqa: N818 (no error: a limit of this check)
    """What is not known here, in words that are counted."""


class Refused(Exception):  # noqa: N818 (what pack must refuse as well)
    """What must not be packed, in words."""


@contextmanager
def known_shape() -> Iterator[None]:
    """Leave a record unchecked where a value is missing, or of another type than it is read as.

    Raises:
        NotChecked: in place of what Python says of such a value.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise NotChecked("a shape that is not known here") from error


class Arguments(dict[str, Any]):
    """Arguments that the record has as JSON text, with that text."""

    def __init__(self, read: Json, text: str) -> None:
        super().__init__(read)
        self.text = text


class Reading(Struct, frozen=True):
    """What the run was told about records and learned of the template, from the manifest.

    Attributes:
        ignored: fields to leave out.
        renamed: fields by the known name under which they are read.
        roles: known names of roles by the names that messages give them.
        stray_tag: what a `</think>` is that may be text or end reasoning.
        null_arguments: what to do with a null of a struct of arguments.
        which: of the answers that do not say it themselves, those that are trained: `all`, or
            of the `last-turn`, or the `last-message`.
        weighs: the dataset has a column for weights other than 0 and 1.
        closers: what the templates write behind reasoning; empty where none has a place for it.
        prompt_opens: it opens reasoning in the prompt.
        template: its source: a field that it mentions is read.
        row: the record is a row of Parquet.
    """

    ignored: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    stray_tag: str = "refuse"
    null_arguments: str = "refuse"
    which: str = "all"
    weighs: bool = False
    closers: tuple[str, ...] = (END,)
    prompt_opens: bool = False
    template: str = ""
    row: bool = False


class Message(Struct, frozen=True):
    """A message, in one form whatever the record's.

    Attributes:
        role: system, developer, user, assistant or tool.
        content: its text, without reasoning.
        reasoning: as the record has it; empty for none.
        verbatim: the text with the tags, where the reasoning stood in it.
        calls: as a template takes them, with arguments as the record means them.
        more: fields that reach the template as they are.
        source: which of the record's messages it is, or begins with.
        cut: the model wrote no stop: it was cut off.
        null: it has no content, not even an empty text.
        flag: whether it says itself that it is trained; None if it says nothing.
        kind: the name of its role, where that is of a call alone.
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
    def said(self) -> list[Any]:
        """Its role, its texts, and name and arguments of each of its calls."""
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


class Chat(Struct, frozen=True):
    """A conversation with its tools, the variables that it sets, and what it weighs as a whole."""

    messages: tuple[Message, ...]
    tools: list[Json]
    variables: Json
    weight: float = 1.0

    @property
    def said(self) -> bytes:
        """Its messages and tools, written in one way."""
        messages = [each.said for each in self.messages]
        return json.dumps([messages, list(self.tools)], sort_keys=True).encode()

    def weights(self, numbers: Sequence[int], scheme: str) -> Iterator[tuple[float, int | None]]:
        """Yield what it says that some messages weigh, and what each shares that with, or None.

        >>> said = [Message("user"), Message("assistant", weight=0.5), Message("assistant")]
        >>> list(Chat((*said, *said), [], {}, 3.0).weights([1, 2, 4], "turn"))
        [(1.5, 1), (3.0, 1), (1.5, 2)]
        """
        turns = list(accumulate(each.role == "user" for each in self.messages))
        for number in numbers:
            group = {"message": number, "turn": turns[number], "conversation": 0}.get(scheme)
            yield self.weight * self.messages[number].weight, group
