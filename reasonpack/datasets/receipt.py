"""The receipt of a work unit: its shards, the file of its rejects, and counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

import msgspec

from reasonpack.datasets.options import TRAIN
from reasonpack.errors import FormatError
from reasonpack.records.unit import Unit
from reasonpack.rows.kind import KindLabel
from reasonpack.storage.place import Place, join, public_name
from reasonpack.storage.read import read_bytes

MOST_NOTES = 100
"""How many kinds of notes are counted; further ones are counted together, as `more`."""
_NOTED = ("notes", "examples")
Natural = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
RejectPath = Annotated[str, msgspec.Meta(pattern=r"^receipts/\d{5,}\.rejects\.jsonl$")]
ShardPath = Annotated[
    str, msgspec.Meta(pattern=r"^data/[a-z0-9_]+-[0-9]{5,}-of-[0-9]{5,}\.(parquet|arrow)$")
]
"""The paths that a manifest may name; another path might lead out of the dataset."""


@dataclass(slots=True)
class Counts:
    """Counts of a unit or a dataset, which can be added up.

    `divided` counts conversations with several samples, `extra_samples` their samples beyond the
    first of each, and `extra_tokens` the tokens that these repeat. `left_out` counts messages whose
    views are too long, by reason. `pairs` counts pairs of a token and a token that it sees, the
    cost of attention. For a record that is packed several times, `copies` counts the conversations
    beyond the first. `duplicates` counts records equal to an earlier one, `not_taken` records
    outside the share of their input or the sample. `examples` has for some kinds of `notes` the
    first example in the order of their texts.
    """

    conversations: Natural = 0
    packed: Natural = 0
    rejected: Natural = 0
    samples: Natural = 0
    views: Natural = 0
    missing_reasoning: Natural = 0
    rows: Natural = 0
    tokens: Natural = 0
    trained_tokens: Natural = 0
    npass_tokens: Natural = 0
    naive_tokens: Natural = 0
    divided: Natural = 0
    extra_samples: Natural = 0
    extra_tokens: Natural = 0
    pairs: Natural = 0
    copies: Natural = 0
    duplicates: Natural = 0
    not_taken: Natural = 0
    tokens_by_kind: dict[KindLabel, Natural] = field(default_factory=dict)
    rejects: dict[str, Natural] = field(default_factory=dict)
    left_out: dict[str, Natural] = field(default_factory=dict)
    notes: dict[str, Natural] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add the counts of another unit."""
        self.note(dict(sorted(other.notes.items())), other.examples)
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name in _NOTED:
                setattr(self, name, dict(sorted(mine.items())))
            elif isinstance(mine, dict):
                total = Counter(mine)
                total.update(theirs)
                setattr(self, name, dict(sorted(total.items())))
            else:
                setattr(self, name, mine + theirs)

    def flat(self) -> Counter[str]:
        """Return all counts but notes in one table, with names such as `tokens_by_kind.h`."""
        table: Counter[str] = Counter()
        for name in (each.name for each in fields(self) if each.name not in _NOTED):
            value = getattr(self, name)
            entries = value if isinstance(value, dict) else {"": value}
            for key, number in entries.items():
                table[f"{name}.{key}" if key else name] = number
        return table

    @property
    def records(self) -> int:
        """How many records were read from the input."""
        return self.conversations - self.copies + self.duplicates + self.not_taken

    @property
    def incomplete(self) -> bool:
        """Whether some input was not packed; the run then ends with exit status 3."""
        return self.rejected > 0 or bool(self.left_out)

    @property
    def reasons(self) -> set[str]:
        """The reasons why some input was not packed."""
        return {*self.rejects, *self.left_out}

    def note(self, notes: Mapping[str, int], examples: Mapping[str, str] | None = None) -> None:
        """Add notes, except zeros; names of fields are in them, so their kinds are limited.

        They are sorted when the counts are added to others.
        """
        for note, number in notes.items():
            if number:
                name = note if note in self.notes or len(self.notes) < MOST_NOTES else "more"
                self.notes[name] = self.notes.get(name, 0) + number
        for kind, said in (examples or {}).items():
            self.examples[kind] = min(said, self.examples.get(kind, said))


@dataclass(frozen=True, slots=True)
class Shard:
    """A published file of rows.

    Attributes:
        path: path within the dataset.
        content_hash: hash of the values in it; see `reasonpack.rows.content_hash`.
    """

    path: ShardPath
    rows: Natural
    tokens: Natural
    bytes: Natural
    sha256: Sha256
    content_hash: Sha256

    @property
    def split(self) -> str:
        """The split that the rows belong to."""
        return self.path.removeprefix("data/").partition("-")[0]

    @property
    def unit(self) -> int:
        """The number of the unit that it was packed from."""
        return int(self.path.split("-")[1])


@dataclass(frozen=True, slots=True)
class RejectFile:
    """A file of what was not packed: a record or message per line; `path` is within the dataset."""

    path: RejectPath
    lines: Natural
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of one work unit.

    Attributes:
        unit: the part of the input that was packed.
        plan_sha256: hash of the plan that the unit belongs to.
        shards: one for each split that it has rows for, the training split first.
        rejects: the file of what could not be packed; None if everything could.
        counts: what was read, packed and rejected.
        backend: name and version of what encoded the texts; no byte of a shard depends on it.
        backend_fault: why a backend that should have encoded did not; None if none failed.
        sha256: hash of this receipt without this field.
    """

    unit: Unit
    plan_sha256: Sha256
    shards: Annotated[list[Shard], msgspec.Meta(min_length=1)]
    rejects: RejectFile | None
    counts: Counts
    backend: str = ""
    backend_fault: str | None = None
    sha256: str = ""


def shard_path(number: int, *, units: int, suffix: str, split: str = TRAIN) -> str:
    """Return the path of a shard of a unit, within the dataset.

    >>> shard_path(3, units=12, suffix="parquet")
    'data/train-00003-of-00012.parquet'
    """
    return f"data/{split}-{number:05d}-of-{units:05d}.{suffix}"


def receipt_path(number: int) -> str:
    """Return the path of the receipt of a unit, within the dataset."""
    return f"receipts/{number:05d}.json"


def place_of(directory: Place, path: str) -> Place:
    """Return the place of a file of a dataset, given its path within the dataset."""
    return join(directory, *path.split("/"))


def reject_path(number: int) -> str:
    """Return the path of the rejects of a unit, within the dataset."""
    return f"receipts/{number:05d}.rejects.jsonl"


def sealed(receipt: Receipt) -> Receipt:
    """Return a receipt with its own hash filled in."""
    content = msgspec.json.encode(replace(receipt, sha256=""))
    return replace(receipt, sha256=hashlib.sha256(content).hexdigest())


def read_receipt(directory: Place, number: int) -> Receipt:
    """Read the receipt of a unit of a finished dataset; an older one may name a single `shard`.

    Raises:
        FormatError: there is none, or it is damaged.
    """
    place = place_of(directory, receipt_path(number))
    content = read_bytes(place)
    try:
        found = msgspec.json.decode(content or b"")
        if isinstance(found, dict) and "shard" in found:
            found["shards"] = [found.pop("shard")]
        return msgspec.convert(found, Receipt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = "no such file" if content is None else error
        fix = "copy the dataset again from where it was packed"
        raise FormatError(public_name(place), what, "a receipt", fix) from error


def as_json(value: Any) -> str:
    """Return a dataclass of this folder as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
