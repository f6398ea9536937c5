"""A dataset and its source: one thing changed in either, one code found."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from damages import (
    SHARD,
    Damage,
    add,
    branch,
    context,
    drop_sample,
    edit,
    forget,
    numbered,
    own,
    recard,
    recount,
    reject,
    rejson,
    remove,
    reply,
    rerecord,
    reseal,
    resource,
    swap,
    train_twice,
    trained,
    untrain,
)
from packed_twice import FIRST, FIXTURES, SECOND, Json, Packed, chats, pack

from reasonpack.verify.chat import NotChecked
from reasonpack.verify.findings import CODES
from reasonpack.verify.one_view import OneView, TextView


def relabel(row: Json, *, column: str, value: int) -> None:
    """Change kind or message of the first segment of reasoning."""
    row[column][row["segment_kind"].index(1)] = value


def restop(packed: Packed) -> None:
    """Name another stop token of answers in the manifest, the plan and on the card."""

    def change(holder: Json) -> None:
        for learned in holder["templates"]:
            learned["answer_stop"]["token"] = "<|endoftext|>"

    for name in ("manifest.json", "plan.json"):
        rejson(name, change)(packed)
    reseal(packed)
    recard(packed)


SOURCE_DAMAGES: dict[str, list[Damage]] = {
    "RP304": [
        resource(1, lambda lines: lines.append(chats()["ab-test"])),
        resource(1, lambda lines: lines.insert(0, chats()["ab-test"])),
        resource(1, lambda lines: lines.append(b'{"messages": 3}')),
        resource(1, lambda lines: lines.append(b"{")),
        resource(1, lambda lines: lines.append(lines[0])),
        drop_sample,
    ],
    "RP305": [
        resource(0, lambda lines: lines.pop()),
        resource(1, lambda lines: lines.pop(0)),
    ],
    "RP306": [
        resource(0, lambda lines: lines.__setitem__(0, b"")),
    ],
    "RP307": [
        reject(lambda line: line.update(reason="overlong")),
        reject(lambda line: line.update(reason="json")),
    ],
    "RP308": [
        rerecord(0, 1, forget),
        rerecord(0, 1, lambda record: record["messages"][1].update(weight=0.5)),
    ],
    "RP309": [
        edit(swap),
        edit(lambda row: add(row["input_ids"], context(row))),
        rerecord(0, 1, reply),
        rerecord(1, 0, lambda record: record["messages"].pop()),
        rerecord(0, 1, lambda record: record["messages"][1].update(train=False)),
    ],
    "RP310": [
        edit(untrain, recount=True),
        edit(own("labels", lambda row: branch(row) + 1), recount=True),
    ],
    "RP311": [
        recount(lambda counts: add(counts, "views")),
        recount(lambda counts: add(counts, "naive_tokens", -1)),
        recount(lambda counts: add(counts, "missing_reasoning")),
    ],
    "RP313": [restop],
    "RP312": [
        edit(partial(relabel, column="segment_kind", value=3), recount=True),
        edit(partial(relabel, column="segment_kind", value=0), recount=True),
        edit(partial(relabel, column="segment_message", value=7), recount=True),
    ],
}


def test_every_code_of_the_source_has_a_damage() -> None:
    # test_length, _splits, _weights, _calls, _order
    elsewhere = {"RP314", "RP315", "RP316", "RP317", "RP318"}
    codes = {code for code in CODES if code > "RP303"} - elsewhere
    assert sorted(SOURCE_DAMAGES) == sorted(codes)


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_good_dataset_is_its_source(good: Packed, good_npass: Packed, layout: str) -> None:
    made = good if layout == "onepass" else good_npass
    findings, counts = made.compare(), made.json("manifest.json")["counts"]
    assert (findings.total, findings.warnings) == (0, [])
    assert {name: findings.checked[name] for name in ("records", "rejects", "conversations")} == {
        "records": 7,
        "rejects": 1,
        "conversations": 6,
    }
    assert findings.checked["views"] == counts["views"]
    assert findings.checked["naive_tokens"] == counts["naive_tokens"]


@pytest.mark.long
@pytest.mark.parametrize(("code", "damage"), numbered(SOURCE_DAMAGES))
def test_one_damage_one_code_against(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    assert packed.verify().total == 0, "the dataset by itself is sound"
    findings = packed.compare()
    assert findings.counts == {code: 1}, [str(finding) for finding in findings.listed]
    if code in {"RP305", "RP308", "RP309", "RP310"}:
        (finding,) = findings.listed
        assert finding.row is not None
        assert finding.sample in {*FIRST, *SECOND}


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "damage"),
    [
        pytest.param("RP309", edit(swap), id="swapped"),
        pytest.param("RP309", edit(lambda row: add(row["input_ids"], context(row))), id="other"),
        pytest.param("RP309", rerecord(0, 1, reply), id="source changed"),
        pytest.param("RP309", partial(drop_sample, conversation=False), id="leaf dropped"),
        pytest.param("RP310", edit(untrain, recount=True), id="not trained"),
        pytest.param("RP310", edit(own("labels", context), recount=True), id="trained"),
        pytest.param("RP304", resource(1, lambda lines: lines.append(lines[0])), id="twice"),
        pytest.param("RP305", resource(1, lambda lines: lines.pop(0)), id="record gone"),
    ],
)
def test_npass_is_compared_by_conversation(packed_npass: Packed, code: str, damage: Damage) -> None:
    damage(packed_npass)
    assert packed_npass.verify().total == 0
    findings = packed_npass.compare()
    assert set(findings.counts) == {code}, [str(finding) for finding in findings.listed]


def test_a_token_of_two_leaves_is_trained_in_one(tmp_path: Path) -> None:
    """Both leaves go through the first answer, which had no reasoning."""
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "It is one."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "It is two.", "reasoning_content": "Count."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "It is three."},
    ]
    line = json.dumps({"id": "count", "messages": messages}).encode()
    template = str(FIXTURES / "templates" / "tool_loop.jinja")
    packed = pack(tmp_path, {"a.jsonl": [line]}, layout="npass", chat_template=template)
    assert packed.compare().total == 0
    edit(train_twice, recount=True)(packed)
    assert packed.verify().total == 0
    (finding,) = packed.compare().listed
    assert finding.code == "RP310"
    assert finding.what.endswith("is trained 2 times, expected it trained once")


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("RP209", edit(lambda row: add(row["labels"], trained(row)))),
        ("RP213", edit(lambda row: row["input_ids"].__setitem__(context(row), -1))),
    ],
)
def test_a_faulty_row_is_not_compared_as_well(either: Packed, code: str, damage: Damage) -> None:
    damage(either)
    assert either.compare().counts == {code: 1}


@pytest.mark.parametrize(
    ("code", "damage"), [("RP309", edit(swap)), ("RP310", edit(untrain, recount=True))]
)
def test_what_is_not_described_has_its_code_too(
    either: Packed, monkeypatch: pytest.MonkeyPatch, code: str, damage: Damage
) -> None:
    damage(either)
    described = either.compare()
    monkeypatch.setattr("reasonpack.verify.differences.KEPT", 0)
    bare = either.compare()
    assert described.counts == bare.counts == {code: 1}
    assert described.listed[0].sample == bare.listed[0].sample


def test_an_unread_shard_is_one_violation(packed: Packed) -> None:
    remove(SHARD)(packed)
    findings = packed.compare()
    assert findings.counts == {"RP004": 1}
    assert findings.warnings == ["A shard could not be read, so its records were not looked for."]


# --- a sample of the conversations ---------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_sample_compares_so_many(either: Packed, number: int) -> None:
    findings = either.compare(sample=number)
    assert (findings.total, findings.checked["conversations"]) == (0, number)
    assert (findings.checked["records"], findings.checked["rejects"]) == (7, 1)
    for at, lines in ((0, (1, 2, 3)), (1, (0, 1, 2))):
        for line in lines:
            rerecord(at, line, reply)(either)
    found = either.compare(sample=number)
    assert found.counts == {"RP309": number}
    assert {finding.sample for finding in found.listed} == {
        finding.sample for finding in either.compare(sample=number).listed
    }
    assert either.compare(sample=70).counts == {"RP309": 6}


def test_a_sample_still_looks_for_every_record(packed: Packed) -> None:
    resource(1, lambda lines: lines.append(chats()["ab-test"]))(packed)
    resource(0, lambda lines: lines.pop())(packed)
    assert packed.compare(sample=1).counts == {"RP304": 1, "RP305": 1}


def test_a_message_that_may_be_context_leaves_its_record_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pack(tmp_path, {"a.jsonl": [chats()[id_] for id_ in FIRST]}, on_message_error="context")
    assert made.compare().total == 0
    build = OneView.view

    def unknown(one: OneView) -> TextView | None:
        if one.number == 3:
            raise NotChecked("what is not known")
        return build(one)

    monkeypatch.setattr(OneView, "view", unknown)
    findings = made.compare()
    assert findings.total == 0
    assert list(findings.unchecked) == ["what is not known"]
