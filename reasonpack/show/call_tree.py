"""The calls of a sample → their tree: which call continues which, and what was rewritten.

    call     prompt  shared  written
    0.0         410       0       55
    └ 0.0r      410     410       61  its prompt is in 0.0
    0.1         520     410       40  shows the answer of 0.0 differently
    └ 0.2       300      96       70  history as in 0.1 before message 2, then rewritten

A call that continues another stands below it at the same level; of several, the one whose subtree
has the latest call. All others are indented. The tree is read from the row's segments, which hold
once what calls share.
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
        parent: the number of the call that it is attached to; None without one.
        joint: how it is attached; `equal` if other calls train all its tokens.
        prompt: tokens of its prompt.
        shared: leading tokens that it shares with earlier calls.
        written: tokens of its answer.
        message: the first message that differs from the parent's; −1 if that is not known.
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
        prompt = begin_of(tree.resolved(path), answer, spans)
        end = int(row.position_ids[answer.tokens[-1]]) + 1
        found.append(joins.join(number, path, answer.message, prompt, end))
    return found


class _Joins:
    """The calls joined so far: by segment, the last that passed it, ended or answered there."""

    def __init__(self, tree: SegmentTree) -> None:
        self.segments, self.originals = tree.segments, tree.originals
        self.passed: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.answered: dict[int, int] = {}

    def join(self, call: int, path: Sequence[int], answer: int, prompt: int, end: int) -> TreeCall:
        """Return the next call, attached to the tree.

        `path` are the segments up to its last token, `answer` the message that it wrote, `prompt`
        the tokens of its prompt, `end` those of its whole view.
        """
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
    """Yield lines that draw the tree of a sample's calls; none without calls."""
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
        yield f"  {name:<{width}}  {numbers}  {_described(row, each)}".rstrip()


def _in_order(calls: Sequence[TreeCall]) -> Iterator[tuple[int, TreeCall]]:
    """Yield (level of indentation, call), depth first."""
    below: dict[int | None, list[TreeCall]] = {}
    for each in calls:
        below.setdefault(each.parent, []).append(each)
    last = {each.call: each.call for each in calls}  # latest call in each subtree
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
    """Return the branch characters in front of lines with these levels of indentation.

    >>> _branches([0, 1, 2, 1, 0, 1])
    ['', '├ ', '│ └ ', '└ ', '', '└ ']
    """
    drawn, open_ = list[str](), set[int]()  # levels at which another line follows
    for level in reversed(levels):
        above = "".join("│ " if each in open_ else "  " for each in range(1, level))
        drawn.append(above + ("├ " if level in open_ else "└ ") * (level > 0))
        open_ = {each for each in open_ if each < level} | {level}
    return drawn[::-1]


def _described(row: RowData, each: TreeCall) -> str:
    """Describe how a call is attached to another, its role and its reward."""
    parent = printable(row.calls[each.parent].id[:LONGEST_NAME]) if each.parent is not None else ""
    at = f"message {each.message}" if each.message >= 0 else f"token {each.shared}"
    said = {
        "beginning": "",
        "known-prompt": f"its prompt is in {parent}",
        "continued": f"continues {parent}",
        "otherwise": f"shows the answer of {parent} differently",
        "rewritten": f"history as in {parent} before {at}, then rewritten",
        "equal": "others train all that it wrote",
    }[each.joint]
    call = row.calls[each.call]
    reward = "" if call.reward is None or math.isnan(call.reward) else f"reward {call.reward:g}"
    return ", ".join(filter(None, (said, ROLES.get(call.role, ""), reward)))


def tree_json(row: RowData, sample: int) -> list[dict[str, Any]]:
    """Return the calls of a sample as JSON objects; a parent is given by its id."""
    described = []
    for each in call_tree(row, sample):
        call = row.calls[each.call]
        parent = None if each.parent is None else row.calls[each.parent].id
        fields = {**to_builtins(each), "id": call.id, "parent": parent, "sample": sample}
        described.append({**fields, "role": call.role, "reward": call.reward})
    return described
