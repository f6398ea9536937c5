"""Faults that others had in the joining of calls, planted in what packs: `verify` finds each.

    calls ── read ──▶ call_view ──▶ GroupForest ──▶ samples ──▶ dataset
              ▲           ▲             ▲             ▲
              └─────────── one fault at one of these ─┘

Nothing of `reasonpack.verify` is touched, but for what it shares with what packs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logged_groups import KINDS, LOGS, answered, ids, packed, said

from reasonpack.records import group_index, record_places
from reasonpack.records.calls import Call
from reasonpack.records.readers import atif, claude_code, codex, pi
from reasonpack.rows.group_forest import ROOT, CallView, GroupForest
from reasonpack.rows.sample import Sample
from reasonpack.run import calls as packing
from reasonpack.run import waiting_calls
from reasonpack.tokens.call_cutter import CutCall
from reasonpack.verify.check import verify_dataset
from reasonpack.views.view import View
from tests.changed import replace

pytestmark = pytest.mark.long

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Planted:
    """A fault, the calls that show it, and by which codes of `verify --against` it is found."""

    kind: str
    plant: Plant
    codes: set[str]


# --- where it is planted -------------------------------------------------------------------------


def in_calls(change: Callable[[Call], Call]) -> Plant:
    """Change each call as it is read."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = waiting_calls.read_calls
        patch.setattr(
            waiting_calls, "read_calls", lambda *args: [change(each) for each in real(*args)]
        )

    return plant


def in_drafts(reader: Any, change: Callable[[Any], object]) -> Plant:
    """Change each draft of a step of the agent."""

    def judge(real: Any, draft: Any, *args: Any, **more: Any) -> None:
        real(draft, *args, **more)
        change(draft)

    return in_place(reader, "_judge", judge)


def in_views(change: Callable[[CallView], CallView]) -> Plant:
    """Change the view of each call in tokens."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = packing.call_view
        patch.setattr(packing, "call_view", lambda *args: change(real(*args)))

    return plant


def in_texts(change: Callable[[View], View]) -> Plant:
    """Change the view of each call in text."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = waiting_calls.view_of_call

        def view(*args: Any) -> Any:
            made = real(*args)
            return change(made) if isinstance(made, View) else made

        patch.setattr(waiting_calls, "view_of_call", view)

    return plant


def in_samples(change: Callable[[Sample], Sample]) -> Plant:
    """Change each sample."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = packing.write
        patch.setattr(packing, "write", lambda *args: [change(each) for each in real(*args)])

    return plant


def in_place(owner: Any, name: str, new: Callable[..., Any]) -> Plant:
    """Put a function in the place of another, which it is given."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **more: new(real, *args, **more))

    return plant


