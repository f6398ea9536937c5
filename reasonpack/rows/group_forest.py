"""The calls of a group, added one at a time → a token forest that keeps each prefix once.

    call 1   h1 A a1            h1 A ─┬─ a1 ── h2 A ── a2
    call 2   h1 A a1 h2 A a2          └─ b1
    call 3   h1 A b1

A call joins the tree at the end of the longest prefix, token by token, that it shares with any
earlier call; it does not have to extend the last prompt. Memory grows with the distinct tokens of
the group.

Equal tokens that two calls train are one branch: their weights are added up, and their other values
are those of the first call that trains them. With `apart`, for calls whose values cannot be added
up, no token is trained by two calls: a call gets a branch of its own from the first token that it
and an earlier call both train. This branch begins with the same token as its sibling, its "twin".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import ROOT, common_prefix, joined_views
from reasonpack.rows.forest import Forest
from reasonpack.rows.optional_columns import FILLS

I32 = NDArray[np.int32]
Joint = Literal["beginning", "known-prompt", "continued", "otherwise", "rewritten"]
"""How a call joins earlier calls: it has no first token in common with them; they hold all of its
prompt; its prompt continues where one of them ends; its prompt departs from one of them within that
call's answer; or it departs within the history."""


class CallView(Struct, frozen=True, kw_only=True):
    """The view of a call, as tokens.

    Attributes:
        call: index of the call in the group.
        tokens: i32[n], prompt and completion.
        prompt: how many tokens the prompt has; at least one.
        header: index in the prompt where the message begins that the completion continues.
        trained: bool[n − prompt], which tokens of the completion are trained; at least one.
        runs: runs of tokens, as (one past the last, kind, message); they tile the tokens after
            those that the call is sure to share with an earlier one. A run that ends no later than
            an earlier one is empty.
        weight: loss weight of the call, more than 0.
        values: optional columns by name, [n − prompt] each; the same in all views of a group.
    """

    call: int
    tokens: I32
    prompt: int
    header: int
    trained: NDArray[np.bool_]
    runs: Sequence[tuple[int, int, int]]
    weight: float = 1.0
    values: Mapping[str, NDArray[Any]]

    @property
    def first_trained(self) -> int:
        """Depth of the first trained token."""
        return self.prompt + int(self.trained.argmax())


class Joined(Struct, frozen=True):
    """How a call was joined to earlier calls, and how many leading tokens they share."""

    joint: Joint
    depth: int


class _Branch(Struct):
    """The tokens that a view adds to the tree, from the depth `at` on.

    Attributes:
        answer: which of them are part of an answer, or of the template text that begins its
            message.
        columns: by name, for each of them: `kind`, `message`, `call`; over all calls, whether it is
            `trained`, and its `weight`; optional columns.
    """

    parent: int
    at: int
    end: int
    tokens: I32
    answer: NDArray[np.bool_]
    columns: dict[str, NDArray[Any]]


