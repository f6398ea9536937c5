"""Documents of tokens → their faults, counted by code with an example of each, as text or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, pairwise
from operator import or_
from typing import Any

import click
import numpy as np
from msgspec import Struct, field, to_builtins

from reasonpack.datasets.options import Options
from reasonpack.run.check.prepared import documents
from reasonpack.run.check.source import Compared, Source, read_source
from reasonpack.run.check.written import FAULTS, Fault, Read, Reader
from reasonpack.run.context import load_context
from reasonpack.storage.place import Place
from reasonpack.wording import count, printable

BEFORE, SHOWN, AFTER = 12, 16, 6
"""Most tokens that an example shows before, in and after the fault."""
Run = tuple[str, bool, bool]
"""A text, whether it is trained, and whether it is part of the fault."""


class Group(Struct):
    """All faults of one code: how many places and tokens, and the first place as an example."""

    places: int = 0
    tokens: int = 0
    where: str = ""
    token: int = 0
    example: list[Run] = field(default_factory=list)
    expected: str = ""


class Findings(Struct):
    """What was found in files of tokens.

    Attributes:
        documents: how many were read.
        tokens: how many they have.
        trained: how many of their tokens are trained.
        found: how many documents belong to a chat of the source.
        source: the chats; None without any.
        answers: for each chat that documents were made of, whether each answer is trained in one.
        faults: differences from the source, by code.
        suspects: faults of documents without a chat, which their tokens show, by code.
    """

    documents: int = 0
    tokens: int = 0
    trained: int = 0
    found: int = 0
    source: Source | None = None
    answers: dict[int, list[bool]] = field(default_factory=dict)
    faults: dict[str, Group] = field(default_factory=dict)
    suspects: dict[str, Group] = field(default_factory=dict)

    def add(self, read: Read, faults: Iterator[Fault], *, known: bool) -> None:
        """Add faults of a document, whose chat is known or not."""
        groups = self.faults if known else self.suspects
        for fault in faults:
            group = groups.setdefault(fault.code, Group())
            group.places += 1
            group.tokens += fault.stop - fault.start
            if not group.example:
                group.where, group.token = read.document.where, fault.start
                group.example, group.expected = list(_around(read, fault)), fault.expected


def check_tokens(files: Sequence[Place], chats: Sequence[str], options: Options) -> Findings:
    """Check files of tokens, and compare them with the chats that they were made of, if given.

    Raises:
        ReasonpackError: an input cannot be read.
    """
    context = load_context(options)
    context.check_template()
    reader = Reader(context)
    findings = Findings(source=read_source(chats, options, context) if chats else None)
    compared = Compared(findings.source, reader) if findings.source else None
    for document in chain.from_iterable(map(documents, files)):
        findings.tokens += len(document.ids)
        findings.trained += int(document.trained.sum())
        read = reader.read(document)
        chat = compared.find(read) if compared else None
        starts = _further_chats(read, chat, reader, compared)
        joined = (Fault("joined", at, at + 1) for at in starts if document.trained[at:].any())
        findings.add(read, joined, known=chat is not None)
        for part, own in _parts(read, chat, starts, reader, compared):
            findings.documents += 1
            if compared is None or own is None:
                findings.add(part, reader.suspects(part), known=False)
                continue
            findings.found += 1
            trained = compared.answers(part, own)
            before = findings.answers.get(own, trained)
            findings.answers[own] = [*map(or_, before, trained)]
            findings.add(part, compared.faults(part, own), known=True)
    return findings


def _further_chats(
    read: Read, chat: int | None, reader: Reader, compared: Compared | None
) -> list[int]:
    """Return the tokens at which further chats begin in a document, most of which is `chat`."""
    begins = set() if reader.begin is None else {*np.flatnonzero(read.document.ids == reader.begin)}
    if compared and chat is not None:
        begins |= {*compared.begins(read, chat)}
    # Of two such tokens in a row the second one is superfluous and begins no chat.
    return [int(at) for at in sorted(begins - {0}) if at - 1 not in begins]


def _parts(
    read: Read, chat: int | None, starts: Sequence[int], reader: Reader, compared: Compared | None
) -> Iterator[tuple[Read, int | None]]:
    """Divide a document at `starts`; yield each part and its chat, if known."""
    if not starts:
        yield read, chat
        return
    for start, stop in pairwise([0, *starts, len(read.document.ids)]):
        part = reader.read(read.document.part(start, stop))
        yield part, compared.find(part) if compared else None


def _around(read: Read, fault: Fault) -> Iterator[Run]:
    """Yield the text around a fault, divided where its two flags change."""
    trained, shown = read.document.trained, min(fault.stop, fault.start + SHOWN)
    tokens = range(max(0, fault.start - BEFORE), min(len(trained), shown + AFTER))

    def alike(token: int) -> tuple[bool, bool]:
        return bool(trained[token]), fault.start <= token < fault.stop

    for flags, run in groupby(tokens, alike):
        own = list(run)
        yield (read.words(own[0], own[-1] + 1), *flags)


def finding_lines(findings: Findings, *, colour: bool) -> Iterator[tuple[str, str]]:
    """Yield the findings as lines, each a label and a text."""
    read = f"{findings.documents:,} read, {count(findings.tokens, 'token')}"
    yield "documents", f"{read}, {findings.trained:,} trained"
    if source := findings.source:
        found = f"{findings.found:,} of the documents were made of them"
        yield "source", f"{count(len(source.chats), 'conversation')}; {found}"
        answers = sum(map(len, findings.answers.values()))
        if none := answers - sum(map(sum, findings.answers.values())):
            yield "", f"{none:,} of {count(answers, 'answer')} in these are trained in no document"
        if source.unread:
            yield "", f"{count(len(source.unread), 'record')} not read: {source.unread[0]}"
    for kind, groups in (("fault", findings.faults), ("suspect", findings.suspects)):
        for code, group in sorted(groups.items(), key=lambda item: -item[1].places):
            places = f"{count(group.places, 'place')}, {count(group.tokens, 'token')}"
            yield kind, f"{code}: {FAULTS[code]}: {places}"
            yield "", f"{printable(group.where)}, token {group.token}"
            yield "", "".join(_marked(*run, colour=colour) for run in group.example)
            if group.expected:
                yield "", f"expected there: {printable(group.expected)}"
    if not findings.faults and not findings.suspects:
        yield "sound", "nothing differs" if findings.source else "no fault that tokens alone show"


def _marked(text: str, trained: bool, fault: bool, *, colour: bool) -> str:
    """Mark a text that is trained or part of the fault: by «» and [[]], or by colour."""
    text = printable(text)
    if colour:
        style = "red" if fault else "green"
        plain = not trained and not fault
        return (
            text
            if plain
            else click.style(text, fg=style, bold=fault or None, underline=trained or None)
        )
    text = f"«{text}»" if trained else text
    return f"[[{text}]]" if fault else text


def findings_json(findings: Findings) -> dict[str, Any]:
    """Return the findings as values for JSON."""
    described: dict[str, Any] = {"ok": not findings.faults}
    described |= {
        name: getattr(findings, name) for name in ("documents", "tokens", "trained", "found")
    }
    if source := findings.source:
        described["source"] = {
            "conversations": len(source.chats),
            "unread": len(source.unread),
            "answers": sum(map(len, findings.answers.values())),
            "answers_trained": sum(map(sum, findings.answers.values())),
        }
    for kind in ("faults", "suspects"):
        groups = sorted(getattr(findings, kind).items())
        described[kind] = {
            code: {"meaning": FAULTS[code], **to_builtins(group)} for code, group in groups
        }
        for group in described[kind].values():
            group["example"] = "".join(_marked(*run, colour=False) for run in group["example"])
    return described
