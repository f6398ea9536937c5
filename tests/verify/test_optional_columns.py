"""Optional columns: a dataset that has all of them is sound, and each fault in one is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from damages import (
    Damage,
    context,
    edit,
    numbered,
    read,
    recast,
    rejson,
    reseal,
    seal,
    tiny,
    trained,
    write,
)
from packed_twice import Json, Packed, copied

from reasonpack.rows.kind import Kind
from reasonpack.rows.optional_columns import APPLIED, FILLS
from reasonpack.rows.schema import OPTIONAL, schema
from reasonpack.verify import shards
from reasonpack.verify.rows import check_row
from tests.verify.test_rows import as_row

COLUMNS = [name for name, _ in OPTIONAL]


def with_columns(row: Json) -> Json:
    """Count each sample as two calls, a chosen one and a rejected one, split at its middle."""
    length, bounds = row["length"], [*row["segment_start"], row["length"]]
    sample_of = [sum(s <= at for s in row["sample_start"]) - 1 for at in row["segment_start"]]
    row = {**row, "labels": [*row["labels"]], **{name: [] for name in COLUMNS}}
    row |= {name: [fill] * length for name, fill in FILLS.items()}
    for sample in range(len(row["sample_start"])):
        row["call_id"] += ["first", "second"]
        row["call_sample"] += [sample] * 2
        row["call_role"] += [1, 2]
        row["call_reward"] += [0.5, float("nan")]
    seen: list[bool] = []
    for segment, sample in enumerate(sample_of):
        tokens = range(*bounds[segment : segment + 2])
        is_trained = any(row["labels"][at] != -100 for at in tokens)
        second = is_trained and sample in sample_of[:segment] and len(seen) % 2 == 1
        seen += [True] if is_trained else []
        row["segment_call"].append(2 * sample + second if is_trained else -1)
        for at in tokens:
            if row["labels"][at] == -100:
                continue
            row["logprobs"][at], row["advantages"][at] = -0.25, -1.5
            row["loss_weights"][at] = 0.5
            if second:
                row["preference_labels"][at], row["labels"][at] = row["labels"][at], -100
                row["loss_weights"][at] = 0.0
    return row


@pytest.fixture(scope="module")
def sound(good: Packed, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The good dataset, with all optional columns."""
    packed = copied(good, tmp_path_factory.mktemp("columns"))
    for path in packed.shards:
        table = read(path)
        metadata = {
            key.decode().partition(".")[2]: v.decode() for key, v in table.schema.metadata.items()
        }
        rows = [with_columns(row) for row in table.to_pylist()]
        write(path, pa.Table.from_pylist(rows, schema=schema(metadata, COLUMNS)))
    for name in ("manifest.json", "plan.json"):
        rejson(name, lambda value: value.update(columns=COLUMNS))(packed)
    reseal(packed)
    seal(packed, recount=True)
    return packed


@pytest.fixture
def packed(sound: Packed, tmp_path: Path) -> Packed:
    return copied(sound, tmp_path)


def test_all_columns_may_be_there(sound: Packed) -> None:
    findings = sound.verify()
    assert (findings.total, findings.listed, findings.warnings) == (0, [], [])
    (first, *_) = read(sound.shards[0]).to_pylist()
    assert any(label != -100 for label in first["preference_labels"])
    assert {name for name in APPLIED if name in first} == set(APPLIED)


def put(name: str, place: Callable[[Json], int] | int, value: Any) -> Damage:
    """Set a value of the first row."""

    def change(row: Json) -> None:
        row[name][place if isinstance(place, int) else place(row)] = value

    return edit(change, recount=True)


def rejected(row: Json) -> int:
    return next(at for at, label in enumerate(row["preference_labels"]) if label != -100)


def of_another_sample(row: Json) -> None:
    segment = next(at for at, call in enumerate(row["segment_call"]) if call >= 0)
    row["segment_call"][segment] = row["call_sample"].index(1)


def without_call(row: Json) -> None:
    segment = next(at for at, call in enumerate(row["segment_call"]) if call >= 0)
    row["segment_call"][segment] = -1


def calls_in_another_order(row: Json) -> None:
    for name in ("call_id", "call_sample", "call_role", "call_reward"):
        row[name] = [*row[name][-1:], *row[name][:-1]]
    many = len(row["call_id"])
    row["segment_call"] = [each if each < 0 else (each + 1) % many for each in row["segment_call"]]


