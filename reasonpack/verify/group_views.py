"""A group of calls → the views of its calls in tokens, without calls that are logged twice.

record ─→ Calls ─→ logged ids, or prompt and completion encoded ─→ TokenViews ─→ Kept
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.verify.call_values import check_columns
from reasonpack.verify.calls import Call, read_calls
from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.encoding import TokenView, encode, too_long, too_long_text
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.parts import PARTS, parts_of
from reasonpack.verify.rebuilt import Rebuilt, not_rebuilt
from reasonpack.verify.source import Source
from reasonpack.verify.views import TextViews, build_views


def rebuild_calls(source: Source, record: Json, where: str, *, row: bool = False) -> Rebuilt:
    """Build the views of the trained calls of a decoded record, or return why that cannot be."""
    options, made = source.manifest.options, Rebuilt()
    views, left, id_ = list[TokenView](), list[LeftOut](), ""
    try:
        calls = read_calls(record, replace(source.reading, row=row), where)
        id_ = calls[0].id if len(calls) == 1 else where
        for call in (each for each in calls if each.trained):
            check_columns(call, source.manifest.columns, options.call_columns)
            built, found = _in_tokens(call, source)
            made.built.add(built)
            if isinstance(found, LeftOut):
                left.append(found)
            elif found is not None:
                views.append(found)
    except (NotChecked, Refused) as error:
        return replace(not_rebuilt(error), id=id_)
    unencoded = [out for out in left if out.unit == "characters"]
    if unencoded or (left and (not views or options.overlong != "split")):
        first = (unencoded or left)[0]
        said = f"a view of {first.length:,} {first.unit}"
        made = replace(made, reason="overlong", error=said)
    return replace(made, views=views, left_out=tuple(left), id=id_)


def _in_tokens(call: Call, source: Source) -> tuple[TextViews, TokenView | LeftOut | None]:
    """Return what was built of a call in text, and its view in tokens.

    In place of the view: a `LeftOut` if it is too long, None if nothing of it is trained.
    """
    options, manifest = source.manifest.options, source.manifest
    parts, group = parts_of(options.train_on), _shared(call, options.loss_weights)
    if call.prompt is not None:
        built, view = TextViews(), TokenView(-1, *_logged(call, parts, source))
    else:
        assert call.chat is not None
        built = build_views(call.chat, source.rules[bool(call.chat.tools)], parts)
        if not built.views:
            return built, None
        (text,) = built.views
        if out := too_long_text(text, manifest):
            return built, out
        view = encode(text, source.tokenizer)
        if not view.prompt_length:
            raise Refused("a view without any prompt token")
        if not view.trained.any():
            return built, None
    last = call.chat.messages[-1].source if call.chat else 0
    if out := too_long(last, len(view.ids), manifest):
        return built, out
    alone = replace(call, chat=None, prompt=None, completion=None, mask=None)
    return built, replace(view, weight=call.weight, group=group, call=alone)


def _shared(call: Call, scheme: str) -> Hashable:
    """Return a key that is equal for calls that share a weight by the option `loss_weights`."""
    if scheme == "turn":
        return _turn(call)
    return {"message": call.id, "conversation": 0}.get(scheme)


def _turn(call: Call) -> bytes:
    """Hash the messages of a call up to its last user message."""
    if call.chat is None:
        raise NotChecked("the turn of a call with token ids")
    said = call.chat.messages
    last = max((n for n, each in enumerate(said, 1) if each.role == "user"), default=0)
    text = json.dumps([each.parts for each in said[:last]], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def _logged(
    call: Call, parts: Sequence[str], source: Source
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the logged ids i32[L] of a call and bool[C], which of its completion are trained."""
    if tuple(parts) != PARTS:
        raise Refused("token ids, in which the parts of an answer are not known")
    prompt, completion = call.prompt or [], call.completion or []
    if not prompt:
        raise Refused("ids without a prompt")
    for ids in filter(None, (prompt, completion)):
        if min(ids) < 0 or source.tokenizer.reference.id_to_token(max(ids)) is None:
            raise Refused("an id that is not in the vocabulary")
    mask = [True] * len(completion) if call.mask is None else call.mask
    return np.array(prompt + completion, np.int32), np.array(mask, bool)


class Kept(Struct):
    """The views of the calls of a group, each once, however often it was logged.

    Attributes:
        views: in the order of their records.
        known: hash of each call's content, by the call's id, or by that hash without an id.
    """

    views: list[TokenView] = field(default_factory=list)
    known: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def add(self, views: Sequence[TokenView], where: str) -> str:
        """Add the calls of the next record; return why they cannot be added, or an empty text."""
        new: dict[tuple[str, int], bytes] = {}
        more: list[TokenView] = []
        for each in views:
            assert each.call is not None
            content, id_ = _content(each, each.call), each.call.id
            own, key = id_.removeprefix(where), (id_, 0)
            if own != id_ and own[:1] in ("", "#"):  # no id of its own
                key = (content.hex(), int(own[1:] or 0))
            before = new.get(key, self.known.get(key))
            if before not in (None, content):
                return f"the id of another call of the group: {id_[:200]!r}"
            if before is None:
                new[key] = content
                more.append(each)
        self.known |= new
        self.views += more
        return ""

    @property
    def tokens(self) -> int:
        """Number of tokens of all calls."""
        return sum(len(each.ids) for each in self.views)


def _content(view: TokenView, call: Call) -> bytes:
    """Hash everything of a call except its id."""
    hash_ = hashlib.sha256(view.ids.tobytes() + b"|" + view.trained.tobytes())
    for said in (call.logprobs, call.advantages):
        numbers = np.array([] if said is None else said, np.float32)
        there = np.broadcast_to(numbers, view.trained.shape) if numbers.size else numbers
        hash_.update(b"|" + there.tobytes())
    hash_.update(repr((len(view.trained), float(call.weight), call.reward, call.role)).encode())
    return hash_.digest()
