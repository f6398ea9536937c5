"""The calls of a sample → the tree that they make: which hangs where, and what was rewritten.

    call     prompt  shared  written
    0.0         410       0       55
    └ 0.0r      410     410       61  its prompt is in 0.0
    0.1         520     410       40  shows the answer of 0.0 otherwise
    └ 0.2       300      96       70  history rewritten at message 2, as 0.1 before it

A call that goes on with the one above stands below it: of several, the one with the latest call
that hangs on it. Any other is set in. All is read from the segments of the row: what two calls
have in common stands there once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct, to_builtins

from reasonpack.rows.group_forest import Joint
from reasonpack.show.message_view import SegmentTree, answers_of, begin_of, spans_of
from reasonpack.show.row import RowData
from reasonpack.show.terminal import shortened
from reasonpack.wording import count, printable

GOES_ON = ("continued", "otherwise")
ROLES = {1: "chosen", 2: "rejected"}
LONGEST_NAME = 60


class TreeCall(Struct, frozen=True):
    """A call in the tree of a sample.

    Attributes:
        call: its number in the row.
        parent: the call that it hangs on, by number; None for none.
        joint: how it does; `equal` where other calls train all that this one does.
        prompt: tokens that it saw.
        shared: tokens that it has in common with earlier calls.
        written: tokens of its answer.
        message: the first that differs from the parent's; −1 where that is not known.
    """

    call: int
    parent: int | None
    joint: Joint | Literal["equal"]
    prompt: int = 0
    shared: int = 0
    written: int = 0
    message: int = -1


def call_tree(row: RowData, sample: int) -> list[TreeCall]:
    """Return the calls of a sample in the order in which they were logged."""
    trained, tree = answers_of(row, sample), SegmentTree(row, sample)
    answers = {answer.call: answer for answer in trained}
    spans = spans_of((row, answer) for answer in trained)
    joins, found = _Joins(tree), list[TreeCall]()
    for number in (n for n, call in enumerate(row.calls) if call.sample == sample):
        if (answer := answers.get(number)) is None:
            found.append(TreeCall(number, None, "equal"))
            continue
        path = tree.path(int(answer.tokens[-1]))
        prompt = begin_of(tree.told(path), answer, spans)
        end = int(row.position_ids[answer.tokens[-1]]) + 1
        found.append(joins.join(number, path, answer.message, prompt, end))
    return found


class _Joins:
    """Which calls went by the segments of a sample, by their numbers."""

    def __init__(self, tree: SegmentTree) -> None:
        self.segments, self.originals = tree.segments, tree.originals
        self.passed: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.answered: dict[int, int] = {}

    def join(self, call: int, path: Sequence[int], answer: int, prompt: int, end: int) -> TreeCall:
        """Join the next call, of which the path to its last token is known."""
        ways = [self.originals.get(at, at) for at in path]
        common = next((n for n in reversed(range(len(path))) if ways[n] in self.passed), -1)
        shared = self.segments[path[common]].position_last + 1 if common >= 0 else 0
        last = ways[common]
        joint: Joint = "beginning"
        parent = self.passed[last] if common >= 0 else None
        if common >= 0 and shared >= prompt:
            joint = "known-prompt"
        elif common >= 0 and last in self.ended:
            joint, parent = "continued", self.ended[last]
        elif common >= 0 and last in self.answered:
            joint, parent = "otherwise", self.answered[last]
        elif common >= 0:
            joint = "rewritten"
        behind = self.segments[path[min(common + 1, len(path) - 1)]].message
        self._note(call, ways, answer, prompt)
        sizes = {"prompt": prompt, "shared": min(shared, end), "written": end - prompt}
        return TreeCall(
            call, parent, joint, **sizes, message=behind if joint == "rewritten" else -1
        )

    def _note(self, call: int, ways: Sequence[int], answer: int, prompt: int) -> None:
        header = len(ways)  # what the template writes before an answer is part of its message
        while header and self.segments[ways[header - 1]].message == answer >= 0:
            header -= 1
        begin = prompt
        if header < len(ways):
            begin = min(begin, self.segments[ways[header]].position_first)
        for at in ways:
            self.passed[at] = call
            if self.segments[at].position_last + 1 >= begin:
                self.answered[at] = call
        self.ended[ways[-1]] = call


def tree_lines(row: RowData, sample: int) -> Iterator[str]:
    """Draw the tree of a sample's calls; nothing where it has none."""
    calls = call_tree(row, sample)
    if not calls:
        return
    whole = sum(each.prompt + each.written for each in calls)
    length = row.samples[sample].length
    more = "over " if any(each.joint == "equal" for each in calls) else ""
    alone = f"{more}{count(whole, 'token')} one by one"
    yield f"{count(len(calls), 'call')}: {alone}, {length:,} as a tree"
    ordered = [*_in_order(calls)]
    branches = _branches([level for level, _ in ordered])
    drawn = [
        (branch + shortened(row.calls[each.call].id, LONGEST_NAME), each)
        for branch, (_, each) in zip(branches, ordered, strict=True)
    ]
    width = max(len("call"), *(len(name) for name, _ in drawn))
    yield f"  {'call':<{width}}  {'prompt':>9}  {'shared':>9}  {'written':>9}"
    for name, each in drawn:
        numbers = "  ".join(f"{n:>9,}" for n in (each.prompt, each.shared, each.written))
        yield f"  {name:<{width}}  {numbers}  {_said(row, each)}".rstrip()


