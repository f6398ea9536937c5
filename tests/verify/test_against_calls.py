"""Datasets of calls and what was logged: equal, or one thing changed in one of them and found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import logged_calls
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logged_groups import ASKED, KINDS, LOGS, PLAIN, answered, compared, ids, packed, said, written
from packed_twice import TOKENIZER, Json
from runs import ROOT, run

from reasonpack.datasets.options import Options
from reasonpack.errors import NothingPackedError
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

LAYOUTS = ["onepass", "npass"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_of_calls_is_what_was_logged(kind: str, layout: str, tmp_path: Path) -> None:
    findings = compared(*packed(tmp_path, KINDS[kind], layout=layout))
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["records"] == len(KINDS[kind])
    assert findings.checked["views"] == {"plain": 9, "rolled out": 5}.get(kind, 4)


@pytest.mark.parametrize(("kind", "limit"), [("rolled out", 8), ("pairs", 45)])
def test_calls_that_are_kept_apart_may_be_divided(kind: str, limit: int, tmp_path: Path) -> None:
    findings = compared(*packed(tmp_path, KINDS[kind], max_length=limit))
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["samples"] > findings.checked["groups"] == 1


def test_an_id_that_no_integer_type_holds_is_a_reject(tmp_path: Path) -> None:
    calls = [ids("r", "a", [5, 6], [7]), ids("r", "b", [5, 6], [10**20])]
    findings = compared(*packed(tmp_path, calls))
    assert (findings.total, findings.checked["rejects"]) == (0, 1), findings.listed


def test_a_group_whose_messages_have_weights_is_no_duplicate_of_one_without(tmp_path: Path) -> None:
    calls = [answered(each, each, ASKED, "4") for each in "ab"]
    calls[1]["response"]["weight"] = 2
    findings = compared(*packed(tmp_path, calls, dedup="exact"))
    assert (findings.total, findings.checked["rejects"]) == (0, 1), findings.listed


@pytest.mark.parametrize("seed", [2, 3])
def test_copies_of_a_group_that_is_not_read_are_not_counted(seed: int, tmp_path: Path) -> None:
    request = {"messages": ASKED, "stop": ["x"]}
    calls = [{"id": "z", "trace_id": "z", "request": request, "response": "4"}, *PLAIN]
    source = written(tmp_path / "calls.jsonl", calls)
    options = Options(tokenizer=str(TOKENIZER), shuffle=True, seed=seed)
    pack_files([f"{source}:2"], tmp_path / "out", options, run=run(unit_bytes=500))
    findings = compared(tmp_path / "out", source)
    assert findings.total == 0, findings.listed
    assert sum(number for number, _ in findings.unchecked.values()) == 1


def test_of_several_samples_in_a_row_the_one_that_differs_is_explained(tmp_path: Path) -> None:
    calls = [ids(*each, [5], [7 + n]) for n, each in enumerate(["ax", "by", "bz"])]
    source = written(tmp_path / "calls.jsonl", calls)
    asked: Json = {"packing": True, "max_length": 50, "layout": "npass", "loss_weights": "data"}
    pack_files([str(source)], tmp_path / "out", Options(tokenizer=str(TOKENIZER), **asked))
    written(source, [*calls[:2], {**calls[2], "weight": 2}])
    (finding,) = compared(tmp_path / "out", source).listed
    assert "weight 1.0, expected 2.0" in finding.what


@pytest.mark.long
def test_messages_beside_ids_change_no_count(tmp_path: Path) -> None:
    call = answered("t", "first", ASKED, "4")
    call["response"] = said("assistant", "4")
    both = {**call, "prompt_ids": [5], "completion_ids": [6]}
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    out, source = packed(tmp_path, [both], chat_template=template)
    assert json.loads((out / "manifest.json").read_bytes())["counts"]["missing_reasoning"] == 1
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.long
@pytest.mark.parametrize("overlong", ["split", "skip"])
def test_groups_that_are_too_long(overlong: str, tmp_path: Path) -> None:
    """Some calls, and some groups, are longer than a row."""
    calls = [ids("g", f"{n}", [5, 6], [7 + n] * 5) for n in range(4)]
    calls += [ids("g", "long", [5, 6], [7] * 30), ids("other", "short", [5], [7])]
    calls += [{"trace_id": "other", "calls": [ids("", "x", [6], [7] * 30), ids("", "y", [6], [7])]}]
    out, source = packed(tmp_path, calls, max_length=16, overlong=overlong)
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["rejects confirmed"] == (1 if overlong == "split" else 6)


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", sorted(path.name for path in LOGS.iterdir()))
def test_the_logs_of_each_format_are_compared(name: str, layout: Any, tmp_path: Path) -> None:
    options = Options(tokenizer=str(TOKENIZER), layout=layout)
    manifest = pack_files([str(LOGS / name)], tmp_path / "out", options)
    findings = compared(tmp_path / "out", LOGS / name)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["views"] == manifest.counts.views > 1
    assert findings.checked["packed"] > 0


# --- one thing changed in the source -------------------------------------------------------------


def change(number: int, **fields: Any) -> Callable[[list[Json]], object]:
    return lambda records: records[number].update(fields)


CHANGES: dict[str, tuple[str, Callable[[list[Json]], object], str]] = {
    "another answer": ("plain", change(0, response=said("assistant", "five")), "RP309"),
    "another weight": ("plain", change(3, weight=0.75), "RP316"),
    "another mask": ("plain", change(7, loss_mask=[1, 1]), "RP310"),
    "another id": ("plain", change(5, id="z"), "RP317"),
    "another group": ("plain", change(10, trace_id="i"), "RP309"),
    "a line more": ("plain", lambda records: records.append(ids("z", "z", [5], [6])), "RP304"),
    "a line less": ("plain", lambda records: records.pop(), "RP305"),
    "a record that cannot be packed": ("plain", change(1, prompt_ids=[]), "RP308"),
    "another reward": ("rolled out", change(0, reward=3), "RP317"),
    "another role": ("pairs", lambda records: swap(records[0]), "RP317"),
}


def swap(pair: Json) -> None:
    pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_one_change_of_the_source_is_found(
    name: str, tmp_path: Path, good: Callable[[str], tuple[Path, list[Json]]]
) -> None:
    kind, apply, code = CHANGES[name]
    out, records = good(kind)
    apply(records)
    source = written(tmp_path / "calls.jsonl", records)
    findings = verify_dataset(out, [str(source)])
    assert code in findings.counts, findings.listed
    assert "not the bytes that were packed" in findings.warnings[0]
    assert findings.total <= 2


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Json]]]:
    """Give datasets that are packed once, each with its records, to change."""
    made = {kind: packed(tmp_path_factory.mktemp("good"), KINDS[kind])[0] for kind in KINDS}
    return lambda kind: (made[kind], json.loads(json.dumps(KINDS[kind])))


def test_the_command_says_what_was_rebuilt(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    out, source = packed(tmp_path, PLAIN)
    status, _, told = command(out, "--against", source)
    assert status == 0
    assert "; 11 records of the input, in 3 groups packed and 0 rejected" in told
    assert "rebuilt: 3 groups with 9 calls: what they train is trained once, with the w" in told
    assert "the field that groups the records" in told
    changed = written(tmp_path / "calls.jsonl", [*PLAIN[:3], {**PLAIN[3], "weight": 2}, *PLAIN[4:]])
    status, said_of_it, _ = command(out, "--against", changed)
    assert status == 1
    assert "sample 'i', token 2: of call 'a': weight 1.5, expected 2.5" in said_of_it


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_samples_in_any_shards_are_compared_all_or_some(layout: str, tmp_path: Path) -> None:
    calls = [ids(f"g{n % 7}", f"{n}", [5, n % 7 + 9], [7, n + 20]) for n in range(40)]
    out, source = packed(tmp_path, calls, layout=layout, shuffle=True)
    for sample in (None, 3):
        findings = compared(out, source, sample=sample)
        assert (findings.total, findings.unchecked) == (0, {}), findings.listed


# --- anything ------------------------------------------------------------------------------------


@st.composite
def logged(draw: st.DrawFn) -> list[Json]:
    """Calls over three tokens, of one group or two, with values or without; most go on."""
    calls: list[Json] = []
    has_values, token = draw(st.booleans()), st.integers(5, 7)
    for number in range(draw(st.integers(1, 7))):
        begun: list[int] = []
        if calls and draw(st.integers(0, 5)):
            earlier = draw(st.sampled_from(calls))
            whole = earlier["prompt_ids"] + earlier["completion_ids"]
            begun = whole[: draw(st.sampled_from([len(whole), len(earlier["prompt_ids"])]))]
        prompt = begun + draw(st.lists(token, min_size=0 if begun else 1, max_size=2))
        completion = draw(st.lists(token, min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=4))
        call = ids(draw(st.sampled_from("ab")), f"{number}", prompt, completion)
        size = len(completion)
        if draw(st.booleans()):
            call["loss_mask"] = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
        if draw(st.booleans()):
            del call["id"]
        if has_values:
            call["logprobs"] = draw(
                st.lists(st.floats(-3, 0, width=32), min_size=size, max_size=size)
            )
            call["advantage"] = draw(st.sampled_from([-1, 0.5, 1]))
            call["reward"] = draw(st.sampled_from([None, 1]))
        call["weight"] = draw(st.sampled_from([1, 1, 0.1, 3]))
        calls.append(call)
    calls += [draw(st.sampled_from(calls))] if draw(st.booleans()) else []
    return draw(st.permutations(calls)) if draw(st.booleans()) else calls


@pytest.mark.long
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(logged(), st.sampled_from(LAYOUTS), st.sampled_from([None, 12]), st.booleans())
def test_random_groups_are_what_was_logged(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[Json],
    layout: str,
    most: int | None,
    divides: bool,
) -> None:
    asked = {"max_length": most, "overlong": "split" if divides else "skip"} if most else {}
    try:
        made = packed(tmp_path_factory.mktemp("calls"), calls, layout=layout, **asked)
    except NothingPackedError:
        return
    findings = compared(*made)
    assert (findings.total, findings.unchecked) == (0, {}), (findings.listed, calls, layout)


@pytest.mark.long
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_agents_are_what_was_logged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    family = data.draw(st.sampled_from(sorted(oracle.FAMILIES)))
    facts = oracle.FAMILIES[family]
    calls = data.draw(
        logged_calls.groups(reasoning=None if facts.shows_reasoning else "never", most=8)
    )
    template = str(ROOT / "fixtures" / "templates" / f"{family}.jinja")
    try:
        made = packed(
            tmp_path_factory.mktemp("calls"),
            [{**call, "trace_id": "t"} for call in calls],
            chat_template=template,
            input_format="calls",
            layout=data.draw(st.sampled_from(LAYOUTS)),
        )
    except NothingPackedError:
        return
    findings = compared(*made)
    assert (findings.total, findings.unchecked) == (0, {}), (family, findings, calls)


def test_messages_are_those_of_the_first_call_that_was_packed(tmp_path: Path) -> None:
    """A rejected call with the same beginning counts its messages otherwise."""
    ask, more = "How many are two and two?", "Are you sure that it is so?"
    items = [
        said("user", ask),
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Add them."}]},
        {"type": "message", **said("assistant", "They are four.")},
        said("user", more),
    ]
    long = {"output": [{"type": "message", **said("assistant", "So it is. " * 100)}]}
    history = [said("user", ask), said("assistant", "They are four."), said("user", more)]
    calls = [
        {
            "trace_id": "t",
            "request": {"input": items},
            "response": {"object": "response", **long},
        },
        answered("t", "a", history, "As I said, four."),
    ]
    path, output = tmp_path / "calls.jsonl", tmp_path / "out"
    path.write_text("".join(json.dumps(call) + "\n" for call in calls))
    options = Options(
        tokenizer=str(TOKENIZER), input_format="calls", max_length=120, overlong="skip"
    )
    manifest = pack_files([str(path)], output, options)
    assert (manifest.counts.packed, manifest.counts.rejects) == (1, {"overlong": 1})
    assert verify_dataset(output, [str(path)]).listed == []
