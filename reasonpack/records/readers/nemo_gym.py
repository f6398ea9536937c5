"""The records of NeMo Gym → drafts of calls.

    {"rollout_id": …, "model_call_id": …, "prompt_token_ids": […], "generation_token_ids": […],
     "generation_log_probs": […], "output_items": […]}                     a captured call

    {"responses_create_params": {"input": […], "tools": […]}, "reward": 1.0,
     "response": {"output": [reasoning, function_call, function_call_output, message]}}
                                                      a rollout: here of two calls

In a rollout a call ends before a tool result or a message of another role; if several items of
such a run carry ids, a call ends after each of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import VALUE_NAMES, CallDraft, Said, draft_of
from reasonpack.records.draft import is_absent, without
from reasonpack.records.last_answer import OF_THE_END
from reasonpack.records.readers.answers import ECHOES
from reasonpack.records.readers.generic import calls_of
from reasonpack.records.readers.levels import Place, add_found, noted
from reasonpack.records.readers.request import (
    OF_A_REQUEST,
    add_context,
    add_echoes,
    add_prompt,
    lead,
)
from reasonpack.records.reading import Reading
from reasonpack.records.responses import is_by_model
from reasonpack.records.value_types import typed, wrong_type

_GYM_ID = re.compile("rs_[0-9a-f]{32}")
_VERSION = 1
"""The latest version of a captured call that is read."""
_IDS = {
    "prompt_token_ids": "prompt_ids",
    "generation_token_ids": "completion_ids",
    "generation_log_probs": "logprobs",
}
_ROUTES = "routed_experts"
_ENTRY = frozenset(("schema_version", "rollout_id", "output_items", "token_item_index", _ROUTES))
_ASKED = "responses_create_params"
_ROLLOUT = frozenset(
    (
        *(_ASKED, "response", "reward", "id"),
        *("_ng_task_index", "_ng_rollout_index", "ng_model_call_capture", *OF_THE_END),
    )
)


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a captured call, or a rollout."""
    is_entry = {"rollout_id", "generation_token_ids"} <= record.keys()
    return is_entry or isinstance(record.get(_ASKED), dict)


def drafts(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of a record.

    Raises:
        RecordError: the version is unknown, or parts contradict each other.
    """
    if _ASKED in record:
        return [*_rollout(record, reading)]
    version = record.get("schema_version", _VERSION)
    if type(version) is not int or not 1 <= version <= _VERSION:
        what = f"got {str(version)[:30]}"
        fix = "read it with a reasonpack that knows it, or write it in that version"
        raise RecordError("type", "schema_version", what, f"a record of version {_VERSION}", fix)
    found = [*calls_of(record, Place(reading), passed=_ENTRY)]
    for each in found:
        # The prompt is logged only as ids.
        each.notes += ["text-not-compared"] if record.get("output_items") else []
        each.notes += [f"unread {_ROUTES}"] if record.get(_ROUTES) is not None else []
    return found


def _rollout(record: Mapping[str, Any], reading: Reading) -> Iterator[CallDraft]:
    own = Place(reading).level(record, _ROLLOUT)
    asked = own.below(_ASKED).level(record[_ASKED], OF_A_REQUEST)
    response = record.get("response")
    if is_absent(response):
        return
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise wrong_type("response", type(response).__name__, "an object with a list as output")
    said = own.below("response").level(response, ("id", "output", *OF_THE_END, *ECHOES))
    begun = CallDraft()
    add_prompt(begun, (asked,))
    add_context(begun, (asked,))
    add_echoes(begun, said)
    lead(begun)
    add_found(begun, [(begun.values, VALUE_NAMES)], (own,))
    own_id = next((i for i in (record.get("id"), said.fields.get("id")) if i), "")
    items = typed(response["output"], list[dict[str, Any]], "response.output")
    yield from noted(
        _calls(begun, items, str(typed(own_id, str | int, "id"))), [own, said], items=[asked]
    )


def _calls(begun: CallDraft, items: list[dict[str, Any]], own_id: str) -> Iterator[CallDraft]:
    """Yield the calls of a rollout; `begun` has the prompt, context and values that all share."""
    asked = begun.prompt
    asked = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked or []
    if not isinstance(asked, list):
        raise wrong_type(begun.place("prompt"), type(asked).__name__, "a string or a list")
    history = [Said(_with_text(each), begun.place(f"prompt[{i}]")) for i, each in enumerate(asked)]
    said = [
        Said(_with_text(without(item, (*_IDS, _ROUTES))), f"response.output[{i}]")
        for i, item in enumerate(items)
    ]
    for k, (start, stop) in enumerate(_runs(items)):
        draft = draft_of(
            [*history, *said[:start]],
            said[start:stop],
            id=f"{own_id}#{k}" if own_id else "",
            context=begun.context,
            values=begun.values,
            places={**begun.places, "completion": "response.output"},
        )
        for i in filter(lambda i: _has_ids(items[i]), range(start, stop)):
            for name, kind in _IDS.items():
                if items[i].get(name) is not None:
                    draft.tokens[kind] = items[i][name]
                    draft.places[kind] = f"response.output[{i}].{name}"
        yield draft


def _with_text(item: Any) -> Any:
    """Return a reasoning item of Gym's, recognised by its id, with its summary as its text.

    A summary of several parts is several blocks of reasoning, which no template can render.
    """
    summary = item.get("summary") if isinstance(item, dict) else None
    if not isinstance(summary, list) or len(summary) != 1 or not isinstance(summary[0], dict):
        return item
    hides = not (is_absent(item.get("content")) and is_absent(item.get("encrypted_content")))
    if hides or not _GYM_ID.fullmatch(str(item.get("id"))):
        return item
    text = {"type": "reasoning_text", "text": summary[0].get("text")}
    return {**item, "summary": [], "content": [text]}


def _runs(items: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of each call among the items of a rollout."""
    at = 0
    for by_model, group in groupby(items, key=is_by_model):
        run = [*group]
        start, stop = at, at + len(run)
        at = stop
        if not by_model:
            continue
        *cuts, _ = [start + i + 1 for i, item in enumerate(run) if _has_ids(item)] or [stop]
        yield from zip([start, *cuts], [*cuts, stop], strict=True)


def _has_ids(item: Mapping[str, Any]) -> bool:
    return item.get("generation_token_ids") is not None
