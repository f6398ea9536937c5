"""How many rows there are → which of them to show, drawn by hash: the same ones each time."""

from __future__ import annotations

import hashlib


def draw_rows(rows: int, most: int, *, seed: str) -> list[int]:
    """Draw at most `most` numbers of `rows` rows, in order; all where there are no more.

    What is drawn depends on the arguments alone, not on the machine or on the order of work.

    >>> draw_rows(3, 5, seed=""), draw_rows(1000, 3, seed="a")
    ([0, 1, 2], [132, 195, 248])
    """
    if rows <= most:
        return list(range(rows))
    found: set[int] = set()
    number = 0
    while len(found) < most:
        digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
        found.add(int.from_bytes(digest[:16], "big") % rows)
        number += 1
    return sorted(found)
