"""Checks the order of shuffled rows, by the seed and the place of each sample in the source.

    keys of the rows of each unit ── sorted ──▶ unit 2, row 5 │ unit 0, row 1 │ unit 2, row 0 │ …
    rows of a split, as they stand ───────────▶ unit 2        │ unit 0        │ unit 2        │ …

Two checks: each row belongs to the unit with the next key, and the rows of a unit, sorted back, are
in the order of their first samples. Memory is the ids of all samples.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np

from reasonpack.datasets.manifest import Manifest
from reasonpack.verify.findings import Findings
from reasonpack.verify.shards import CheckedRow

UNKNOWN = "the order of shuffled rows"
"""Entry of `Findings.taken` if the source does not tell the place of every sample."""


class Order:
    """The place of each conversation in the source, and the rows of each split in order.

    Attributes:
        unit: number of the unit whose records are being read.
    """

    def __init__(self) -> None:
        self.unit = 0
        self._places: dict[str, tuple[int, int] | None] = {}
        self._rows: dict[str, list[tuple[str, int, list[str]]]] = defaultdict(list)

    def add_conversation(self, id_: str) -> None:
        """Add the next conversation or group of the source."""
        place = (self.unit, len(self._places))
        self._places[id_] = None if id_ in self._places else place

    def add_row(self, checked: CheckedRow) -> None:
        """Add the next row of the dataset."""
        split = checked.shard.removeprefix("data/").partition("-")[0]
        self._rows[split].append((checked.shard, checked.number, checked.row.sample_id))

    def check(self, manifest: Manifest, findings: Findings) -> None:
        """Compare the order of all rows with the order that the seed gives."""
        packed = [ids or [""] for rows in self._rows.values() for _, _, ids in rows]
        if manifest.sources or any(self._places.get(id_) is None for ids in packed for id_ in ids):
            findings.taken.append(UNKNOWN)
            return
        for split in self._rows:
            self._check(split, manifest.options.seed, findings)

    def _check(self, split: str, seed: int, findings: Findings) -> None:
        rows = self._rows[split]
        places = [[self._places[id_] or (0, 0) for id_ in ids] for _, _, ids in rows]
        before: dict[tuple[int, int], int] = {}
        drawn = _drawn(split, seed, Counter(place[0][0] for place in places))
        for at, (key, unit, number) in enumerate(drawn):
            shard, row, _ = rows[at]
            _, bucket, _, buckets = shard.partition(".")[0].split("-")
            least, most = ((int(bucket) + more << 64) // int(buckets) for more in (0, 1))
            if {place[0] for place in places[at]} != {unit} or not least <= key < most:
                what = f"a row of unit {places[at][0][0]}, expected one of unit {unit}, "
                what += "with a key that is of this shard"
                findings.report("RP318", shard, what, row)
                return
            before[unit, number] = at
        order = [before[each] for each in sorted(before)]
        for one, two in pairwise(order):
            if places[one][0] > places[two][0]:
                what = f"a row that the source has before row {rows[one][1]}, expected a later one"
                findings.report("RP318", rows[two][0], what, rows[two][1])
                return


def _drawn(split: str, seed: int, counts: Counter[int]) -> list[tuple[int, int, int]]:
    """Return key, unit and number within the unit of all rows of a split, sorted by key."""
    drawn = []
    for unit, count in counts.items():
        generator = np.random.PCG64([seed, zlib.crc32(split.encode()), unit])
        drawn += [(int(generator.random_raw()), unit, number) for number in range(count)]
    return sorted(drawn)