class GroupForest:
    """The tree of a group, to which calls are added in order.

    Args:
        apart: let no token be trained by two calls.
    """

    def __init__(self, *, apart: bool) -> None:
        self.apart = apart
        self._branches: list[_Branch] = []
        self._below: dict[tuple[int, int], dict[int, int]] = {}
        self._twins: dict[int, list[tuple[int, int]]] = {}  # (depth, twin) by parent
        self._answers: set[tuple[int, int]] = set()
        self._ends: set[tuple[int, int]] = set()
        self._last = np.zeros(0, np.int32)  # the tokens of the last view added

    def __len__(self) -> int:
        """Return how many calls were added."""
        return len(self._branches)

    def add(self, view: CallView) -> Joined:
        """Join the next call to the tree."""
        branch, depth = self._longest_prefix(view)
        joint = self._joint(view, branch, depth)
        number, end = len(self._branches), len(view.tokens)
        begin = min(depth, view.first_trained)
        columns = _columns(view, begin)
        own = _Branch(
            branch,
            depth,
            end,
            tokens=view.tokens[depth:].copy(),
            answer=np.zeros(end - depth, bool),
            columns={name: column[depth - begin :].copy() for name, column in columns.items()},
        )
        self._branches.append(own)
        if depth < end:
            self._attach(number, branch, depth)
        self._train_above(own, columns, begin)
        self._mark_answer(view, number)
        self._ends.add((self._owner(number, end), end))
        self._last = view.tokens
        return Joined(joint, depth)

    def finish(self) -> Forest:
        """Return the forest of all calls added."""
        branches = self._branches
        columns = {
            name: np.concatenate([each.columns[name] for each in branches])
            for name in branches[0].columns
        }
        parent = [each.parent for each in branches]
        at = [each.at for each in branches]
        end = [each.end for each in branches]
        tokens = np.concatenate([each.tokens for each in branches])
        views = joined_views(
            tokens,
            columns["trained"],
            (np.arange(len(tokens)), columns["kind"], columns["message"]),
            shared=at,
            end=end,
            bounds=[0, len(branches)],
            extra={name: columns[name] for name in FILLS if name in columns},
        )
        return Forest(
            views=views,
            parent=parent,
            at=at,
            end=end,
            below=[self._below],
            trained=columns["trained"],
            weights=columns["weight"],
            call=columns["call"],
        )

    # --- where a call leaves the tree ----------------------------------------------------

    def _longest_prefix(self, view: CallView) -> tuple[int, int]:
        """Find the longest prefix of a view in the tree; return the branch and depth it ends at.

        Several branches may begin with the same token, so each of them is followed.
        """
        best = self._shared_with_last(view)
        todo = [best] if best[1] else [*self._further(view, ROOT, 0, 0)]
        while todo:
            branch, begin = todo.pop()
            depth = self._followed(view, branch, begin)
            if depth > best[1]:
                best = (branch, depth)
            todo += reversed([*self._further(view, branch, begin, depth)])
        return best

    def _shared_with_last(self, view: CallView) -> tuple[int, int]:
        """Return the branch and depth up to which a view's prompt equals the last view.

        Without twins there is only one path to it, and as no token of a prompt is trained, all
        branches on it may be entered. With twins, return the root.
        """
        if self._twins:
            return ROOT, 0
        same = common_prefix(view.tokens[: view.prompt], self._last)
        return self._owner(len(self._branches) - 1, same), same

    def _further(
        self, view: CallView, branch: int, begin: int, depth: int
    ) -> Iterator[tuple[int, int]]:
        """Yield branches where a view may go on that follows `branch` from `begin` to `depth`."""
        for at, twin in self._twins.get(branch, ()):
            if begin <= at <= depth and self._may_enter(view, twin):
                yield twin, at
        if depth < len(view.tokens):
            other = self._below.get((branch, depth), {}).get(view.tokens.item(depth))
            if other is not None and self._may_enter(view, other):
                yield other, depth

    def _may_enter(self, view: CallView, other: int) -> bool:
        """Return whether a view has the first token of a branch.

        With `apart`, the two must not both train it.
        """
        branch = self._branches[other]
        depth = branch.at
        if depth >= len(view.tokens) or branch.tokens[0] != view.tokens[depth]:
            return False
        trained = depth >= view.prompt and view.trained[depth - view.prompt]
        return not (self.apart and trained and branch.columns["trained"][0])

    def _followed(self, view: CallView, other: int, depth: int) -> int:
        """Return the depth up to which a view follows a branch from `depth` on.

        With `apart`, they part before a token that both train.
        """
        branch = self._branches[other]
        stop = min(len(view.tokens), branch.end)
        theirs = branch.tokens[depth - branch.at : stop - branch.at]
        stop = depth + common_prefix(view.tokens[depth:stop], theirs)
        first = max(depth, view.prompt)
        if self.apart and stop > first:
            mine = view.trained[first - view.prompt : stop - view.prompt]
            taken = mine & branch.columns["trained"][first - branch.at : stop - branch.at]
            if taken.any():
                return first + int(taken.argmax())
        return stop

    def _attach(self, number: int, branch: int, depth: int) -> None:
        """Register a new branch, which leaves `branch` at `depth`."""
        own, children = self._branches[number], self._below.setdefault((branch, depth), {})
        token, known = own.tokens.item(depth - own.at), [*children]
        if branch != ROOT and depth < (parent := self._branches[branch]).end:
            known.append(parent.tokens.item(depth - parent.at))
        if token in known:
            self._twins.setdefault(branch, []).append((depth, number))
            token = -1 - number  # no token: a sibling has the token as its key
        children[token] = number

    def _owner(self, number: int, depth: int) -> int:
        """Return the view whose branch holds a view's token at `depth` − 1; ROOT for depth 0."""
        while number != ROOT and self._branches[number].at >= depth:
            number = self._branches[number].parent
        return number

    def _joint(self, view: CallView, branch: int, depth: int) -> Joint:
        if depth == 0:
            return "beginning"
        if view.prompt <= depth:
            return "known-prompt"
        if (branch, depth) in self._ends:
            return "continued"
        above = self._branches[branch]
        of_answer = above.answer[depth - 1 - above.at] or (branch, depth) in self._answers
        return "otherwise" if of_answer else "rewritten"

    def _mark_answer(self, view: CallView, number: int) -> None:
        """Record where the answer of a call begins, and which tokens of the tree are part of it."""
        self._answers.add((self._owner(number, view.header), view.header))
        branch, stop = number, len(view.tokens)
        while branch != ROOT and stop > view.header:
            each = self._branches[branch]
            if stop > each.at:
                each.answer[max(view.header - each.at, 0) : stop - each.at] = True
            branch, stop = each.parent, min(stop, each.at)

    # --- what is trained above a call's own branch ----------------------------------------

    def _train_above(self, own: _Branch, columns: Mapping[str, NDArray[Any]], begin: int) -> None:
        """Mark what a view trains in the branches above its own, and add its weight there.

        `columns` are those of the view, from depth `begin` on.
        """
        branch, stop = own.parent, own.at
        while stop > begin:
            above = self._branches[branch]
            first = max(begin, above.at)
            here = slice(first - begin, stop - begin)
            there = slice(first - above.at, stop - above.at)
            trained = columns["trained"][here]
            new = trained & ~above.columns["trained"][there]
            for name in columns.keys() - {"weight"}:
                above.columns[name][there][new] = columns[name][here][new]
            above.columns["weight"][there] += columns["weight"][here]
            branch, stop = above.parent, first


def _columns(view: CallView, begin: int) -> dict[str, NDArray[Any]]:
    """Return the columns of a view from depth `begin` on, which is not after its first trained."""
    size, prompt = len(view.tokens) - begin, max(0, view.prompt - begin)
    answer = slice(max(0, begin - view.prompt), None)
    stops = np.maximum.accumulate([begin, *(stop for stop, _, _ in view.runs)])
    counts = np.diff(stops)
    trained = np.zeros(size, bool)
    trained[prompt:] = view.trained[answer]
    columns: dict[str, NDArray[Any]] = {
        "kind": np.repeat(np.array([kind for _, kind, _ in view.runs], np.uint8), counts),
        "message": np.repeat(np.array([each for _, _, each in view.runs], np.int32), counts),
        "call": np.where(np.arange(size) < prompt, -1, view.call).astype(np.int32),
        "trained": trained,
        "weight": np.where(trained, view.weight, 0.0),
    }
    for name, values in view.values.items():
        columns[name] = np.full(size, FILLS[name], values.dtype)
        columns[name][prompt:] = values[answer]
    return columns
