"""Datasets of calls and what was logged: equal, or one thing changed in one of them and found."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import logged_calls
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_twice import TOKENIZER, Json
from runs import ROOT, run

from reasonpack.datasets.options import Options
from reasonpack.errors import NothingPackedError
from reasonpack.run import calls as packing
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import Findings

LOGS = ROOT / "tests" / "records" / "call_logs"
LAYOUTS = ["onepass", "npass"]


def said(role: str, text: str, **more: Any) -> Json:
    return {"role": role, "content": text, **more}


def ids(group: str, name: str, prompt: list[int], completion: list[int], **more: Any) -> Json:
    return {
        "trace_id": group,
        "id": name,
        "prompt_ids": prompt,
        "completion_ids": completion,
        **more,
    }


def answered(group: str, name: str, history: Sequence[Json], text: str, **more: Any) -> Json:
    answer = said("assistant", text, reasoning_content="Hm, " + text)
    return {"trace_id": group, "id": name, "messages": history, "response": answer, **more}


ASKED = [said("user", "2+2?")]
GOING_ON = [*ASKED, said("assistant", "4"), said("user", "And 3+3?")]
PLAIN = [
    answered("t", "first", ASKED, "4"),
    ids("i", "a", [5, 6], [7, 8], weight=0.5),
    answered("t", "next", GOING_ON, "6"),
    ids("i", "b", [5, 6], [7, 8]),
    ids("i", "e", [5, 6], []),
    ids("i", "c", [5, 6, 7, 8, 9], [10]),
    answered("t", "again", ASKED, "four", weight=2),
    ids("i", "d", [5, 6, 7, 8, 9, 10, 11], [12, 13], loss_mask=[0, 1]),
    ids("i", "a", [5, 6], [7, 8], weight=0.5),
    answered("t", "retry", GOING_ON, "6"),
    {"prompt_ids": [5], "completion_ids": [7]},
]
"""Retries, equal answers, histories that go on, one call logged twice, an empty generation."""
VALUES: Json = {"logprobs": [-0.5, -1.5], "advantage": 1, "reward": 2}
ROLLED_OUT = [
    ids("r", "a", [5, 6], [7, 8], **VALUES),
    ids("r", "b", [5, 6], [7, 9], **{**VALUES, "advantage": -1, "reward": None}),
    ids("r", "c", [5, 6, 7, 9, 4], [7, 8], **{**VALUES, "advantage": [0.25, 0.5]}),
    ids("r", "d", [5, 6], [7, 9], **{**VALUES, "logprobs": [-1, -2]}),
    ids("r", "e", [5, 6, 7], [7, 9], **{**VALUES, "advantage": None}),
]
PAIRS = [
    {"id": "p", "trace_id": "p", "messages": ASKED, "chosen": "4", "rejected": "5"},
    {"id": "q", "trace_id": "p", "messages": GOING_ON, "chosen": "6", "rejected": "6!"},
]
KINDS = {"plain": PLAIN, "rolled out": ROLLED_OUT, "pairs": PAIRS}


def written(path: Path, records: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def packed(folder: Path, records: Sequence[Json], **asked: Any) -> tuple[Path, Path]:
    source = written(folder / "calls.jsonl", records)
    options = Options(tokenizer=str(TOKENIZER), on_error="skip", **asked)
    pack_files([str(source)], folder / "out", options, run=run(unit_bytes=500))
    return folder / "out", source


def compared(out: Path, *sources: Path, **asked: Any) -> Findings:
    """Compare a dataset, which by itself has to be sound."""
    assert verify_dataset(out).total == 0
    return verify_dataset(out, [*map(str, sources)], **asked)


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


def test_columns_that_were_asked_for(tmp_path: Path) -> None:
    calls = [ids("r", "a", [5, 6], [7, 8], logprobs=[-1, -2]), ids("r", "b", [5, 6], [9])]
    findings = compared(*packed(tmp_path, calls, call_columns=("logprobs",)))
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert (findings.checked["views"], findings.checked["rejects confirmed"]) == (1, 1)


def test_a_value_that_was_dropped_for_want_of_its_column_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonpack.run.waiting_calls.check_columns", lambda *_: [])
    calls = [ids("r", "a", [5, 6], [7], reward=1, logprobs=[-1])]
    findings = compared(*packed(tmp_path, calls, call_columns=("logprobs",)))
    assert [*findings.counts] == ["RP308"], findings.listed


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["message", "turn", "conversation"])
@pytest.mark.parametrize("kind", ["plain", "pairs"])
def test_weights_and_splits_of_groups(kind: str, scheme: str, tmp_path: Path) -> None:
    calls = [call for call in KINDS[kind] if scheme != "turn" or "messages" in call]
    out, source = packed(tmp_path, calls, loss_weights=scheme, split=("test=0.5",))
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.long
@pytest.mark.parametrize("code", ["RP315", "RP316"])
def test_a_group_in_another_split_and_other_weights_are_found(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == "RP315":
        monkeypatch.setattr(packing, "split_of", lambda *_: "test")
    else:
        monkeypatch.setattr(packing.CallGroups, "_weights", lambda _, calls: [0.5] * len(calls))
    out, source = packed(tmp_path, PLAIN, loss_weights="message", split=("test=0.5",))
    assert set(compared(out, source).counts) == {code}


def test_an_id_that_no_integer_type_holds_is_a_reject(tmp_path: Path) -> None:
    calls = [ids("r", "a", [5, 6], [7]), ids("r", "b", [5, 6], [10**20])]
    findings = compared(*packed(tmp_path, calls))
    assert (findings.total, findings.checked["rejects"]) == (0, 1), findings.listed


def test_a_list_of_calls_with_ids_of_both_in_one_is_read(tmp_path: Path) -> None:
    calls = [{"tokens": [5, 6, 7], "response_length": length} for length in (1, 2)]
    out, source = packed(tmp_path, [{"steps": calls}])
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


def test_a_group_whose_messages_have_weights_is_no_duplicate_of_one_without(tmp_path: Path) -> None:
    calls = [answered(each, each, ASKED, "4") for each in "ab"]
    calls[1]["response"]["weight"] = 2
    findings = compared(*packed(tmp_path, calls, dedup="exact"))
    assert (findings.total, findings.checked["rejects"]) == (0, 1), findings.listed


def test_a_call_is_logged_twice_however_its_reward_is_written(tmp_path: Path) -> None:
    out, source = packed(tmp_path, [ids("r", "a", [5], [7], reward=one) for one in (0, 0.0)])
    assert compared(out, source).total == 0


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
def test_groups_that_were_packed_again(tmp_path: Path) -> None:
    """Of one name in two datasets, or twice in one, they are apart; so is each session."""
    other = [{**call, "id": f"{n}", "response": said("assistant", "4!")} for n, call in
             enumerate(PLAIN) if "messages" in call]  # fmt: skip
    (tmp_path / "other").mkdir()
    one, first = packed(tmp_path, PLAIN)
    two, second = packed(tmp_path / "other", other)
    repack([f"{one}:2", two], tmp_path / "both", {"shuffle": True})
    repack([tmp_path / "both", one], tmp_path / "again", {})
    for out, sources in (("both", (first, second)), ("again", (first, second, first))):
        findings = compared(tmp_path / out, *sources)
        assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["views"] == 2 * 9 + 4 + 9
    other[0]["response"]["content"] = "5"
    changed = written(tmp_path / "changed.jsonl", other)
    assert set(compared(tmp_path / "both", first, changed).counts) == {"RP309"}
    pi = LOGS / "pi.jsonl"
    pack_files([str(pi)], tmp_path / "pi", Options(tokenizer=str(TOKENIZER)))
    repack([tmp_path / "pi"], tmp_path / "pi again", {})
    assert not compared(tmp_path / "pi again", pi).unchecked


@pytest.mark.long
@pytest.mark.parametrize("form", ["gzip", "list", "parquet"])
def test_any_file_is_compared(form: str, tmp_path: Path) -> None:
    """Records that cannot be looked up are spread; nothing of that is left."""
    path, calls = tmp_path / f"calls.{form}", [ids("g", f"{n % 3}", [5], [7 + n]) for n in range(6)]
    calls = [{**each, "trace_id": f"{n % 2}"} for n, each in enumerate(calls)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(calls), path)
    else:
        whole = json.dumps(calls) if form == "list" else "\n".join(map(json.dumps, calls))
        path.write_bytes(gzip.compress(whole.encode()) if form == "gzip" else whole.encode())
    (tmp_path / "temporary").mkdir()
    pack_files([str(path)], tmp_path / "out", Options(tokenizer=str(TOKENIZER)))
    before = tempfile.tempdir
    try:
        tempfile.tempdir = str(tmp_path / "temporary")
        findings = compared(tmp_path / "out", path)
    finally:
        tempfile.tempdir = before
    assert (findings.total, findings.unchecked, findings.checked["groups"]) == (0, {}, 2)
    assert list((tmp_path / "temporary").iterdir()) == []


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


def test_some_groups_are_compared(tmp_path: Path) -> None:
    findings = compared(*packed(tmp_path, PLAIN), sample=1)
    assert (findings.total, findings.checked["packed"]) == (0, 3)
    assert findings.checked["groups"] <= 2  # those without the field are read for their ids


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