def everywhere(owner: Any, name: str, new: Callable[..., Any]) -> Plant:
    """Put a function in the place of another wherever it is imported, in `verify` too."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)
        for module in [each for key, each in sys.modules.items() if key.startswith("reasonpack.")]:
            if getattr(module, name, None) is real:
                patch.setattr(module, name, lambda *args: new(real, *args))

    return plant


# --- the faults ----------------------------------------------------------------------------------


def without_last(real: Any, *args: Any) -> Iterator[Any]:
    """Lose the last record of each group."""
    for *known, records in real(*args):
        yield *known, iter([*records][:-1])


def first_prefix(real: Any, forest: GroupForest, view: CallView) -> tuple[int, int]:
    """Follow the first branch alone."""
    first = next(iter(forest._further(view, ROOT, 0, 0)), None)
    return real(forest, view) if first is None else (first[0], forest._followed(view, *first))


def not_added(real: Any, forest: GroupForest, origin: list[int]) -> Any:
    """Train what another call trains with the weight of the first of them."""
    columns = real(forest, origin)
    first = np.array(forest._bounds)
    group = np.searchsorted(np.array(origin)[first], np.arange(forest.size), "right") - 1
    weights = np.array([each.view.weight for each in forest._branches])
    by_first = weights[first[group] + columns["call"]]
    return {**columns, "weight": np.where(columns["trained"], by_first, 0.0)}


def first_two(kept: dict[int, Any], _repeated: int) -> dict[int, Any]:
    return dict([*kept.items()][:2])


def trained_in_a_prompt(view: CallView) -> CallView:
    """Train what the answer before was, within the prompt of the next."""
    if view.prompt != 5:
        return view
    trained = np.concatenate([[True, True, False], view.trained])
    return replace(view, prompt=2, header=2, trained=trained)


def generated(call: Call) -> Call:
    """Take an empty generation for one that stopped at once."""
    if call.completion_ids is None or call.completion_ids.size:
        return call
    return replace(call, completion_ids=np.array([13], np.int32), trained=True)


def by_row(sample: Sample) -> Sample:
    """Subtract the mean advantage of a row."""
    advantages = sample.extra["advantages"]
    targets = sample.labels >= 0
    normalised = np.where(targets, advantages - advantages[targets].mean(), 0)
    return replace(sample, extra={**sample.extra, "advantages": normalised.astype(np.float32)})


def swapped(sample: Sample) -> Sample:
    calls = sample.calls
    assert calls is not None
    return replace(sample, calls=replace(calls, id=[*calls.id[::-1]]))


def shifted(view: CallView) -> CallView:
    """Shift log probabilities by a token, as labels are."""
    return replace(view, values={**view.values, "logprobs": np.roll(view.values["logprobs"], 1)})


def filled(view: CallView) -> CallView:
    """Take an advantage that was not logged for 0."""
    return replace(view, values={name: np.nan_to_num(one) for name, one in view.values.items()})


def without_end(view: CallView) -> CallView:
    """Lose the tokens after the last one that is trained."""
    size = 1 + int(np.flatnonzero(view.trained)[-1])
    end = view.prompt + size
    runs = [(min(stop, end), kind, message) for stop, kind, message in view.runs]
    values = {name: one[:size] for name, one in view.values.items()}
    cut = {"tokens": view.tokens[:end], "trained": view.trained[:size], "values": values}
    return replace(view, runs=runs, **cut)


def logged(name: str) -> list[dict[str, Any]]:
    """Return the records of a fixture, of which some make calls only together."""
    return [*map(json.loads, (LOGS / f"{name}.jsonl").read_bytes().splitlines())]


def with_kept_messages() -> list[dict[str, Any]]:
    """Return a session of Claude Code whose compaction kept a message, with a copy of it."""
    lines = logged("claude_code")
    kept = {"anchorUuid": "u10", "uuids": ["u1", "u20"]}
    lines[10]["compactMetadata"]["preservedMessages"] = kept
    copy = {**lines[9], "uuid": "u20", "parentUuid": "u10"}
    copy["message"] = {**copy["message"], "id": "msg_9"}
    return [*lines[:12], copy, *lines[12:]]


def without_results(real: Any, session: Any, last: int) -> Any:
    history, notes = real(session, last)
    kept = [said for said in history if "tool_result" not in json.dumps(said.message)]
    return (kept if len(history) > 2 else history), notes


def not_copied(real: Any, *args: Any, **more: Any) -> Any:
    """Take what was copied from elsewhere for a call."""
    return real(*args, **{**more, "copied": False})


def uncompacted(real: Any, way: Any) -> Any:
    return real([line for line in way if line.fields.get("type") != "compaction"])


def without_operations(real: Any, step: Any) -> Any:
    """Take what the system did to the context for a message."""
    return {**real(step), "role": "user"} if step.fields["source"] == "system" else real(step)


EAST = said("user", "How many boats lie in the east harbour?")
TWELVE = "There are twelve boats in the east."
TALK = [
    {**answered("t", "long", [EAST], "Twelve. " * 40), "response": said("assistant", "Hm. " * 99)},
    answered("t", "one", [EAST], TWELVE),
    answered("t", "two", [EAST, said("assistant", TWELVE), said("user", "And the west?")], "Nine."),
]
"""Of texts that are long enough to be found in a prompt, behind a call that is left out."""
RECORDS = {
    **KINDS,
    **{
        name: logged(name)
        for name in ("atif", "codex", "pi", "verifiers", "verifiers_rollouts", "nemo_gym_rollouts")
    },
    "claude_code": with_kept_messages(),
    "talk": TALK,
    "masked": [ids("m", "a", [5, 6], [7, 8], loss_mask=[1, 0]), ids("m", "b", [5, 6, 7, 9], [7])],
    "foreign": [ids("f", "a", [5], [7, 1_000_000])],
}


def other_kinds(view: CallView) -> CallView:
    """Take what was said before for what the model saw of its answers, and the other way round."""
    runs = [(stop, {0: 2, 2: 0}.get(kind, kind), message) for stop, kind, message in view.runs]
    return replace(view, runs=runs)


def other_messages(view: CallView) -> CallView:
    """Count the messages of the history from another one on."""
    runs = [(stop, kind, message + (kind in (0, 2))) for stop, kind, message in view.runs]
    return replace(view, runs=runs)


def apart(is_so: bool) -> Plant:
    def begin(real: Any, forest: GroupForest, **_: Any) -> None:
        real(forest, apart=is_so)

    return in_place(GroupForest, "begin", begin)


def unstopped(view: View) -> View:
    end = len(view.prompt) + len(view.completion) - len("<|im_end|>")
    spans = tuple(span._replace(stop=min(span.stop, end)) for span in view.spans)
    return replace(view, completion=view.completion.removesuffix("<|im_end|>"), spans=spans)


FAULTS = {
    "joined at the first prefix": Planted(
        "plain", in_place(GroupForest, "_longest_prefix", first_prefix), {"RP309", "RP310"}
    ),
    "weights not added up": Planted(
        "plain", in_place(GroupForest, "_columns", not_added), {"RP316"}
    ),
    "the weight of a call forgotten": Planted(
        "plain", in_calls(lambda call: replace(call, weight=1.0)), {"RP316"}
    ),
    "a call lost": Planted(
        "plain",
        in_place(packing.CallGroups, "_kept", lambda real, *args: (first_two(*real(*args)), 0)),
        {"RP309"},
    ),
    "an empty generation taken for an answer": Planted("plain", in_calls(generated), {"RP309"}),
    "an answer trained again where a prompt holds it": Planted(
        "plain", in_views(trained_in_a_prompt), {"RP221"}
    ),
    "a mask forgotten": Planted(
        "plain", in_calls(lambda call: replace(call, loss_mask=None)), {"RP310"}
    ),
    "equal answers as parents of their own": Planted("plain", apart(True), {"RP310"}),
    "a stop that is not trained": Planted("plain", in_texts(unstopped), {"RP309"}),
    "the last record of each group lost": Planted(
        "plain", everywhere(record_places, "by_group", without_last), {"RP304", "RP316"}
    ),
    "the last record of all lost": Planted(
        "plain",
        everywhere(record_places, "sort_by_group", lambda real, entries: real(entries[:-1])),
        {"RP304"},
    ),
    "groups not told apart": Planted(
        "plain", in_place(group_index, "group_name", lambda *_: "t"), {"RP304", "RP309"}
    ),
    "answers with values merged": Planted("rolled out", apart(False), {"RP310"}),
    "log probabilities of other tokens": Planted("rolled out", in_views(shifted), {"RP317"}),
    "advantages normalised by row": Planted("rolled out", in_samples(by_row), {"RP317"}),
    "an advantage that was not logged taken for 0": Planted(
        "rolled out", in_views(filled), {"RP317"}
    ),
    "the ids of calls swapped": Planted("rolled out", in_samples(swapped), {"RP317"}),
    "rewards forgotten": Planted(
        "rolled out", in_calls(lambda call: replace(call, reward=None)), {"RP317"}
    ),
    "kinds of the history swapped": Planted("talk", in_views(other_kinds), {"RP312"}),
    "messages of the history counted otherwise": Planted(
        "talk", in_views(other_messages), {"RP312"}
    ),
    "a history known of a call that is left out": Planted(
        "talk", in_place(CutCall, "with_shared_borders", lambda _, cut, written: cut), {"RP312"}
    ),
    "a history known of a call with ids": Planted(
        "atif", in_place(CutCall, "with_shared_borders", lambda _, cut, written: cut), {"RP312"}
    ),
    "results of tools forgotten": Planted(
        "claude_code", in_place(claude_code._Session, "history", without_results), {"RP309"}
    ),
    "a copy that a compaction kept trained": Planted(
        "claude_code", in_place(claude_code, "draft_of", not_copied), {"RP309"}
    ),
    "a compacted history that is shown whole": Planted(
        "pi", in_place(pi, "_kept", uncompacted), {"RP309"}
    ),
    "a new history left out": Planted(
        "codex", in_place(codex._Session, "replace", lambda *_: None), {"RP309"}
    ),
    "a system text read as the user's": Planted(
        "atif", in_place(atif, "_message", without_operations), {"RP309"}
    ),
    "copied context trained": Planted(
        "atif", in_drafts(atif, lambda draft: setattr(draft, "copied", False)), {"RP309"}
    ),
    "another id of a call": Planted(
        "plain",
        in_calls(lambda call: replace(call, id=call.id.replace("retry", "other"))),
        {"RP317"},
    ),
    "the end of an answer lost, which is not trained": Planted(
        "masked", in_views(without_end), {"RP309"}
    ),
    "an id that the tokenizer does not have": Planted(
        "foreign", in_place(waiting_calls, "check_ids", lambda *_: None), {"RP308"}
    ),
    "a rejected answer trained": Planted(
        "pairs", in_calls(lambda call: replace(call, role="chosen")), {"RP317"}
    ),
}


@pytest.mark.parametrize("kind", ["talk", "claude_code"])
def test_without_a_fault_nothing_is_found(kind: str, tmp_path: Path) -> None:
    out, source = packed(tmp_path, RECORDS[kind], max_length=300)
    findings = verify_dataset(out, [str(source)])
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        (name, layout)
        for name, fault in FAULTS.items()
        for layout in ("onepass", "npass")[: 1 + (fault.kind in KINDS)]
    ],
)
def test_a_planted_fault_is_found(
    name: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    fault.plant(monkeypatch)
    out, source = packed(tmp_path, RECORDS[fault.kind], layout=layout, max_length=300)
    findings = verify_dataset(out, [str(source)])
    assert set(findings.counts) == fault.codes, [str(each) for each in findings.listed]
