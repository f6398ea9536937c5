"""How often records and groups of a run are packed, by its plan."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from runs import SKIPPING, agents, chats, run, said, tree

from reasonpack.datasets.manifest import Share, read_manifest
from reasonpack.run import plan_copies
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.copies import BESIDE, TAKEN
from tests.changed import replace


def ids(directory: Path, split: str) -> Counter[str]:
    tables = [pq.read_table(path) for path in sorted(directory.glob(f"data/{split}-*"))]
    return Counter(id_ for t in tables for row in t["sample_id"].to_pylist() for id_ in row)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    again = [
        {**json.loads(line), "id": f"again {at}", "weight": 0.5}
        for at, line in enumerate(_lines(12))
    ]
    (tmp_path / "a.jsonl").write_bytes(chats(20))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in again))
    return [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]


def _lines(count: int) -> list[bytes]:
    return chats(count, bad=False).splitlines()


BLENDED = replace(SKIPPING, dedup="exact", sample=40, split=("validation=0.3",), max_length=150)


def test_a_blend_is_what_its_source_gives(tmp_path: Path, inputs: list[str]) -> None:
    out, (one, two) = tmp_path / "out", inputs
    counts = pack_files([f"{one}:1.5", f"{two}#30"], out, BLENDED, run=run()).counts
    assert counts.records == 32
    assert counts.duplicates == 11  # of the first twelve lines one cannot be read
    assert counts.conversations == 40 == counts.packed + counts.rejected
    assert counts.copies > 0 < counts.extra_samples
    copies = [
        {id_.partition("#")[0] for id_ in ids(out, split)} for split in ("train", "validation")
    ]
    assert all(copies)
    assert not copies[0] & copies[1]
    for against in (inputs, inputs[::-1]):
        findings = verify_dataset(out, against)
        assert (findings.listed, findings.unchecked) == ([], {})
    other = verify_dataset(out, [two, two])
    assert other.total


@pytest.mark.long
def test_it_has_the_same_bytes_with_workers_and_when_resumed(
    tmp_path: Path, inputs: list[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = [f"{inputs[0]}:2.5", inputs[1]]
    pack_files(arguments, one, BLENDED, run=run())
    pack_files(arguments, two, BLENDED, run=run(num_proc=2))
    assert tree(one) == tree(two)
    (two / "manifest.json").unlink()
    (two / "receipts" / "00001.json").unlink()
    (two / "copies.index").write_bytes(b"damaged")
    pack_files(arguments, two, BLENDED, run=run())
    assert tree(one) == tree(two)


@pytest.mark.parametrize(
    ("field", "change"),
    [("dedup", "none"), ("sample", 21), ("blend", "other"), ("blend", "none")],
)
def test_verify_notices_another_rule(
    field: str, change: Any, tmp_path: Path, inputs: list[str]
) -> None:
    """The manifest and the plan say something else than what was done, and hashes are mended."""
    out = tmp_path / "out"
    arguments = [f"{inputs[0]}:1.5", inputs[1]]
    options = replace(BLENDED, sample=20, max_length=None)
    pack_files(arguments, out, options, run=run())
    manifest = json.loads((out / "manifest.json").read_bytes())
    if field == "blend":
        manifest["blend"] = [] if change == "none" else [*manifest["blend"]]
        if change == "other":
            manifest["blend"][0]["repeat"] = 0.5
    else:
        manifest["options"][field] = change
    (out / "manifest.json").write_text(json.dumps(manifest))
    codes = set(verify_dataset(out, inputs).counts)
    assert codes & {"RP304", "RP305", "RP311"}


@pytest.mark.long
def test_groups_of_calls_are_taken_by_their_names(tmp_path: Path) -> None:
    """As are those without a name, by their record; what is added moves none of a share."""
    calls = agents(16)
    for call in calls[::5]:
        del call["trace_id"]
    for name, part in (("a", calls[:30]), ("b", calls[30:])):
        lines = (json.dumps(each) + "\n" for each in part)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    one, two = (str(tmp_path / f"{name}.jsonl") for name in "ab")
    found = {}
    for name, arguments, changes in (
        ("blend", [f"{one}:1.5", f"{two}#9"], {"split": ("validation=0.4",), "layout": "npass"}),
        ("sample", [f"{two}:3", one], {"sample": 7, "shuffle": True, "packing": "best-fit"}),
        ("half", [f"{one}:0.5"], {}),
        ("more", [f"{one}:0.5", f"{two}:2"], {"shuffle": True}),
    ):
        options = replace(SKIPPING, max_length=400, **changes)
        found[name] = pack_files(arguments, tmp_path / name, options, run=run()).counts
        files = [re.sub("[:#].*", "", each) for each in arguments]
        findings = verify_dataset(tmp_path / name, files)
        assert (findings.listed, findings.unchecked) == ([], {})
    assert found["sample"].packed <= 7
    assert found["blend"].copies > 0 < found["half"].not_taken
    assert ids(tmp_path / "half", "train").keys() <= ids(tmp_path / "more", "train").keys()


ASKED = {"messages": [said("user", "2+2?")], "response": "4"}
WITH_IDS = {"prompt_token_ids": [5, 6], "completion_token_ids": [7, 8], "logprobs": [-0.5, -1]}
SAY_THE_SAME: dict[str, Sequence[dict[str, Any]]] = {
    "first": [{**ASKED, "id": "x"}, {**WITH_IDS, "id": "y"}],
    "other ids": [{**ASKED, "id": "u", "created": 3}, WITH_IDS],
    "logged twice": [ASKED, ASKED, {**WITH_IDS, "completion_mask": [1, 1]}],
    "with what is not trained": [ASKED, {**ASKED, "response": "5", "train": False}, WITH_IDS],
}
SAY_MORE: dict[str, Sequence[dict[str, Any]]] = {
    "in another order": [WITH_IDS, ASKED],
    "a part": [ASKED],
    "two calls": [{**ASKED, "id": "x"}, {**ASKED, "id": "z"}, WITH_IDS],
    "an answer": [{**ASKED, "response": "5"}, WITH_IDS],
    "a prompt": [{**ASKED, "messages": [said("user", "2+3?")]}, WITH_IDS],
    "a variable": [{**ASKED, "enable_thinking": False}, WITH_IDS],
    "a weight": [{**ASKED, "weight": 2}, WITH_IDS],
    "a reward": [ASKED, {**WITH_IDS, "reward": 0}],
    "a token": [ASKED, {**WITH_IDS, "completion_token_ids": [7, 9]}],
    "a mask": [ASKED, {**WITH_IDS, "completion_mask": [0, 1]}],
    "a log probability": [ASKED, {**WITH_IDS, "logprobs": [-0.5, -2]}],
    "advantages": [ASKED, {**WITH_IDS, "advantages": 1}],
    "cut off": [{**ASKED, "finish_reason": "length"}, WITH_IDS],
    "unread": [ASKED, {**ASKED, "messages": [said("nobody", "x")]}, WITH_IDS],
    "unread too": [ASKED, {**ASKED, "messages": [said("nobody", "x")]}, WITH_IDS],
}


def test_of_groups_whose_calls_say_the_same_the_first_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever their records stand, for any number of workers; verify notices another rule."""
    groups = {**SAY_THE_SAME, **SAY_MORE}
    calls = [{**call, "group": name} for name, group in groups.items() for call in group]
    for name, part in (("a", calls[::2]), ("b", calls[1::2])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in part))
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    one, two = tmp_path / "one", tmp_path / "two"
    options = replace(SKIPPING, dedup="exact")
    counts = pack_files(files, one, options, run=run()).counts
    pack_files(files, two, options, run=run(num_proc=2))
    assert tree(one) == tree(two)
    assert ids(one, "train").keys() == {"first", *SAY_MORE}
    assert (counts.duplicates, counts.not_taken) == (len(SAY_THE_SAME) - 1, 0)
    findings = verify_dataset(one, files)
    assert (findings.listed, findings.unchecked) == ([], {})
    monkeypatch.setattr(plan_copies, "key_of_calls", lambda calls: b"%d" % len([*calls]))
    pack_files(files, tmp_path / "other", options, run=run())
    assert "RP304" in verify_dataset(tmp_path / "other", files).counts


def test_equal_groups_in_a_form_that_verify_does_not_check(tmp_path: Path) -> None:
    calls = [{**ASKED, "stop": ["x"], "group": name} for name in "ab"]
    calls.append({**ASKED, "group": "c"})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in calls))
    options = replace(SKIPPING, dedup="exact")
    counts = pack_files([str(tmp_path / "a.jsonl")], tmp_path / "out", options, run=run()).counts
    assert (counts.packed, counts.duplicates) == (1, 2)
    findings = verify_dataset(tmp_path / "out", [str(tmp_path / "a.jsonl")])
    left = {reason: number for reason, (number, _) in findings.unchecked.items()}
    changed = "options of a request that change the prompt or the stop"
    assert (findings.listed, left) == ([], {changed: 2, BESIDE: 1})
    assert (findings.checked["duplicates"], findings.taken[-1]) == (2, TAKEN)


def test_the_manifest_has_the_arguments(tmp_path: Path, inputs: list[str]) -> None:
    pack_files([f"{tmp_path}#9"], tmp_path / "out", SKIPPING, run=run())
    blend = read_manifest(tmp_path / "out").blend
    assert blend == [Share(path=str(tmp_path), files=2, conversations=9)]
    assert inputs
