"""A group of calls, read and encoded again: its calls in tokens, those logged twice left out.

    record ─→ Call … ─→ its ids, or prompt and completion encoded ─→ CallTokens … ─→ Kept ─→ Read

The ids of a group are in memory at once, the paths of one call at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.verify.call_values import cannot_add_up, check_columns, known, of_call
from reasonpack.verify.calls import Call, read_calls
from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.history import Contexts, Prefixes, Stretch
from reasonpack.verify.length import LeftOut, too_long, too_long_text
from reasonpack.verify.match import Place, Read
from reasonpack.verify.parts import PARTS, parts_of
from reasonpack.verify.paths import distinct, fingerprint, view_paths
from reasonpack.verify.rebuilt import Rebuilt, TokenView, not_rebuilt
from reasonpack.verify.source import Source, encode
from reasonpack.verify.views import build_views

_OfOne = tuple[
    tuple[NDArray[Any], ...],
    tuple[Place, tuple[int, ...]],
    list[tuple[tuple[int, int], NDArray[np.uint64]]],
]
"""What is read of one call; see `Kept._each`."""


@dataclass(frozen=True, slots=True)
class CallTokens:
    """A call that is trained, in tokens.

    Attributes:
        call: without its messages and ids.
        message: index of its answer, as rows have it: −1 for a call with ids.
        ids: i32[L], prompt and then completion.
        trained: bool[C], which of the completion's tokens are trained.
        thought: how many trained tokens are reasoning: at least, at most.
        turn: equal for calls of one turn.
        history: the messages of the prompt, in tokens; none with ids.
    """

    call: Call
    message: int
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    thought: tuple[int, int] = (0, 0)
    turn: bytes = b""
    history: tuple[Stretch, ...] = ()

    @property
    def view(self) -> TokenView:
        """Its view, with the paths of all tokens."""
        prompt = len(self.ids) - len(self.trained)
        paths = view_paths(self.ids, prompt, self.trained)
        return TokenView(self.message, self.ids, prompt, paths, self.thought, call=self.call.id)


def rebuild_calls(
    source: Source, record: Json, where: str, *, row: bool = False
) -> tuple[Rebuilt, list[CallTokens], str]:
    """Encode the calls of a decoded record, or say why they cannot be had.

    Returns:
        What was found of them, without views; those that are trained; and the id of the call if it
        is one, else where it is.
    """
    found, made, left, id_ = Rebuilt(), list[CallTokens](), list[LeftOut](), ""
    try:
        calls = read_calls(record, replace(source.reading, row=row), where)
        id_ = calls[0].id if len(calls) == 1 else where
        for call in calls:
            if call.trained:
                check_columns(call, source.manifest.columns, source.manifest.options.call_columns)
                found, tokens = _in_tokens(found, call, source)
                last = call.chat.messages[-1].source if call.chat else 0
                for each in tokens:
                    out = too_long(last, len(each.ids), source.manifest)
                    left += [out] if out else []
                    made += [] if out else [each]
    except (NotChecked, Refused) as error:
        return not_rebuilt(error), [], id_
    if found.reason:
        return found, [], id_
    if left and (not made or source.manifest.options.overlong != "split"):
        return Rebuilt(reason="overlong", error=f"a view of {left[0].length:,} tokens"), [], id_
    return replace(found, left_out=tuple(left)), made, id_


def _in_tokens(found: Rebuilt, call: Call, source: Source) -> tuple[Rebuilt, list[CallTokens]]:
    """Encode a call; no tokens where its answer is none that is trained."""
    parts = parts_of(source.manifest.options.train_on)
    alone = replace(call, chat=None, prompt=None, completion=None, mask=None)
    turn = _turn(call) if source.manifest.options.loss_weights == "turn" else b""
    if call.prompt is not None:
        ids, trained = _logged(call, parts, source)
        return found, [CallTokens(alone, -1, ids, trained, turn=turn)]
    assert call.chat is not None
    built = build_views(call.chat, source.rules[bool(call.chat.tools)], parts)
    made = []
    for view in built.views:  # one, if any
        characters = len(view.prompt) + len(view.completion)
        if too_long_text(view.message, characters, source.manifest):
            return Rebuilt(reason="overlong", error=f"a view of {characters:,} characters"), []
        encoded = encode(view, source.encoder)
        if not encoded.prompt_length:
            raise Refused("a view without any prompt token")
        trained = encoded.paths.trained[encoded.prompt_length :]
        if not trained.any():
            continue  # of what is trained no token is left
        more = (encoded.thought, turn, encoded.history)
        made.append(CallTokens(alone, view.message, encoded.ids, trained, *more))
    found.built.add(built)
    return found, made


def _turn(call: Call) -> bytes:
    """Stand for the messages of a call up to the last one of the user's."""
    if call.chat is None:
        raise NotChecked("the turn of a call with ids")
    said = call.chat.messages
    last = max((n for n, each in enumerate(said, 1) if each.role == "user"), default=0)
    functions = [[one["function"] for one in each.calls] for each in said[:last]]
    texts = [[each.role, each.content, each.reasoning] for each in said[:last]]
    return hashlib.sha256(json.dumps([texts, functions], sort_keys=True).encode()).digest()


