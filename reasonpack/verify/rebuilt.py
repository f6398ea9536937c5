"""Views in tokens, rebuilt from the source → what the samples of a dataset are compared with.

    views ─→ paths of one after another ─→ leaves, trained paths, messages, history ─→ Expected
    views ─→ length of a sample of them ─→ whether they must have been rejected

The ids of all views are in memory at once, and the paths of what they train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.errors import RecordError
from reasonpack.rows.kind import Kind
from reasonpack.verify.call_values import identity_of, is_kept_apart, of_call
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.join import TRAINED, Expected, Join, Kinds
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.paths import U64, distinct, each_once, fingerprint
from reasonpack.verify.views import TextViews

EXPLAINED = 1 << 24
"""Most tokens that a record or group may have for all paths of its views to be held in memory."""


class Rebuilt(Struct, frozen=True):
    """The views of a conversation, or of a record of calls, or why there are none.

    Attributes:
        views: one for each trained message or call.
        built: how the views were built in text.
        reason: why pack must reject it, as rejects.jsonl names reasons; `error` describes it.
        unknown: why it could not be checked; its views are then unknown.
        left_out: messages whose views are too long; the others are in `views`.
        split: the split that a conversation belongs in.
        long: those of `left_out` in tokens, which share weights all the same.
        id: of the call if the record has only one, else the record's place; empty if not known.
    """

    views: Sequence[TokenView] = ()
    built: TextViews = field(default_factory=TextViews)
    reason: str = ""
    error: str = ""
    unknown: str = ""
    left_out: tuple[LeftOut, ...] = ()
    split: str = ""
    long: tuple[TokenView, ...] = ()
    id: str = ""


def not_rebuilt(error: RecordError | NotChecked | Refused) -> Rebuilt:
    """Return the result for a record that cannot be read or must be rejected: no views, and why."""
    if isinstance(error, NotChecked):
        return Rebuilt(unknown=str(error))
    cause = error if isinstance(error, RecordError) else error.__cause__  # JSON within the record
    reason = cause.reason if isinstance(cause, RecordError) else "record"
    return Rebuilt(reason=reason, error=str(error))


# --- what is compared ------------------------------------------------------------------


def expect(join: Join, views: Sequence[TokenView], where: str, split: str, times: int) -> Expected:
    """Return what each of the `times` copies of a record or group must hold, and count its views.

    Sizes are counted too, unless calls are kept apart, or there are too many tokens to divide.
    """
    manifest, tokens = join.manifest, sum(len(view.ids) for view in views)
    divided = manifest.counts.extra_samples > 0
    expected = expected_of(views, where, split, weighs=join.weighs, divided=divided)
    counted = {"views": len(views), "naive_tokens": tokens}
    counted["context tokens"] = expected.context_tokens
    if kept_apart(views) or (divided and tokens > EXPLAINED):
        counted["unsized"] = 1
    else:
        counted["npass_tokens"] = expected.npass_tokens
        if divided:
            whole = whole_size(views)
            counted["divided"] = whole > (manifest.options.max_length or whole)
            counted["whole tokens"] = whole
    for name, number in counted.items():
        join.findings.count(name, number * times)
    return expected


def count_built(join: Join, built: TextViews, where: str, times: int) -> None:
    """Count what was met when the views of a record were built in text."""
    join.findings.count("missing_reasoning", built.untrained * times)
    join.findings.count("context", built.context)
    for source, number in built.stops.items():
        join.findings.count(f"stops: {source}", number * times)
    for what in built.contradictions:
        number, first = join.contradictions.get(what, (0, where))
        join.contradictions[what] = (number + 1, first)


def weighed(views: Sequence[TokenView], more: Sequence[TokenView] = ()) -> list[TokenView]:
    """Return views with the weight of each trained token: shared weights are divided by tokens.

    They are shared with `more` views, too. A rejected answer weighs 0.
    """
    tokens = Counter[Hashable]()
    for view in (*views, *more):
        tokens[view.group] += 0 if view.is_rejected else int(view.trained.sum())
    made = []
    for view in views:
        weight = 0.0 if view.is_rejected else view.weight
        shared = 1 if view.group is None else max(1, tokens[view.group])
        made.append(replace(view, weight=weight / shared))
    return made


def kept_apart(views: Sequence[TokenView]) -> bool:
    """Return whether views are kept apart: each trains its tokens even if another has them too."""
    return any(is_kept_apart(view.call) for view in views)


def expected_of(
    views: Sequence[TokenView], where: str, split: str, *, weighs: bool, divided: bool
) -> Expected:
    """Return what the samples of a record or group are compared with.

    Args:
        views: at least one; their weights are per token, as `weighed` returns them.
        where: place of the record, or of the first of the group.
        split: the split that it belongs in.
        weighs: its samples have weights.
        divided: it may have several samples.
    """
    ends, targets = np.stack([view.paths[-1] for view in views]), [view.targets for view in views]
    trained = np.concatenate(targets)
    once, first, which = each_once(trained)
    new, twins = np.zeros(len(trained), bool), np.bincount(which)[which] > 1
    new[first] = True
    weights = np.repeat([view.weight for view in views], [*map(len, targets)])
    words = np.concatenate([of_call(view.call, view.trained) for view in views])
    if is_apart := kept_apart(views):
        new[:] = True
    else:
        trained, weights, words = once, np.bincount(which, weights), words[first]
    kinds = _contexts(views)
    has_twin = np.zeros(len(views), bool)
    begins = np.cumsum([0, *map(len, targets)])
    for number, view in enumerate(views):
        own = slice(begins[number], begins[number + 1])
        has_twin[number] = is_apart and twins[own].any()
        least, most = (int(new[own][:end].sum()) for end in view.reasoning_tokens)
        of, id_ = int(new[own].sum()), view.call.id if view.call else ""
        for kind, tokens in ((Kind.REASONING, least), (Kind.R_OUT, of - most), (TRAINED, of)):
            kinds[id_, view.message, kind] += tokens
    leaves = _leaves(views, ends, has_twin | divided)
    outer = np.array([leaves[bytes(end)][0] > 0 for end in ends])
    lengths = {bytes(end): len(view.ids) for end, view in zip(ends, views, strict=True)}
    weights = weights.astype(np.float32) if weighs else np.full(len(trained), np.nan, np.float32)
    return Expected(
        where,
        fingerprint(distinct(ends[outer]), trained, weights, words),
        kinds=kinds,
        leaves=leaves,
        split=split,
        calls=frozenset(identity_of(view.call).key for view in views if view.call),
        npass_tokens=sum(lengths[path] for path, (least, _) in leaves.items() if least),
    )


def _contexts(views: Sequence[TokenView]) -> Kinds:
    """Count context tokens by message and kind, each once, and none that a view writes."""
    written = {path for view in views for path in view.paths[view.prompt_length :, 0].tolist()}
    known, counted = set[int](), Kinds()
    for view in views:
        seen = view.paths[:, 0].tolist()
        for message, kind, start, stop in view.history:
            counted["", message, kind] += len({*seen[start:stop]} - written - known)
        known.update(seen)
    return counted


def _leaves(
    views: Sequence[TokenView], ends: U64, may_branch: NDArray[np.bool_]
) -> dict[bytes, tuple[int, int]]:
    """Return for the last path of each view how often it is a leaf, at least and at most.

    It is a leaf once, or never if another view extends it. A view that `may_branch`, because its
    record may be divided or because it is kept apart from a call with the same tokens, may be a
    leaf once for each answer that contains its end.
    """
    lengths = np.array([len(view.ids) for view in views])
    inner, answers = np.zeros(len(views), bool), np.zeros(len(views), int)
    for view in views:
        near = np.flatnonzero(lengths <= len(view.ids))
        near = near[(view.paths[lengths[near] - 1] == ends[near]).all(axis=1)]
        inner[near] |= lengths[near] < len(view.ids)
        answers[near] += lengths[near] > view.prompt_length
    least = (~inner).astype(int)
    most = np.where(may_branch, answers, least)
    found: dict[bytes, tuple[int, int]] = {}
    for path, one, other in zip(map(bytes, ends), least.tolist(), most.tolist(), strict=True):
        found[path] = one, max(other, found.get(path, (0, 0))[1])
    return found


# --- what pack must have done with it --------------------------------------------------


def why_rejected(rebuilt: Rebuilt, manifest: Manifest) -> str:
    """Return the reason for which pack must reject a conversation; empty if it must not."""
    views = rebuilt.views
    if rebuilt.reason or not views:
        return rebuilt.reason
    if manifest.options.overlong == "split":
        # All messages with shorter views may have been kept as context; only pack knows that.
        is_context = manifest.options.on_message_error == "context"
        return "overlong" if rebuilt.left_out and is_context else ""
    longest = sample = max(len(view.ids) for view in views)
    if manifest.layout == "onepass":
        sample = whole_size(views)
    limits = ((manifest.max_position, longest), (manifest.options.max_length, sample))
    too_long = any(limit is not None and length > limit for limit, length in limits)
    return "overlong" if too_long else ""


def whole_size(views: Sequence[TokenView]) -> int:
    """Return how many tokens a onepass sample of all these views has.

    A token that several trained tokens follow is repeated for each of them but one.
    """
    seen, trained, before = list[U64](), list[U64](), list[U64]()
    for view in views:
        paths = view.paths
        seen.append(paths)
        trained.append(paths[view.prompt_length :][view.trained])
        above = np.pad(paths[:-1], ((1, 0), (0, 0)))
        before.append(above[view.prompt_length :][view.trained])
    tokens, targets, predicting = (
        len(distinct(np.concatenate(e))) for e in (seen, trained, before)
    )
    return tokens + targets - predicting
