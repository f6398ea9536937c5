"""Counted rejects, and the files that hold them → the lines that say what was not packed, and why.

rejected       4 role: an unknown role, or a field that messages of this role cannot have
               chats.jsonl:10: messages[0].role: got 'nobody', expected one of … Fix: …
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

import click
from msgspec import Struct

from reasonpack.datasets.manifest import REJECTS
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import NothingPackedError
from reasonpack.records.conversation import REASONS
from reasonpack.show.text import columns
from reasonpack.storage.place import Place, file_names, join, stamp
from reasonpack.storage.read import open_bytes
from reasonpack.wording import printable

WORDS: Mapping[str, str] = {
    **REASONS,
    "overlong": "a conversation longer than the limits allow",
    "template": "messages that the chat template refuses, or fails on",
    "view": "an answer that cannot be had exactly as the model wrote it",
    "stop-token": "a text that holds the token with which the model stops",
    "missing-reasoning": "an answer without reasoning where the template makes the model reason",
    "nothing-to-train": "no assistant message that is to be trained",
    "column": "a value without a column in the dataset, or a column without a value",
    "vocabulary": "a token id that the tokenizer does not have",
    "over-max-length": "a message whose view is longer than a row",
    "over-max-position": "a message whose view is longer than the model can attend over",
}
"""What the reason codes of rejects, and of messages left out, mean."""


class Rejected(Struct, frozen=True):
    """What was not packed for one reason: how much, what that means, and one error or none.

    `kind` is `rejected` for records and `left out` for messages of records that were packed.
    """

    reason: str
    count: int
    words: str
    example: str
    kind: str = "rejected"


def rejected(counts: Counts, first: Mapping[str, str]) -> Iterator[Rejected]:
    """Yield what was not packed by reason, records first, of these the most frequent first.

    `first` has one error of each reason, with its place; none are shown of those without.
    """
    for kind, reasons in (("rejected", counts.rejects), ("left out", counts.left_out)):
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            example = printable(first.get(reason, ""))
            yield Rejected(reason, count, WORDS.get(reason, ""), example, kind)


def reject_lines(
    counts: Counts, first: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a table of rejects, as name and text; see `rejected`."""
    for each in rejected(counts, first):
        words = f": {each.words}" if each.words else ""
        yield each.kind, f"{each.count:,} {each.reason}{words}"
        if each.example:
            yield "", each.example


@contextlib.contextmanager
def rejects_told(output: Place) -> Iterator[None]:
    """Write the table of rejects to standard error where a run ends without anything packed."""
    try:
        yield
    except NothingPackedError as error:
        if error.rejects:
            counts = Counts(rejects=error.rejects)
            first = examples([join(output, REJECTS)], counts.reasons)
            click.echo(columns(reject_lines(counts, first)), err=True)
        raise


def examples(places: Iterable[Place], reasons: Iterable[str]) -> dict[str, str]:
    """Find the first error of each reason in files of rejects."""
    found: dict[str, str] = {}
    wanted = set(reasons)
    for reason, error in chain.from_iterable(map(each_reject, places)) if wanted else ():
        found.setdefault(reason, error)
        if wanted <= found.keys():
            break
    return found


def each_reject(place: Place) -> Iterator[tuple[str, str]]:
    """Yield reason and error of each reject in a file; none where there is no file."""
    if not stamp(place):
        return
    # Arrow's own file has no lines.
    with open_bytes(place, "plain") as file, io.BufferedReader(file) as lines:
        for line in lines:
            reject = json.loads(line)
            yield reject["reason"], reject["error"]


def part_of_rejects(output: Place, index: int, count: int) -> list[Place]:
    """List the files of rejects of one part of a run."""
    directory = join(output, "receipts")
    return [
        join(directory, name)
        for name in file_names(directory)
        if name.endswith(".rejects.jsonl") and int(name.partition(".")[0]) % count == index
    ]
