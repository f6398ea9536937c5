"""Lengths and costs of samples → which samples share a row, computed with integers only.

    lengths [5, 3, 2, 4], row of 8       best_fit     [[0, 1], [2, 3]]
                                         in_sequence  [[0, 1], [2, 3]]

`best_fit` takes the largest sample first; each goes into the fullest row that still has room for
it, or opens a new row. `in_sequence` keeps the order; each sample goes into the row of the one
before it, or opens a new row.

With `max_cost`, the costs of the samples in a row add up to at most that. A sample that costs more
has a row to itself.

Rows are kept by the room left in them, and a tree over the rooms finds the smallest that is large
enough: O(n log max_length) time, O(n + max_length) memory. The result depends on lengths and costs
alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(
    lengths: Sequence[int],
    max_length: int,
    *,
    costs: Sequence[int] = (),
    max_cost: int | None = None,
) -> list[list[int]]:
    """Pack samples into rows of at most `max_length` tokens, and of `max_cost` unless it is None.

    Without `max_cost`, `costs` are ignored.

    Returns:
        Rows of indices into `lengths`. Each index occurs once; indices ascend within
        a row, and rows are ordered by their first index, so that rows keep the order
        of the input as far as packing allows.

    Raises:
        ValueError: a sample is longer than a row.

    >>> best_fit([5, 3, 2, 4], 8), best_fit([5, 3, 2, 4], 8, costs=[9, 6, 3, 8], max_cost=14)
    ([[0, 1], [2, 3]], [[0, 2], [1, 3]])
    """
    _check(lengths, max_length)
    max_length = min(max_length, sum(lengths))  # no row can hold more
    costs, most = (costs, max_cost) if max_cost is not None else ([0] * len(lengths), 1)

    def size(index: int) -> int:
        """Return the share of a row that a sample takes, in units of 1 / (max_length * most)."""
        return max(lengths[index] * most, costs[index] * max_length)

    rooms = _Rooms(max_length)
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-size(index), index)):
        length, cost = lengths[index], costs[index]
        row, room, left = rooms.take(length, cost)
        if row is None:
            row, room, left = len(rows), max_length, most
            rows.append([])
        rows[row].append(index)
        if left >= cost:
            rooms.put(row, room - length, left - cost)
    for members in rows:
        members.sort()
    return sorted(rows)


def in_sequence(
    lengths: Sequence[int],
    max_length: int,
    *,
    costs: Sequence[int] = (),
    max_cost: int | None = None,
) -> list[list[int]]:
    """Pack samples into rows in the order of the input; see `best_fit`.

    >>> in_sequence([5, 4, 2, 8, 1], 8)
    [[0], [1, 2], [3], [4]]
    """
    _check(lengths, max_length)
    costs, most = (costs, max_cost) if max_cost is not None else ([0] * len(lengths), 0)
    rows: list[list[int]] = []
    room, left = 0, most
    for index, (length, cost) in enumerate(zip(lengths, costs, strict=True)):
        if not rows or length > room or cost > left:
            rows.append([])
            room, left = max_length, most
        rows[-1].append(index)
        room, left = room - length, left - cost
    return rows


def _check(lengths: Sequence[int], max_length: int) -> None:
    if max(lengths, default=0) > max_length:
        raise ValueError(f"a sample of {max(lengths)} tokens, expected at most {max_length}")


class _Rooms:
    """Rows by the room and the cost left in them; finds the row with the least room that suffices.

    A complete binary tree: node i has children 2i and 2i+1, leaf `room` has the index
    leaves + room; each node has the largest cost left in any row below it, −1 for no row.
    """

    def __init__(self, largest: int) -> None:
        self._leaves = 1 << largest.bit_length()
        self._most = [-1] * (2 * self._leaves)
        self._rows: dict[int, list[tuple[int, int, int]]] = {}
        self._turn = 0

    def put(self, row: int, room: int, left: int) -> None:
        self._turn += 1
        insort(self._rows.setdefault(room, []), (left, self._turn, row))
        self._update(room)

    def take(self, room: int, cost: int) -> tuple[int | None, int, int]:
        """Remove the row with the least room that has at least `room` and `cost` left.

        Returns:
            The row, its room and its cost left; None, 0 and 0 if there is no such row.
        """
        node = self._leaves + room
        if self._most[node] < cost:
            node = self._next_leaf(node, cost)
        if not node:
            return None, 0, 0
        found = node - self._leaves
        rows = self._rows[found]
        left = rows[bisect_left(rows, (cost,))][0]
        _, _, row = rows.pop(bisect_left(rows, (left + 1,)) - 1)  # of equals, the last put
        self._update(found)
        return row, found, left

    def _next_leaf(self, node: int, cost: int) -> int:
        """Return the first leaf after `node` with a row that has `cost` left; 0 if none has."""
        while node > 1 and (node & 1 or self._most[node + 1] < cost):
            node >>= 1
        if node <= 1:
            return 0
        node += 1
        while node < self._leaves:
            node *= 2
            if self._most[node] < cost:
                node += 1
        return node

    def _update(self, room: int) -> None:
        rows, node = self._rows[room], self._leaves + room
        most = rows[-1][0] if rows else -1
        while node and self._most[node] != most:
            self._most[node] = most
            most = max(most, self._most[node ^ 1])
            node >>= 1