def _in_order(calls: Sequence[TreeCall]) -> Iterator[tuple[int, TreeCall]]:
    """Yield calls depth first, each with how far it is set in."""
    below: dict[int | None, list[TreeCall]] = {}
    for each in calls:
        below.setdefault(each.parent, []).append(each)
    last = {each.call: each.call for each in calls}  # that hangs on it, of them all
    for each in reversed(calls):
        if each.parent is not None:
            last[each.parent] = max(last[each.parent], last[each.call])
    todo = [(0, each) for each in reversed(below.get(None, []))]
    while todo:
        level, each = todo.pop()
        yield level, each
        children = below.get(each.call, [])
        going_on = (child for child in children if child.joint in GOES_ON)
        on = max(going_on, key=lambda child: last[child.call], default=None)
        others = [(level + 1, child) for child in children if child is not on]
        todo += [*([(level, on)] if on else []), *reversed(others)]


def _branches(levels: Sequence[int]) -> list[str]:
    """Draw the branches before lines that are set in so far.

    >>> _branches([0, 1, 2, 1, 0, 1])
    ['', '├ ', '│ └ ', '└ ', '', '└ ']
    """
    drawn, open_ = list[str](), set[int]()  # levels at which another line follows
    for level in reversed(levels):
        above = "".join("│ " if each in open_ else "  " for each in range(1, level))
        drawn.append(above + ("├ " if level in open_ else "└ ") * (level > 0))
        open_ = {each for each in open_ if each < level} | {level}
    return drawn[::-1]


def _said(row: RowData, each: TreeCall) -> str:
    """Say how a call hangs on another, and what its answer is worth."""
    parent = printable(row.calls[each.parent].id[:LONGEST_NAME]) if each.parent is not None else ""
    at = f"message {each.message}" if each.message >= 0 else f"token {each.shared}"
    said = {
        "beginning": "",
        "known-prompt": f"its prompt is in {parent}",
        "continued": f"goes on where {parent} ends",
        "otherwise": f"shows the answer of {parent} otherwise",
        "rewritten": f"history rewritten at {at}, as {parent} before it",
        "equal": "others train all that it wrote",
    }[each.joint]
    call = row.calls[each.call]
    reward = "" if call.reward is None or math.isnan(call.reward) else f"reward {call.reward:g}"
    return ", ".join(filter(None, (said, ROLES.get(call.role, ""), reward)))


def tree_json(row: RowData, sample: int) -> list[dict[str, Any]]:
    """Describe the calls of a sample for a program; a parent by its id."""
    described = []
    for each in call_tree(row, sample):
        call = row.calls[each.call]
        parent = None if each.parent is None else row.calls[each.parent].id
        fields = {**to_builtins(each), "id": call.id, "parent": parent, "sample": sample}
        described.append({**fields, "role": call.role, "reward": call.reward})
    return described
