"""A message with marks in place of its texts, so that a short text is found where it stands.

reasoning "a", content "Four"  ──→  "zqreasoningqz", "zqcontentqz"  ──→  views  ──→  "a", "Four"
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.verify.chat import Message
from reasonpack.verify.names import END

SHORT = 16
"""Characters up to which a text may stand in a template by chance."""


class Marked(Struct, frozen=True):
    """A message with marks, and the texts that they stand for."""

    message: Message
    texts: Mapping[str, str]

    def unmarked(self, text: str) -> str:
        """Put the texts back.

        >>> Marked(Message("assistant"), {"zqcontentqz": "Four"}).unmarked("zqcontentqz.")
        'Four.'
        """
        for mark, part in self.texts.items():
            text = text.replace(mark, part)
        return text


def marked(message: Message, whole: str) -> Marked | None:
    """Replace reasoning and content, between their white space, if one is not found for sure.

    `whole` is a rendering that ends with the message, which is an answer.

    Returns:
        None where each text stands in the rendering once, or cannot be replaced.
    """
    parts = {"zqreasoningqz": message.reasoning, "zqcontentqz": message.content}
    texts = {mark: part.strip() for mark, part in parts.items() if part.strip()}
    if not (texts or message.calls or message.cut):  # an answer without text, which nothing finds
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
