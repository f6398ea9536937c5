"""Counts and files of rejects → lines that say what was not packed, and why.

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
    "view": "an answer that the template cannot show exactly as the model wrote it",
    "stop-token": "a text that holds the token with which the model stops",
    "missing-reasoning": "an answer without reasoning where the template makes the model reason",
    "nothing-to-train": "no assistant message that is to be trained",
    "column": "a value without a column in the dataset, or a column without a value",
    "vocabulary": "a token id that the tokenizer does not have",
    "over-max-length": "a message whose view is longer than a row",
    "over-max-position": "a message whose view is longer than the model can attend over",
}
"""What each reason code of rejects, and of messages left out, means."""


class Rejected(Struct, frozen=True):
    """How many records or messages were not packed for one reason, with an error as example.

    `words` explain the reason. `kind` is `rejected` for records, `left out` for messages of packed
    records.
    """

    reason: str
    count: int
    words: str
    example: str
    kind: str = "rejected"


def rejected(counts: Counts, first: Mapping[str, str]) -> Iterator[Rejected]:
    """Yield what was not packed: reasons of records, then of messages, most frequent first.

    `first`: reason → an error to show, with its place; a reason may be missing.
    """
    for kind, reasons in (("rejected", counts.rejects), ("left out", counts.left_out)):
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            example = printable(first.get(reason, ""))
            yield Rejected(reason, count, WORDS.get(reason, ""), example, kind)


def reject_lines(
    counts: Counts, first: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a table of rejects as (name, text); see `rejected`."""
    for each in rejected(counts, first):
        words = f": {each.words}" if each.words else ""
        yield each.kind, f"{each.count:,} {each.reason}{words}"
        if each.example:
            yield "", each.example


@contextlib.contextmanager
def rejects_told(output: Place) -> Iterator[None]:
    """Write the table of rejects to standard error if the block ends with nothing packed."""
    try:
        yield
    except NothingPackedError as error:
        if error.rejects:
            counts = Counts(rejects=error.rejects)
            first = examples([join(output, REJECTS)], counts.reasons)
            click.echo(columns(reject_lines(counts, first)), err=True)
        raise


def examples(places: Iterable[Place], reasons: Iterable[str]) -> dict[str, str]:
    """Return the first error of each reason in files of rejects."""
    found: dict[str, str] = {}
    wanted = set(reasons)
    for reason, error in chain.from_iterable(map(each_reject, places)) if wanted else ():
        found.setdefault(reason, error)
        if wanted <= found.keys():
            break
    return found


def each_reject(place: Place) -> Iterator[tuple[str, str]]:
    """Yield (reason, error) of each reject in a file; nothing if the file is missing."""
    if not stamp(place):
        return
    # Arrow's file object cannot be read by lines.
    with open_bytes(place, "plain") as file, io.BufferedReader(file) as lines:
        for line in lines:
            reject = json.loads(line)
            yield reject["reason"], reject["error"]


def part_of_rejects(output: Place, index: int, count: int) -> list[Place]:
    """Return the files of rejects of part `index` of a run that has `count` parts."""
    directory = join(output, "receipts")
    return [
        join(directory, name)
        for name in file_names(directory)
        if name.endswith(".rejects.jsonl") and int(name.partition(".")[0]) % count == index
    ]
