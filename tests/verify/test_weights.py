"""Weights are recomputed from the records: a fault in packing, or in a row, is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damages import Damage, context, edit, numbered, rerecord, resource, trained
from packed_twice import Json, Packed, chats, copied, pack

from reasonpack.run import weights as weights_module

SCHEMES = ["auto", "message", "turn", "conversation"]
ROOT_TWO, CHAIN = "root-two", "bicycle-chain"


def weighted(id_: str, *weights: float, record: float = 1) -> bytes:
    """A fixture chat whose answers have these weights, one after another."""
    read = json.loads(chats()[id_])
    answers = [each for each in read["messages"] if each["role"] == "assistant"]
    for number, answer in enumerate(answers):
        answer["weight"] = weights[number % len(weights)]
    return json.dumps({**read, "weight": record}).encode()


def pack_weighted(folder: Path, scheme: Any = "auto", **asked: Any) -> Packed:
    files = {
        "a.jsonl": [weighted(CHAIN, 0.5, 2), weighted("small-talk", 1)],
        "b.jsonl": [weighted(ROOT_TWO, 1, 0.25, 3, record=1.5)],
    }
    return pack(folder, files, loss_weights=scheme, **asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_weighted(tmp_path_factory.mktemp("turn"), "turn")


@pytest.fixture
def packed(made: Packed, tmp_path: Path) -> Packed:
    return copied(made, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_those_of_the_records(tmp_path: Path, scheme: str) -> None:
    made = pack_weighted(tmp_path, scheme)
    findings = made.compare()
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert made.json("manifest.json")["columns"] == ["loss_weights"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_in_npass_too(tmp_path: Path, scheme: str) -> None:
    made = pack_weighted(tmp_path, scheme, layout="npass")
    findings = made.compare()
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_where_conversations_are_divided_too(tmp_path: Path, scheme: str) -> None:
    made = pack_weighted(tmp_path, scheme, max_length=200, packing=False)
    counts = made.json("manifest.json")["counts"]
    assert counts["extra_samples"] or counts["left_out"]
    findings = made.compare()
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


def put(value: float) -> Damage:
    def change(row: Json) -> None:
        row["loss_weights"][trained(row)] = value

    return edit(change)


def scaled(row: Json) -> None:
    row["loss_weights"] = [2 * each for each in row["loss_weights"]]


def last_of_all(row: Json) -> None:
    at = max(at for at, label in enumerate(row["labels"]) if label != -100)
    row["loss_weights"][at] /= 2


DAMAGES: dict[str, list[Damage]] = {
    "RP316": [
        edit(scaled),
        edit(last_of_all),
        rerecord(0, 0, lambda record: record.update(weight=0.5)),
        rerecord(0, 0, lambda record: record["messages"][-1].update(weight=0.75)),
    ],
    "RP217": [
        put(0.0),
        edit(lambda row: row["loss_weights"].__setitem__(context(row), 0.5)),
    ],
    "RP223": [put(1e3)],
}


@pytest.mark.parametrize(("code", "damage"), numbered(DAMAGES))
def test_one_damage_one_code(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    findings = packed.compare()
    assert code in findings.counts
    assert set(findings.counts) <= {code, "RP223", "RP316"}


def test_a_finding_says_what_the_weight_should_be(tmp_path: Path) -> None:
    packed = pack_weighted(tmp_path)
    edit(scaled)(packed)
    finding = packed.compare().listed[0]
    assert finding.code == "RP316"
    assert (finding.sample, finding.what) == (CHAIN, "weight 1.0, expected 0.5")


def as_one_turn(given: Any) -> Any:
    """Return the weights of answers, and the same turn for each."""

    def of(conversation: Any) -> Any:
        weights, turns = given(conversation)
        return weights, dict.fromkeys(turns, 0)

    return of


def test_a_fault_in_packing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are not told apart."""
    monkeypatch.setattr(weights_module, "of_answers", as_one_turn(weights_module.of_answers))
    assert set(pack_weighted(tmp_path, "turn").compare().counts) == {"RP316"}


def test_a_weight_that_no_column_is_for_is_no_record(tmp_path: Path) -> None:
    made = pack_weighted(tmp_path, "auto")
    resource(0, lambda lines: lines.__setitem__(0, weighted(CHAIN, -1.0)))(made)
    assert "RP308" in made.compare().counts
