"""The calls of groups, added one at a time → a token forest that keeps each prefix of a group once.

    call 1   h1 A a1            h1 A ─┬─ a1 ── h2 A ── a2
    call 2   h1 A a1 h2 A a2          └─ b1
    call 3   h1 A b1

A call joins the tree at the end of the longest prefix, token by token, that it shares with any
earlier call of its group; it does not have to extend the last prompt. Memory grows with the
distinct tokens of the groups.

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
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import ROOT, common_prefix, joined_views
from reasonpack.rows.forest import Forest
from reasonpack.rows.optional_columns import FILLS

I32 = NDArray[np.int32]
_NO_TOKENS = np.zeros(0, np.int32)
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
        trained: which of them are trained by any call.
        view: the view, without its tokens.
    """

    parent: int
    at: int
    end: int
    tokens: I32
    answer: NDArray[np.bool_]
    trained: NDArray[np.bool_]
    view: CallView


class GroupForest:
    """The trees of groups, one after another, to which calls are added in order.

    Attributes:
        size: number of tokens in all trees.
    """

    def __init__(self) -> None:
        self.size = 0
        self._branches: list[_Branch] = []
        self._bounds: list[int] = []
        self._all_below: list[dict[tuple[int, int], dict[int, int]]] = []

    def begin(self, *, apart: bool) -> None:
        """Begin the tree of the next group; with `apart`, no token is trained by two calls."""
        self.apart = apart
        self._bounds.append(len(self._branches))
        self._below: dict[tuple[int, int], dict[int, int]] = {}
        self._all_below.append(self._below)
        self._twins: dict[int, list[tuple[int, int]]] = {}  # (depth, twin) by parent
        self._answers: set[tuple[int, int]] = set()
        self._ends: set[tuple[int, int]] = set()
        self._last = _NO_TOKENS  # the tokens of the last view added

    def add(self, view: CallView) -> Joined:
        """Join the next call of the group to its tree."""
        branch, depth = self._longest_prefix(view)
        joint = self._joint(view, branch, depth)
        number, end, prompt = len(self._branches), len(view.tokens), view.prompt
        trained = np.zeros(end - depth, bool)
        trained[max(0, prompt - depth) :] = view.trained[max(0, depth - prompt) :]
        own = _Branch(
            branch,
            depth,
            end,
            tokens=view.tokens[depth:].copy(),
            answer=np.zeros(end - depth, bool),
            trained=trained,
            view=replace(view, tokens=_NO_TOKENS),
        )
        self._branches.append(own)
        self.size += end - depth
        if depth < end:
            self._attach(number, branch, depth)
        for above, begin, stop in self._above(own):
            at = self._branches[above].at
            trained = view.trained[begin - prompt : stop - prompt]
            self._branches[above].trained[begin - at : stop - at] |= trained
        self._mark_answer(view, number)
        self._ends.add((self._owner(number, end), end))
        self._last = view.tokens
        return Joined(joint, depth)

    def finish(self) -> Forest:
        """Return the forest of all calls added, with a conversation for each group."""
        branches = self._branches
        at, end = [each.at for each in branches], [each.end for each in branches]
        origin = (np.cumsum(np.array(end, np.int64) - at) - end).tolist()
        tokens = np.concatenate([_NO_TOKENS, *(each.tokens for each in branches)])
        columns = self._columns(origin)
        views = joined_views(
            tokens,
            columns["trained"],
            (np.arange(len(tokens)), columns["kind"], columns["message"]),
            shared=at,
            end=end,
            bounds=[*self._bounds, len(branches)],
            extra={name: columns[name] for name in FILLS if name in columns},
        )
        return Forest(
            views=views,
            parent=[each.parent for each in branches],
            at=at,
            end=end,
            below=self._all_below,
            trained=columns["trained"],
            weights=columns["weight"],
            call=columns["call"],
        )

    def _columns(self, origin: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return what calls say of all tokens, by the name of the column.

        `origin` has for each branch the index that the token of depth 0 would have.
        """
        views = [each.view for each in self._branches]
        runs = [(at, *run) for at, view in zip(origin, views, strict=True) for run in view.runs]
        columns = _repeated([(at + stop, kind, message) for at, stop, kind, message in runs], 0)
        columns |= {"trained": np.zeros(self.size, bool), "weight": np.zeros(self.size)}
        columns["call"] = np.full(self.size, -1, np.int32)
        for name, values in views[0].values.items() if views else ():
            columns[name] = np.full(self.size, FILLS[name], values.dtype)
        for number, own in enumerate(self._branches):
            view, prompt = own.view, own.view.prompt
            begin = max(own.at, prompt)
            there = slice(origin[number] + begin, origin[number] + own.end)
            trained = view.trained[begin - prompt :]
            columns["call"][there] = view.call
            columns["trained"][there] = trained
            columns["weight"][there] = trained * view.weight
            for name, values in view.values.items():
                columns[name][there] = values[begin - prompt :]
            for branch, begin, stop in self._above(own):
                here = slice(begin - prompt, stop - prompt)
                there = slice(origin[branch] + begin, origin[branch] + stop)
                trained = view.trained[here]
                new = trained & ~columns["trained"][there]
                said = {name: values[here] for name, values in view.values.items()}
                for name, values in (said | _repeated(view.runs, begin)).items():
                    columns[name][there][new] = values[: stop - begin][new]
                columns["call"][there][new] = view.call
                columns["trained"][there] |= trained
                columns["weight"][there] += trained * view.weight
        return columns

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
        return not (self.apart and trained and branch.trained[0])

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
            taken = mine & branch.trained[first - branch.at : stop - branch.at]
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

    def _above(self, own: _Branch) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of branches above a view's own where tokens may be that it trains.

        Each is given as the branch, the depth where it begins, and the depth where it stops.
        """
        first, branch, stop = own.view.first_trained, own.parent, own.at
        while stop > first:
            begin = max(first, self._branches[branch].at)
            yield branch, begin, stop
            branch, stop = self._branches[branch].parent, begin


def _repeated(runs: Sequence[tuple[int, int, int]], begin: int) -> dict[str, NDArray[Any]]:
    """Return kind and message of each token from `begin` on, of which runs say where they stop."""
    stop, kind, message = np.array(runs, np.int64).reshape(-1, 3).T
    counts = np.diff(np.maximum.accumulate(np.append(begin, stop)))
    return {
        "kind": np.repeat(kind.astype(np.uint8), counts),
        "message": np.repeat(message.astype(np.int32), counts),
    }
