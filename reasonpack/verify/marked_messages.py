"""Replaces the texts of a message by unique marks, so that a rendering shows where they are.

reasoning "a", content "Four"  ──→  "zqreasoningqz", "zqcontentqz"  ──→  views  ──→  "a", "Four"
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.verify.chat import Message
from reasonpack.verify.record_names import END

SHORT = 16
"""Characters up to which a text may be in a rendering by chance."""


class Marked(Struct, frozen=True):
    """A message with marks, and the texts that they stand for."""

    message: Message
    texts: Mapping[str, str]

    def unmarked(self, text: str) -> str:
        """Return a text with the marks replaced by the texts that they stand for.

        >>> Marked(Message("assistant"), {"zqcontentqz": "Four"}).unmarked("zqcontentqz.")
        'Four.'
        """
        for mark, part in self.texts.items():
            text = text.replace(mark, part)
        return text


def marked(message: Message, whole: str) -> Marked | None:
    """Return an answer with marks for its reasoning and content, without their white space.

    None if marks are not needed, as `whole`, a rendering that ends with the answer, has each text
    once; or if the record's own tags do not fit around the texts.
    """
    parts = {"zqreasoningqz": message.reasoning, "zqcontentqz": message.content}
    texts = {mark: part.strip() for mark, part in parts.items() if part.strip()}
    if not (texts or message.calls or message.cut):  # an empty answer, which could not be found
        bare = replace(message, content="zqcontentqz")
        return Marked(bare, {"zqcontentqz": message.content})
    if all(len(text) > SHORT and whole.count(text) == 1 for text in texts.values()):
        return None
    reasoning, content = (
        part.replace(part.strip(), mark) if part.strip() else part for mark, part in parts.items()
    )
    verbatim = message.verbatim
    if verbatim is not None:
        head, closer, behind = verbatim.partition(END)
        end = len(head.rstrip("\n"))
        start = end - len(message.reasoning)
        if head[start:end] != message.reasoning or not behind.endswith(message.content):
            return None
        before = behind.removesuffix(message.content)
        verbatim = head[:start] + reasoning + head[end:] + closer + before + content
    made = replace(message, reasoning=reasoning, content=content, verbatim=verbatim)
    return Marked(made, texts)
