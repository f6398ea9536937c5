"""A call and its pieces → its view in tokens, with what stands in the optional columns.

    prompt_ids 5 6, completion_ids 7 2      tokens 5 6 7 2
    logprobs −0.1 −0.2, weight 0.5          logprobs 0 0 −0.1 −0.2, weight 0.5 of tokens 7 and 2

With ids, they are trained as they were logged; messages beside them are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.rows.encoded_views import common_prefix
from reasonpack.rows.group_forest import CallView
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE, Calls
from reasonpack.run.call_views import CutCall
from reasonpack.run.splits import key
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.tokens.view_tokens import Pieces
from reasonpack.views.chosen import PARTS, read_train_on

VALUES = ("logprobs", "advantages")
"""Values of tokens; where a trained call has none and there is a column, NaN stands there."""
OPTION = "--call-columns"
ROLES = {"none": 0, "chosen": 1, "rejected": 2}


def carries_values(call: Call) -> bool:
    """Tell whether a call has values that cannot be added to those of another."""
    values = (call.logprobs, call.advantages, call.reward)
    return call.role != "none" or any(each is not None for each in values)


def check_columns(
    call: Call, columns: AbstractSet[str], asked: AbstractSet[str], notes: Counter[str]
) -> None:
    """Refuse a call with a value that has no column, or without one of a column `asked` for.

    Other values that are lacking are counted in `notes`.

    Raises:
        RecordError: it is one of these.
    """
    needs = {name: getattr(call, name) is not None for name in VALUES}
    needs |= {"call_reward": call.reward is not None, "call_role": call.role != "none"}
    needs["preference_labels"] = call.role == "rejected"
    for name, is_there in needs.items():
        if is_there and name not in columns:
            what = f"a value for the column {name}, which the run does not have, expected none"
            fix = f"Pass {OPTION} with {name} in it, or leave the value out: --ignore-fields with "
            fix += "its name, dotted where it is nested (steps.metrics.logprobs)."
            raise RecordError("column", name.removeprefix("call_"), what, fix=fix)
        if name in VALUES and not is_there and name in columns:
            if name in asked:
                raise RecordError(
                    "column",
                    "",
                    f"a trained call without {name}, expected them, as {OPTION} names the column",
                    fix=f"Log them for each call, or leave {OPTION} out, to have NaN where they "
                    "are not.",
                )
            notes[f"lacking {name}"] += 1


def check_ids(call: Call, tokenizer: Tokenizer, train_on: str) -> None:
    """Refuse ids that the model cannot have seen, a call without a prompt, and parts of ids.

    Raises:
        RecordError: it is one of these.
    """
    if read_train_on(train_on).parts != PARTS:
        what = (
            "token ids, which do not say what of an answer is reasoning, response or tool calls, "
            f"expected messages alone for --train-on {train_on}"
        )
        fix = (
            "Log a loss_mask of the tokens to train and leave --train-on out, or leave the ids out "
            "with --ignore-fields."
        )
        raise RecordError("column", "completion_ids", what, fix=fix)
    assert call.prompt_ids is not None
    assert call.completion_ids is not None
    for name, ids in (("prompt_ids", call.prompt_ids), ("completion_ids", call.completion_ids)):
        at = int(ids.argmax()) if ids.size else 0
        if ids.size and tokenizer.text_of(int(ids[at])) is None:
            what = f"id {ids[at]}, expected one of the {tokenizer.vocab_size:,} of the tokenizer"
            fix = "Pass the tokenizer of the model that was called."
            raise RecordError("vocabulary", f"{name}[{at}]", what, fix=fix)
    if not call.prompt_ids.size:
        what = "no token, expected a prompt that the model answers"
        raise RecordError("no-prompt", "prompt_ids", what, fix="Log the prompt's ids too.")


def call_view(
    call: Call,
    cut: CutCall | None,
    pieces: Pieces,
    columns: AbstractSet[str] = frozenset(),
    number: int = 0,
) -> CallView:
    """Return the view of a call in tokens, with its values of optional `columns`.

    `cut` has its texts, None where it has ids; `number` is that of the call in its group.
    """
    if call.prompt_ids is not None and call.completion_ids is not None:
        header = prompt = len(call.prompt_ids)
        tokens = np.concatenate([call.prompt_ids, call.completion_ids])
        runs = [(prompt, int(Kind.CONTEXT), -1), (len(tokens), int(Kind.R_OUT), -1)]
        trained = np.ones(len(tokens) - prompt, bool) if call.loss_mask is None else call.loss_mask
    else:
        assert cut is not None
        tokens, stops = pieces.tokens(cut.pieces)
        found = pieces.runs(cut.pieces, stops, cut.borders)
        prompt, header = stops.item(cut.prompt), stops.item(cut.header)
        runs = [(stop, kind, message) for stop, kind, message, _ in found]
        ends = np.maximum.accumulate([prompt, *(min(stop, len(tokens)) for stop, *_ in runs)])
        trained = np.repeat(np.array([each[-1] for each in found], bool), np.diff(ends))
    said = {name: getattr(call, name) for name in VALUES if name in columns}
    values: dict[str, NDArray[np.float32] | NDArray[np.int32]] = {
        name: np.broadcast_to(np.float32(np.nan) if each is None else each, trained.shape)
        for name, each in said.items()
    }
    if "preference_labels" in columns:
        wanted = trained & (call.role == "rejected")
        values["preference_labels"] = np.where(wanted, tokens[prompt:], np.int32(IGNORE))
    return CallView(
        call=number,
        tokens=tokens,
        prompt=prompt,
        header=header,
        trained=trained,
        runs=runs,
        weight=call.weight,
        values=values,
    )


def size_of(call: Call, cut: CutCall | None, pieces: Pieces) -> int:
    """Count the tokens of a call."""
    if call.prompt_ids is not None and call.completion_ids is not None:
        return len(call.prompt_ids) + len(call.completion_ids)
    assert cut is not None
    return pieces.size(cut.pieces)


def content_of(call: Call, cut: CutCall | None) -> bytes:
    """Return a hash of all that a call says, but its id; its text by the numbers of its pieces."""
    hash_ = hashlib.sha256()
    arrays: list[NDArray[Any] | None]
    arrays = [call.prompt_ids, call.completion_ids, call.logprobs, call.advantages]
    said: list[object] = [call.weight, call.reward, call.role]
    if call.completion_ids is not None:
        mask = call.loss_mask
        arrays.append(np.ones(len(call.completion_ids), bool) if mask is None else mask)
    elif cut is not None:
        arrays.append(cut.pieces)
        completion = [border for border in cut.borders if border.piece >= cut.prompt]
        said += [cut.prompt, [(each.piece, each.part, each.trained) for each in completion]]
    for array in arrays:
        hash_.update(b"none" if array is None else np.ascontiguousarray(array).data)
        hash_.update(b"|")
    hash_.update(repr(said).encode())
    return hash_.digest()


def key_of_calls(calls: Iterable[Call]) -> bytes:
    """Return what those of a group that are trained say, each once; nothing where none is.

    Groups with the same key are equal, as `schemas/FORMAT.md` describes it.
    """
    found = dict.fromkeys(
        (each.id.removeprefix(each.where), _key(each)) for each in calls if each.trained
    )
    return b"".join(content for _, content in found)


def _key(call: Call) -> bytes:
    said = call.conversation
    if call.prompt_ids is not None or said is None:
        return content_of(call, None)
    more = [said.messages[-1].finished, said.template_kwargs]
    text = key(said) + json.dumps(more, sort_keys=True, default=str).encode()
    return hashlib.sha256(content_of(call, None) + text).digest()


def compared(call: Call, cut: CutCall, pieces: Pieces, tokenizer: Tokenizer) -> tuple[str, str]:
    """Say how the ids of a call agree with what its messages are rendered to, and where not."""
    assert call.prompt_ids is not None
    assert call.completion_ids is not None
    tokens, stops = pieces.tokens(cut.pieces)
    prompt = stops.item(cut.prompt)
    for part, own, other in (
        ("prompt", call.prompt_ids, tokens[:prompt]),
        ("completion", call.completion_ids, tokens[prompt:]),
    ):
        if not np.array_equal(own, other):
            at = common_prefix(own, other)
            logged, shown = (
                repr(tokenizer.decode(ids[at : at + 3])) if at < len(ids) else "nothing"
                for ids in (own, other)
            )
            where = f"{call.where}, token {at:,} of the {part}"
            return f"rendered-otherwise {part}", f"{where}: {logged} logged, {shown} rendered"
    return "rendered-equal", ""


def columns_of_calls(calls: Sequence[Call]) -> Calls:
    """Return what the columns of calls say of each."""
    rewards = [np.nan if call.reward is None else call.reward for call in calls]
    roles = np.array([ROLES[call.role] for call in calls], np.uint8)
    return Calls([call.id for call in calls], roles, np.array(rewards, np.float32))
