"""Lengths of samples → which samples share a row: best-fit decreasing, integers only.

    lengths [5, 3, 2, 4], row of 8   →   [[0, 1], [2, 3]]

Longest first, each sample goes into the fullest row that still has room for it, or
opens a new one. Remaining room is an integer of at most `max_length`, so the rows are
kept in buckets by their room, and a tree over the buckets finds the smallest room that
is large enough: O(n log max_length) time, O(n + max_length) memory. The result depends
on the lengths alone.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Pack samples into rows of at most `max_length` tokens.

    Args:
        lengths: tokens of each sample; none above `max_length`.
        max_length: tokens in a row.

    Returns:
        Rows of indices into `lengths`. Each index occurs once; indices ascend within
        a row, and rows are ordered by their first index, so that rows keep the order
        of the input as far as packing allows.

    Raises:
        ValueError: a sample is longer than a row.

    >>> pack([5, 3, 2, 4], 8)
    [[0, 1], [2, 3]]
    >>> pack([5, 3, 2, 4], 7)
    [[0, 2], [1, 3]]
    """
    if max(lengths, default=0) > max_length:
        raise ValueError(f"a sample of {max(lengths)} tokens, expected at most {max_length}")
    max_length = min(max_length, sum(lengths))  # no row can hold more
    rooms = _Rooms(max_length)
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        row, room = rooms.take(length)
        if row is None:
            row, room = len(rows), max_length
            rows.append([])
        rows[row].append(index)
        rooms.put(row, room - length)
    for members in rows:
        members.sort()
    return sorted(rows)


class _Rooms:
    """Rows by the room left in them; finds the least room that is enough."""

    def __init__(self, largest: int) -> None:
        self._leaves = 1 << largest.bit_length()
        # A complete binary tree: node i has children 2i and 2i+1, leaf `room` stands
        # at index leaves + room; each node counts the rows below it.
        self._counts = [0] * (2 * self._leaves)
        self._rows: dict[int, list[int]] = {}

    def put(self, row: int, room: int) -> None:
        self._rows.setdefault(room, []).append(row)
        self._add(room, 1)

    def take(self, room: int) -> tuple[int | None, int]:
        """Remove a row with the least room of at least `room`; return it and its room."""
        node = self._leaves + room
        if not self._counts[node]:
            node = self._next(node)
        if not node:
            return None, 0
        found = node - self._leaves
        row = self._rows[found].pop()
        self._add(found, -1)
        return row, found

    def _next(self, node: int) -> int:
        """Return the first leaf after `node` that holds a row, 0 if there is none."""
        while node > 1 and (node & 1 or not self._counts[node + 1]):
            node >>= 1
        if node <= 1:
            return 0
        node += 1
        while node < self._leaves:
            node *= 2
            if not self._counts[node]:
                node += 1
        return node

    def _add(self, room: int, change: int) -> None:
        node = self._leaves + room
        while node:
            self._counts[node] += change
            node >>= 1
