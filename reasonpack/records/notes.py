"""What is noticed of a record and not refused → lines for people.

{"reasoning-alone": 6, "unread score": 200}   counted by kind, and by what it is of
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["NOTES", "note_lines"]

NOTES: Mapping[str, str] = {
    "reasoning-alone": "answers that end in their reasoning; neither its end nor a stop is trained",
    "unfinished": "answers that were cut off or are to be continued; no stop is trained",
    "repeated-reasoning": "fields of reasoning that repeat the answer, and were left out",
    "null-argument": "messages that call a tool with null, which the template writes as None",
    "argument-type": "arguments of another type than the tool says, which are read back as others",
    "form": "answers with reasoning in a form that the template does not know, trained as text; "
    "move it to reasoning_content to train it as reasoning",
    "variable": "variables in chat_template_kwargs that the template does not read",
    "unread": "fields that are not read",
    "left-out": "fields that --ignore-fields leaves out",
    "renamed": "fields that --field reads under another name",
    "kept": "messages that cannot be had exactly, kept as untrained context",
    "more": "further notes",
}
"""The kinds of notes, each with what is counted. A note is a kind, or a kind and a name."""
MOST = 12
"""Names that are listed of one kind."""


def note_lines(notes: Mapping[str, int]) -> Iterator[str]:
    """Say what was noticed, a line for each kind.

    >>> list(note_lines({"unfinished": 2, "unread score": 3, "unread url": 1}))
    ... # doctest: +NORMALIZE_WHITESPACE
    ['answers that were cut off or are to be continued; no stop is trained: 2',
     'fields that are not read: score 3, url 1']
    """
    for kind, words in NOTES.items():
        named = {n: count for n, count in notes.items() if n.partition(" ")[0] == kind}
        if not named:
            continue
        listed = [f"{n.partition(' ')[2]} {count:,}".lstrip() for n, count in named.items()]
        more = [f"and {len(listed) - MOST:,} more"] if len(listed) > MOST else []
        yield f"{words}: {', '.join(listed[:MOST] + more)}"
