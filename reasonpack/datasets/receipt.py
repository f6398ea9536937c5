"""What became of a work unit, as its receipt in the dataset says it: shard, rejects, counts."""

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
"""Kinds of notes that are counted each by itself."""
_NOTED = ("notes", "examples")
Natural = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
RejectPath = Annotated[str, msgspec.Meta(pattern=r"^receipts/\d{5,}\.rejects\.jsonl$")]
ShardPath = Annotated[
    str, msgspec.Meta(pattern=r"^data/[a-z0-9_]+-[0-9]{5,}-of-[0-9]{5,}\.(parquet|arrow)$")
]
"""Where a manifest may send a reader; anywhere else would be a way out of the dataset."""


@dataclass(slots=True)
class Counts:
    """What a shard or a dataset holds; adds up.

    `divided` conversations have several samples, `extra_samples` more than one each, and these
    repeat `extra_tokens`; `left_out` messages, by reason, have views that are too long. Of `pairs`
    of tokens one sees the other, which is what attention costs. `copies` of the conversations are
    of records that are packed more than once; `duplicates` are records that say what an earlier one
    does, and `not_taken` those that no share of an input and no sample takes. Of some kinds of
    `notes` there is one of the `examples`, the first in the order of their texts.
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
        """Add what another shard holds."""
        self.note(other.notes, other.examples)
        for name in self.__slots__:
            if name in _NOTED:
                continue
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                total = Counter(mine)
                total.update(theirs)
                setattr(self, name, dict(sorted(total.items())))
            else:
                setattr(self, name, mine + theirs)

    def flat(self) -> Counter[str]:
        """Write the counts in one table, where `tokens_by_kind.h` is one of the names; no notes."""
        table: Counter[str] = Counter()
        for name in (each.name for each in fields(self) if each.name not in _NOTED):
            value = getattr(self, name)
            entries = value if isinstance(value, dict) else {"": value}
            for key, number in entries.items():
                table[f"{name}.{key}" if key else name] = number
        return table

    @property
    def records(self) -> int:
        """How many records were read of the input."""
        return self.conversations - self.copies + self.duplicates + self.not_taken

    @property
    def incomplete(self) -> bool:
        """Whether something of the input was not packed; the run then ends with status 3."""
        return self.rejected > 0 or bool(self.left_out)

    @property
    def reasons(self) -> set[str]:
        """Why something of the input was not packed."""
        return {*self.rejects, *self.left_out}

    def note(self, notes: Mapping[str, int], examples: Mapping[str, str] | None = None) -> None:
        """Add what was noticed; names of fields come from the data, so that there may be many."""
        for note, number in notes.items():
            name = note if note in self.notes or len(self.notes) < MOST_NOTES else "more"
            self.notes[name] = self.notes.get(name, 0) + number
        self.notes = dict(sorted(self.notes.items()))
        for kind, said in (examples or {}).items():
            self.examples[kind] = min(said, self.examples.get(kind, said))
        self.examples = dict(sorted(self.examples.items()))


@dataclass(frozen=True, slots=True)
class Shard:
    """A published file of rows.

    Attributes:
        path: relative to the dataset.
        content_hash: of the values in it; see `reasonpack.rows.content_hash`.
    """

    path: ShardPath
    rows: Natural
    tokens: Natural
    bytes: Natural
    sha256: Sha256
    content_hash: Sha256

    @property
    def split(self) -> str:
        """The split that the rows are of."""
        return self.path.removeprefix("data/").partition("-")[0]

    @property
    def unit(self) -> int:
        """The number of the unit that it is of."""
        return int(self.path.split("-")[1])


@dataclass(frozen=True, slots=True)
class RejectFile:
    """What of a unit was not packed; one line a record or message, `path` within the dataset."""

    path: RejectPath
    lines: Natural
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one work unit.

    Attributes:
        unit: what was packed.
        plan_sha256: hash of the plan that the unit is of.
        shards: what it became, one for each split that it has rows for, that for training first.
        rejects: what could not be packed; None if all could.
        counts: what is in the shards.
        backend: what encoded the texts, with its version; no byte of a shard depends on it.
        backend_fault: why another did not that was to; None if none failed.
        sha256: of this receipt without its hash.
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
    """Name the shard of a unit.

    >>> shard_path(3, units=12, suffix="parquet")
    'data/train-00003-of-00012.parquet'
    """
    return f"data/{split}-{number:05d}-of-{units:05d}.{suffix}"


def receipt_path(number: int) -> str:
    """Name the receipt of a unit."""
    return f"receipts/{number:05d}.json"


def place_of(directory: Place, path: str) -> Place:
    """Return where a file of a dataset is, by its path in the manifest."""
    return join(directory, *path.split("/"))


def reject_path(number: int) -> str:
    """Name what of a unit was not packed."""
    return f"receipts/{number:05d}.rejects.jsonl"


def sealed(receipt: Receipt) -> Receipt:
    """Return a receipt with its own hash in it."""
    content = msgspec.json.encode(replace(receipt, sha256=""))
    return replace(receipt, sha256=hashlib.sha256(content).hexdigest())


def read_receipt(directory: Place, number: int) -> Receipt:
    """Read the receipt of a unit of a finished dataset, be it of before a unit had several shards.

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
    """Write any of the dataclasses here as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