def _logged(
    call: Call, parts: Sequence[str], source: Source
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Take the ids that were logged, and which of the completion's are trained."""
    if tuple(parts) != PARTS:
        raise Refused("ids, in which parts of an answer are not known")
    prompt, completion = call.prompt or [], call.completion or []
    if not prompt:
        raise Refused("ids without a prompt")
    for ids in filter(None, (prompt, completion)):
        if min(ids) < 0 or source.tokenizer.reference.id_to_token(max(ids)) is None:
            raise Refused("an id that is not in the vocabulary")
    mask = [True] * len(completion) if call.mask is None else call.mask
    return np.array(prompt + completion, np.int32), np.array(mask, bool)


@dataclass(slots=True)
class Kept:
    """The calls of a group that count: each once, however often it was logged.

    Attributes:
        calls: theirs, in order.
        known: a hash of what each of them says, by its id, or by itself without one.
        lengths: of the calls, by the path of their last tokens; there once they are `read`.
    """

    calls: list[CallTokens] = field(default_factory=list)
    known: dict[tuple[str, int], bytes] = field(default_factory=dict)
    lengths: dict[bytes, int] = field(default_factory=dict)

    def add(self, calls: Sequence[CallTokens], where: str) -> str:
        """Add the calls of the next record; say why none of them can be, or nothing."""
        new: dict[tuple[str, int], bytes] = {}
        more: list[CallTokens] = []
        for each in calls:
            content, own = _content(each), each.call.id.removeprefix(where)
            key = (each.call.id, 0)
            if own != each.call.id and own[:1] in ("", "#"):  # no id of its own
                key = (content.hex(), int(own[1:] or 0))
            before = new.get(key, self.known.get(key))
            if before not in (None, content):
                return f"the id of another call of the group: {each.call.id[:200]!r}"
            if before is None:
                new[key] = content
                more.append(each)
        self.known |= new
        self.calls += more
        return ""

    @property
    def tokens(self) -> int:
        """Number of tokens of all calls."""
        return sum(len(each.ids) for each in self.calls)

    @property
    def views(self) -> list[TokenView]:
        """The views of all calls, with the paths of all tokens."""
        return [each.view for each in self.calls]

    @property
    def apart(self) -> bool:
        """Whether no call trains a token of another."""
        return any(cannot_add_up(each.call) for each in self.calls)

    def weigh(self, scheme: str) -> None:
        """Let the calls of each message, turn or conversation weigh what one of them says."""
        keys = [
            {"message": number, "turn": each.turn, "conversation": 0}.get(scheme)
            for number, each in enumerate(self.calls)
        ]
        tokens = Counter[object]()
        for key, each in zip(keys, self.calls, strict=True):
            tokens[key] += int(each.trained.sum()) if each.call.role != "rejected" else 0
        for at, (key, each) in enumerate(zip(keys, self.calls, strict=True)):
            if key is not None:
                light = replace(each.call, weight=each.call.weight / max(1, tokens[key]))
                self.calls[at] = replace(each, call=light)

    def read(self, where: str, split: str, *, divided: bool) -> Read:
        """Return what samples are compared with, for the group that begins at a place.

        Groups that are longer than a row may be `divided`.
        """
        parts, thoughts, histories = zip(*self._each(), strict=True)
        trained, weights, words, ends = (np.concatenate(each) for each in zip(*parts, strict=True))
        paths, first, at, times = np.unique(
            trained, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        begins = np.cumsum([0, *(len(each[0]) for each in parts[:-1])])
        has_twin = np.logical_or.reduceat(times[at.ravel()] > 1, begins) & self.apart
        if not self.apart:
            trained, weights, words = paths, np.bincount(at.ravel(), weights), words[first]
        leaves = self._leaves(ends, has_twin, divided=divided)
        sizes = (len(each.ids) for each in self.calls)
        self.lengths = dict(zip(map(bytes, ends), sizes, strict=True))
        outer = np.array([leaves[path.tobytes()][0] > 0 for path in ends])
        return Read(
            where,
            fingerprint(distinct(ends[outer]), trained, weights.astype(np.float32), words),
            thoughts={place: (least, most, of) for place, (least, most, of) in thoughts if of},
            leaves=leaves,
            split=split,
            calls=frozenset(known(each.call).key for each in self.calls),
            contexts=_contexts([*chain.from_iterable(histories)], paths[:, 0]),
        )

    def _each(self) -> Iterator[_OfOne]:
        """Yield of each call trained paths, their weights and values, its end, thoughts, history.

        Trained tokens of an earlier call are not counted again, unless calls are apart; the
        history is what no earlier call has.
        """
        trained, prefixes = set[bytes](), Prefixes()
        apart = self.apart
        for each in self.calls:
            view = each.view
            weight, words = of_call(each.call, each.trained)
            paths = view.trained
            new = np.ones(len(paths), bool)
            if not apart:
                named = [path.tobytes() for path in paths]
                new = np.array([path not in trained for path in named], bool)
                trained.update(named)
            least, most = (int(new[:end].sum()) for end in each.thought)
            counted = ((each.call.id, each.message), (least, most, int(new.sum())))
            seen = view.paths.seen[:, 0]
            common = prefixes.add(seen)
            history = [
                ((message, kind), seen[max(start, common) : stop].copy())
                for message, kind, start, stop in each.history
                if stop > common
            ]
            values = (paths, np.full(len(paths), weight), words, view.paths.seen[-1:].copy())
            yield values, counted, history

    def _leaves(
        self, ends: NDArray[np.uint64], has_twin: NDArray[np.bool_], *, divided: bool
    ) -> dict[bytes, tuple[int, int]]:
        """Tell how often the end of each call is a leaf, at least and at most.

        It is none where another call goes on from it, unless the call trains what another one
        does, apart from it: then each of the answers that hold it may end in a branch of its own.
        """
        lengths = np.array([len(each.ids) for each in self.calls])
        inner, answers = np.zeros(len(ends), bool), np.zeros(len(ends), int)
        for each in self.calls:
            near = np.flatnonzero(lengths <= len(each.ids))
            seen = each.view.paths.seen[lengths[near] - 1]
            near = near[(seen == ends[near]).all(axis=1)]
            inner[near] |= lengths[near] < len(each.ids)
            answers[near] += lengths[near] > len(each.ids) - len(each.trained)
        least = (~inner).astype(int)
        most = np.where(has_twin | divided, answers, least)
        found: dict[bytes, tuple[int, int]] = {}
        for path, one, other in zip(map(bytes, ends), least.tolist(), most.tolist(), strict=True):
            found[path] = one, max(other, found.get(path, (0, 0))[1])
        return found


def _contexts(
    history: Sequence[tuple[tuple[int, int], NDArray[np.uint64]]], trained: NDArray[np.uint64]
) -> Contexts:
    """Count tokens of the history by message and kind, but for those that a call trains."""
    counted = Counter[tuple[int, int]]()
    for place, paths in history:
        at = np.searchsorted(trained, paths).clip(max=len(trained) - 1)
        counted[place] += int((trained[at] != paths).sum())
    return dict(+counted)


def _content(each: CallTokens) -> bytes:
    """Hash all that a call says, but for its id."""
    call, hash_ = each.call, hashlib.sha256(each.ids.tobytes() + b"|" + each.trained.tobytes())
    for said in (call.logprobs, call.advantages):
        numbers = np.array([] if said is None else said, np.float32)
        there = np.broadcast_to(numbers, each.trained.shape) if numbers.size else numbers
        hash_.update(b"|" + there.tobytes())
    hash_.update(repr((len(each.trained), float(call.weight), call.reward, call.role)).encode())
    return hash_.digest()
