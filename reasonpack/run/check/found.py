"""Faults of many documents → counts by code, an example of each, and lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, pairwise
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

BEFORE, SHOWN, BEHIND = 12, 16, 6
"""Tokens of an example: before the fault, of it, and behind it."""
Run = tuple[str, bool, bool]
"""Text, whether it is trained, and whether it is the fault."""


class Group(Struct):
    """All faults of one code: places, their tokens, and the first of them."""

    places: int = 0
    tokens: int = 0
    where: str = ""
    token: int = 0
    example: list[Run] = field(default_factory=list)
    expected: str = ""


class Findings(Struct):
    """What is wrong with files of tokens.

    Attributes:
        documents: that were read.
        tokens: of these.
        trained: of these.
        found: documents whose chat is known.
        source: the chats; None without.
        faults: what differs from the source, by code.
        suspects: what tokens alone prove, by code.
    """

    documents: int = 0
    tokens: int = 0
    trained: int = 0
    found: int = 0
    source: Source | None = None
    faults: dict[str, Group] = field(default_factory=dict)
    suspects: dict[str, Group] = field(default_factory=dict)


def check_tokens(files: Sequence[Place], chats: Sequence[str], options: Options) -> Findings:
    """Compare files of tokens with the chats that they were made of, if there are such.

    Raises:
        ReasonpackError: something cannot be read.
    """
    context = load_context(options)
    reader = Reader(context)
    findings = Findings(source=read_source(chats, options, context) if chats else None)
    compared = Compared(findings.source, reader) if findings.source else None
    for document in chain.from_iterable(map(documents, files)):
        findings.tokens += len(document.ids)
        findings.trained += int(document.trained.sum())
        for read, chat in _chats_of(reader.read(document), reader, compared, findings):
            findings.documents += 1
            if compared and chat is not None:
                findings.found += 1
                _add(findings.faults, read, compared.faults(read, chat))
            else:
                _add(findings.suspects, read, reader.suspects(read))
    return findings


def _chats_of(
    read: Read, reader: Reader, compared: Compared | None, findings: Findings
) -> Iterator[tuple[Read, int | None]]:
    """Divide a document where further chats begin in it, which are faults; find each chat."""
    document = read.document
    chat = compared.find(read) if compared else None
    begins = set() if reader.begin is None else {*np.flatnonzero(document.ids == reader.begin)}
    if compared and chat is not None:
        begins |= {*compared.begins(read, chat)}
    # Of two such tokens side by side one is too much, and the second begins nothing.
    starts = [int(at) for at in sorted(begins - {0}) if at - 1 not in begins]
    if not starts:
        yield read, chat
        return
    trained = (Fault("joined", at, at + 1) for at in starts if document.trained[at:].any())
    _add(findings.suspects if chat is None else findings.faults, read, trained)
    for start, stop in pairwise([0, *starts, len(document.ids)]):
        part = reader.read(document.part(start, stop))
        yield part, compared.find(part) if compared else None


def _add(groups: dict[str, Group], read: Read, faults: Iterator[Fault]) -> None:
    for fault in faults:
        group = groups.setdefault(fault.code, Group())
        group.places += 1
        group.tokens += fault.stop - fault.start
        if not group.example:
            group.where, group.token = read.document.where, fault.start
            group.example, group.expected = list(_around(read, fault)), fault.expected


def _around(read: Read, fault: Fault) -> Iterator[Run]:
    """Yield the text around a fault in stretches that are alike."""
    trained, shown = read.document.trained, min(fault.stop, fault.start + SHOWN)
    tokens = range(max(0, fault.start - BEFORE), min(len(trained), shown + BEHIND))

    def alike(token: int) -> tuple[bool, bool]:
        return bool(trained[token]), fault.start <= token < fault.stop

    for flags, run in groupby(tokens, alike):
        own = list(run)
        yield (read.words(own[0], own[-1] + 1), *flags)


def finding_lines(findings: Findings, *, colour: bool) -> Iterator[tuple[str, str]]:
    """Yield what was found, as name and text."""
    read = f"{findings.documents:,} read, {count(findings.tokens, 'token')}"
    yield "documents", f"{read}, {findings.trained:,} trained"
    if source := findings.source:
        found = f"{findings.found:,} of the documents are of them"
        yield "source", f"{count(len(source.chats), 'conversation')}; {found}"
        answers = sum(source.found.values())
        if none := answers - len(source.trained):
            yield "", f"{none:,} of {count(answers, 'answer')} in these are trained nowhere"
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
        yield "sound", "nothing differs" if findings.source else "nothing that tokens alone prove"


def _marked(text: str, trained: bool, fault: bool, *, colour: bool) -> str:
    """Mark what is trained, and the fault, of the text around it."""
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
    """Describe what was found for a program."""
    described: dict[str, Any] = {"ok": not findings.faults}
    described |= {
        name: getattr(findings, name) for name in ("documents", "tokens", "trained", "found")
    }
    if source := findings.source:
        described["source"] = {
            "conversations": len(source.chats),
            "unread": len(source.unread),
            "answers": sum(source.found.values()),
            "answers_trained": len(source.trained),
        }
    for kind in ("faults", "suspects"):
        groups = sorted(getattr(findings, kind).items())
        described[kind] = {
            code: {"meaning": FAULTS[code], **to_builtins(group)} for code, group in groups
        }
        for group in described[kind].values():
            group["example"] = "".join(_marked(*run, colour=False) for run in group["example"])
    return described
