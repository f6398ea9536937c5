"""The messages of a record, in any shape that the field writes → the shape of OpenAI's chats.

    source                                            read as
    0 {"role": "user", "content": "2+2?"}             0 {"role": "user", "content": "2+2?"}
    1 {"role": "assistant", "content": [text, call]}  1 {"role": "assistant", "tool_calls": […], …}
    2 {"role": "user", "content": [result, text]}     2 {"role": "tool", …}
                                                      2 {"role": "user", …}

`message` then reads the result by its own strict rules. A message that has that
shape already is left as it is, and is not copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Normalised", "normalised"]

_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Normalised:
    """Messages in the shape of OpenAI's chats.

    Attributes:
        messages: what is to be read, or what the record has where it is no list at all.
        sources: the index in the record of the message that each was made of; empty where
            message i is the record's message i.
        places: by the path of a field here, as in `messages[2].tool_calls[0]`, the path in the
            record that it was read from.
    """

    messages: Any
    sources: tuple[int, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    def source_path(self, path: str, at: str) -> str:
        """Return where in the record a field stands, for the path of a field of `messages`.

        `at` is the path of the list itself.

        >>> Normalised([], (0, 1, 1), {"chat[2].name": "chat[1].content[0].id"}).source_path(
        ...     "chat[2].role", "chat")
        'chat[1].role'
        """
        end = len(path)
        while end > len(at):
            if path[:end] in self.places:
                return self.places[path[:end]] + path[end:]
            end = max(path.rfind(".", 0, end), path.rfind("[", 0, end))
        index = _INDEX.match(path, len(at))
        if not self.sources or not index:
            return path
        return f"{at}[{self.sources[int(index[1])]}]{path[index.end() :]}"


def normalised(messages: Any, path: str) -> Normalised:  # noqa: ARG001
    """Bring the list of messages in the field `path` of a record into the shape of OpenAI's.

    What has no known shape is left for the reader of messages to refuse.

    Raises:
        RecordError: a shape that is known, and holds what cannot be packed.
    """
    return Normalised(messages)