def chosen_twice(row: Json) -> None:
    """Label what is rejected, too."""
    at = rejected(row)
    row["labels"][at], row["loss_weights"][at] = row["input_ids"][at], 1.0


def preferred(row: Json) -> None:
    at = trained(row)
    row["preference_labels"][at] = row["input_ids"][at]


NAN, INF = float("nan"), float("inf")
DAMAGES: dict[str, list[Damage]] = {
    "RP101": [
        recast(lambda table: table.drop_columns(["logprobs"])),
        rejson("manifest.json", lambda manifest: manifest["columns"].remove("advantages")),
    ],
    "RP216": [
        *(edit(lambda row, name=name: row[name].pop()) for name in (*FILLS, "segment_call")),
        *(edit(lambda row, name=name: row[name].pop()) for name in ("call_sample", "call_role")),
        edit(lambda row: row["call_reward"].append(0.0)),
    ],
    "RP217": [
        put("loss_weights", trained, 0.0),
        put("loss_weights", trained, -1.0),
        put("loss_weights", trained, NAN),
        put("loss_weights", trained, INF),
        put("loss_weights", context, 1.0),
        put("loss_weights", rejected, 1.0),
    ],
    "RP218": [
        put("logprobs", trained, 0.011),
        put("logprobs", trained, -INF),
        put("logprobs", context, -0.5),
        put("advantages", context, NAN),
        put("advantages", rejected, INF),
        put("advantages", context, 1.0),
    ],
    "RP219": [
        put("preference_labels", rejected, 7),
        edit(preferred),
        edit(chosen_twice, recount=True),
    ],
    "RP220": [
        put("call_sample", 0, -1),
        put("call_sample", -1, 99),
        put("call_sample", 0, 1),
        put("call_id", 0, "second"),
        edit(calls_in_another_order),
        put("call_role", 1, 3),
        put("call_reward", 0, -INF),
    ],
    "RP221": [
        put("segment_call", 0, -2),
        put("segment_call", 0, 99),
        put("segment_call", 0, 0),
        edit(of_another_sample),
        edit(without_call),
    ],
}


@pytest.mark.parametrize(("code", "damage"), numbered(DAMAGES))
def test_one_damage_one_code(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    findings = packed.verify()
    found = {each.partition(" ")[0] for each in map(str, findings.listed)}
    assert code in found, findings.listed
    assert found <= {code, "RP022", "RP104"} if code == "RP101" else found == {code}


def test_a_column_needs_others(packed: Packed) -> None:
    for path in packed.shards:
        write(path, read(path).drop_columns(["call_role"]))
    for name in ("manifest.json", "plan.json"):
        rejson(name, lambda value: value["columns"].remove("call_role"))(packed)
    reseal(packed)
    seal(packed)
    listed = [str(finding) for finding in packed.verify().listed]
    assert any("preference_labels without call_role, expected them" in each for each in listed)


def test_a_target_of_a_rejected_answer_follows_its_parent_too(packed: Packed) -> None:
    """Rules 7 and 8 hold for preference labels."""

    def first_of_the_row(row: Json) -> None:
        row["preference_labels"][0] = row["input_ids"][0]
        row["segment_call"][0] = 1

    edit(first_of_the_row)(packed)
    assert "RP210" in packed.verify().counts


def test_calls_may_train_the_same_and_one_call_may_not() -> None:
    """Rule 9 counts by call."""
    row = {**tiny(-100, -100, 7, -100, 7), "segment_call": [-1, 0, 1], "call_id": ["a", "b"]}
    row |= {"call_sample": [0, 0], "segment_kind": [Kind.CONTEXT, Kind.R_OUT, Kind.R_OUT]}
    assert faults(row) == set()
    assert faults({**row, "segment_call": [-1, 0, 0]}) == {"RP212"}


def faults(table: Json) -> set[str]:
    return {fault.code for fault in check_row(as_row(table))[0]}


def test_the_tables_of_columns_are_the_same() -> None:
    """What packs and what verifies have each their own."""
    assert list(shards.OPTIONAL.items()) == [(name, type_.value_type) for name, type_ in OPTIONAL]
    assert shards.TO_BE_APPLIED == APPLIED
    assert json.dumps(sorted(shards.NEEDED)) == json.dumps(
        sorted(name for name in COLUMNS if "call" in name or "preference" in name)
    )
