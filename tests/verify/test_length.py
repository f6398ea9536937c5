"""A dataset with divided conversations and messages left out: sound, and found out where it is not.

chats ── pack, --max-length 700, --max-position 600 ──▶ rows of one sample each, rejects.jsonl
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pyarrow as pa
import pytest
from damages import Damage, add, numbered, own, read, recard, recount, rejson, reseal, seal, write
from packed_twice import BROKEN, FIRST, FIXTURES, SECOND, Json, Packed, chats, copied, pack

from reasonpack.verify.check import verify_dataset

LIMITS = {"max_length": 700, "max_position": 600}
WORDS = "The boat crosses the river once more and then it comes back. "


def unreasoned() -> bytes:
    """A conversation whose first answer is trained, and is history word for word."""
    messages: list[Json] = []
    for turn in range(4):
        messages.append({"role": "user", "content": f"{turn}? {WORDS}"})
        thought = {"reasoning_content": WORDS * 12} if turn else {}
        messages.append({"role": "assistant", "content": WORDS, **thought})
    return json.dumps({"id": "unreasoned", "messages": messages}).encode()


def pack_divided(folder: Path, **asked: Any) -> Packed:
    known = chats()
    files = {
        "a.jsonl": [BROKEN, unreasoned(), *(known[id_] for id_ in FIRST)],
        "b.jsonl": [known[id_] for id_ in SECOND],
    }
    template = str(FIXTURES / "templates" / "tool_loop.jinja")
    return pack(folder, files, **{**LIMITS, "chat_template": template, **asked})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_divided(tmp_path_factory.mktemp("divided"), packing=False)


@pytest.fixture
def packed(whole: Packed, tmp_path: Path) -> Packed:
    return copied(whole, tmp_path)


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def counts_of(packed: Packed) -> Json:
    counts: Json = packed.json("manifest.json")["counts"]
    return counts


def samples_of(packed: Packed) -> Counter[str]:
    rows = [row for path in packed.shards for row in read(path).to_pylist()]
    return Counter(id_ for row in rows for id_ in row["sample_id"])


# --- sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["onepass", "npass"])
@pytest.mark.parametrize("packing", [True, False])
def test_what_is_divided_and_left_out_is_sound(tmp_path: Path, layout: str, packing: bool) -> None:
    weights = "conversation" if packing else "auto"  # what is left out has its share
    most = 10**9 if packing else None
    options = {"layout": layout, "packing": packing, "max_cost": most, "loss_weights": weights}
    made = pack_divided(tmp_path, **options)
    counts, findings = counts_of(made), made.compare()
    assert (findings.total, findings.unchecked) == (0, {})
    assert set(counts["left_out"]) == {"over-max-length", "over-max-position"}
    assert findings.checked["left out"] == sum(counts["left_out"].values()) > 2
    assert findings.checked["views"] == counts["views"] > 10
    divided = [counts[name] for name in ("divided", "extra_samples", "extra_tokens")]
    assert all(divided) if layout == "onepass" else not any(divided)
    assert made.verify().total == 0
    assert made.compare(sample=2).total == 0


@pytest.mark.parametrize("limit", LIMITS)
def test_a_view_may_be_as_long_as_the_limit(tmp_path: Path, limit: str) -> None:
    lines, left_out = {"a.jsonl": [chats()["umbrella"]]}, []
    rows = read(pack(folder(tmp_path, "whole"), lines).shards[0]).to_pylist()
    longest = 1 + max(place for row in rows for place in row["position_ids"])
    for most in (longest, longest - 1):
        made = pack(folder(tmp_path, f"{most}"), lines, **{"packing": False, limit: most})
        left_out.append(sum(counts_of(made)["left_out"].values()))
        assert made.compare().total == 0
    assert left_out == [0, 1]


def test_samples_of_a_conversation_are_gathered_over_shards(packed: Packed) -> None:
    """As a dataset would have them that was shuffled; the receipts count what each shard holds."""
    tables = [read(path) for path in packed.shards]
    rows = [table.to_pylist() for table in tables]
    (id_, number), *_ = [each for each in samples_of(packed).items() if each[1] > 1]
    shard = next(at for at, each in enumerate(rows) if any(id_ in row["sample_id"] for row in each))
    at = next(at for at, row in enumerate(rows[shard]) if id_ in row["sample_id"])
    rows[1 - shard].append(rows[shard].pop(at))
    for path, table, each in zip(packed.shards, tables, rows, strict=True):
        write(path, pa.Table.from_pylist(each, schema=table.schema))
    seal(packed, recount=True)
    for number, change in ((shard, -1), (1 - shard, 1)):
        rejson(
            f"receipts/{number:05d}.json",
            lambda receipt, change=change: receipt["counts"].update(
                packed=receipt["counts"]["packed"] - (change > 0),
                conversations=receipt["counts"]["conversations"] - (change > 0),
                extra_samples=receipt["counts"]["extra_samples"] + change,
            ),
        )(packed)
    rejson("manifest.json", lambda manifest: manifest["counts"].update(packed=7, conversations=8))(
        packed
    )
    recard(packed)
    assert packed.compare().total == 0


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_divided_conversation_that_is_not_read_is_no_violation(
    tmp_path: Path, *, shuffle: bool
) -> None:
    """If rows were shuffled, its samples may come long after its record."""
    made = pack_divided(tmp_path, shuffle=shuffle, seed=1, packing=False)
    for path in made.inputs:
        records = [json.loads(line) for line in path.read_bytes().splitlines() if line != BROKEN]
        for message in (each for record in records for each in record["messages"]):
            message.update({"mood": ["merry"]} if message["role"] == "assistant" else {})
        broken = [BROKEN] * (path.name == "a.jsonl")
        path.write_bytes(b"\n".join([*broken, *(json.dumps(each).encode() for each in records)]))
    findings = made.compare()
    assert (findings.total, len(findings.unchecked)) == (0, 1), findings.listed


def test_ids_that_occur_several_times(tmp_path: Path) -> None:
    known = [json.loads(chats()[id_]) for id_ in ("root-two", "small-talk", "umbrella")]
    same = [json.dumps({**record, "id": "same"}).encode() for record in [*known, *known]]
    made = pack(tmp_path, {"a.jsonl": same, "b.jsonl": same[:2]}, **LIMITS)
    assert counts_of(made)["divided"] > 1
    assert made.compare().total == 0


def test_a_dataset_without_such_counts_is_read(tmp_path: Path) -> None:
    """Datasets of before have them neither in the manifest nor in receipts."""
    made = pack(tmp_path, {"c.jsonl": [BROKEN, chats()["umbrella"]]})
    names = ("divided", "extra_samples", "extra_tokens", "left_out")

    def forget(table: Json) -> None:
        for name in names:
            table["counts"].pop(name)

    rejson("manifest.json", forget)(made)
    rejson("receipts/00000.json", forget)(made)
    assert made.compare().total == 0


# --- damages -------------------------------------------------------------------------------------


def lines(change: Callable[[list[Json]], object]) -> Damage:
    """Change the messages left out, and what receipts and manifest say of them."""

    def damage(packed: Packed) -> None:
        text = (packed.directory / "rejects.jsonl").read_text()
        found = [json.loads(line) for line in text.splitlines()]
        change(found)
        total, whole = Counter[str](), b""
        for number, path in enumerate(packed.inputs):
            mine = [each for each in found if path.name in each["where"]]
            content = "".join(map(as_line, mine)).encode()
            left_out = Counter(each["reason"] for each in mine if "kind" in each)
            total, whole = total + left_out, whole + content
            name = f"receipts/{number:05d}.json"
            receipt = packed.json(name)
            (packed.directory / receipt["rejects"]["path"]).write_bytes(content)
            receipt["rejects"].update(
                lines=len(mine), bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
            receipt["counts"]["left_out"] = dict(left_out)
            packed.write(name, receipt)
        (packed.directory / "rejects.jsonl").write_bytes(whole)
        rejson("manifest.json", lambda all_: all_["counts"].update(left_out=dict(total)))(packed)

    return damage


def as_line(value: Json) -> str:
    return json.dumps(value) + "\n"


def message(found: list[Json], at: int = 0) -> Json:
    return [each for each in found if "kind" in each][at]


def rows(change: Callable[[list[Json]], object]) -> Damage:
    """Change the rows of the shard that holds a divided conversation, which come first."""

    def damage(packed: Packed) -> None:
        divided = {id_ for id_, number in samples_of(packed).items() if number > 1}
        for path in packed.shards:
            table = read(path)
            found = table.to_pylist()
            mine = [row for row in found if {*row["sample_id"]} & divided]
            if mine:
                rest = [row for row in found if row not in mine]
                mine += [row for row in rest if leaves(row) == 1][:1]
                rest = [row for row in found if row not in mine]
                change(mine)
                write(path, pa.Table.from_pylist([*mine, *rest], schema=table.schema))
                break
        seal(packed, recount=True)
        balance(packed)

    return damage


def leaves(row: Json) -> int:
    ends = [*row["segment_start"][1:], row["length"]]
    return sum(end == until for end, until in zip(ends, row["segment_visible_until"], strict=True))


def balance(packed: Packed) -> None:
    """Let each receipt count as many extra samples as its shard has."""
    extra = 0
    for number, path in enumerate(packed.shards):
        ids = [id_ for row in read(path).to_pylist() for id_ in row["sample_id"]]
        mine = len(ids) - len(set(ids))
        extra += mine
        rejson(
            f"receipts/{number:05d}.json",
            lambda receipt, mine=mine: receipt["counts"].update(extra_samples=mine),
        )(packed)
    rejson("manifest.json", lambda all_: all_["counts"].update(extra_samples=extra))(packed)


def paths(row: Json) -> list[tuple[int, ...]]:
    """What each token sees, as ids."""
    return [
        tuple(row["input_ids"][key] for key in range(len(seen)) if seen[key])
        for seen in oracle.visible(row)
    ]


def train_again(found: list[Json]) -> None:
    """Train in a sample what another sample of its conversation trains."""
    known = {
        (*row["sample_id"], path)
        for row in found
        for path, label in zip(paths(row), row["labels"], strict=True)
        if label >= 0
    }
    row, at = next(
        (row, at)
        for row in found
        for at, path in enumerate(paths(row))
        if row["labels"][at] < 0 and (*row["sample_id"], path) in known
    )
    own("labels", lambda _: at)(row)


def repeat_untrained(found: list[Json]) -> None:
    """Write a sample once more, as if it were history."""
    found.append({**found[0], "labels": [-100] * found[0]["length"]})


def shortened(row: Json, length: int) -> Json:
    """Return the first tokens of a row of one sample."""
    starts = [start for start in row["segment_start"] if start < length]
    short = {name: row[name][:length] for name in ("input_ids", "position_ids", "labels")}
    for name in ("segment_kind", "segment_message"):
        short[name] = row[name][: len(starts)]
    until = [min(each, length) for each in row["segment_visible_until"][: len(starts)]]
    return {**row, **short, "length": length, "segment_start": starts,
            "segment_visible_until": until}  # fmt: skip


def divide_an_answer(found: list[Json]) -> None:
    """Train the last token of an answer in a sample of its own, behind all that it sees."""
    row = next(row for row in found if {*row["segment_visible_until"]} == {row["length"]})
    last = row["length"] - 1
    found[found.index(row)] = shortened(row, last)
    found.append({**row, "labels": [-100] * last + [row["labels"][last]]})


def repeat_a_view(found: list[Json]) -> None:
    """Write a view that others go on from once more, and train nothing of it."""
    row = next(row for row in found if row["sample_id"] == ["unreasoned"])
    end = row["segment_start"][row["segment_kind"].index(3) + 1]
    found.append({**shortened(row, end), "labels": [-100] * end})


def alter_history(found: list[Json]) -> None:
    """Change a token of what the second sample repeats."""
    second = [row for row in found if row["sample_id"] == found[0]["sample_id"]][1]
    add(second["input_ids"], 3)


DAMAGES: dict[str, list[Damage]] = {
    "RP314": [
        lines(lambda found: message(found).update(tokens=601)),
        lines(lambda found: message(found).update(reason="over-max-length")),
        lines(lambda found: found.remove(message(found))),
        lines(lambda found: found.append({**message(found), "message": 1})),
        lines(lambda found: found.append({**message(found), "where": "b.jsonl:3"})),
    ],
    "RP310": [rows(train_again)],
    "RP309": [
        rows(alter_history),
        rows(lambda found: found.pop(0)),
        rows(lambda found: found.pop(1)),
        rows(repeat_untrained),
        rows(repeat_a_view),
        rows(divide_an_answer),
    ],
    "RP311": [
        recount(lambda counts: add(counts, "divided")),
        recount(lambda counts: add(counts, "extra_tokens")),
    ],
}


@pytest.mark.long
@pytest.mark.parametrize(("code", "damage"), numbered(DAMAGES))
def test_one_damage_one_code(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    alone = packed.verify()
    assert alone.total == 0, [str(finding) for finding in alone.listed]
    found = packed.compare()
    assert found.counts == {code: 1}, [str(finding) for finding in found.listed]


@pytest.mark.parametrize("limit", [{"max_length": 500}, {"max_cost": 10}])
def test_a_row_beyond_its_limits_is_found_without_the_source(
    tmp_path: Path, limit: dict[str, int]
) -> None:
    made = pack_divided(tmp_path)
    for name in ("manifest.json", "plan.json"):
        rejson(name, lambda table: table["options"].update(limit))(made)
    reseal(made)
    rows = [row for path in made.shards for row in read(path).to_pylist()]
    of_several = sum(len(row["sample_id"]) > 1 for row in rows)
    found = made.verify().counts
    assert set(found) == {"RP222"}
    assert "max_length" in limit or found["RP222"] == of_several > 0


def test_lines_that_the_counts_do_not_know(packed: Packed) -> None:
    path = packed.directory / "rejects.jsonl"
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(each for each in text if "kind" not in each))
    assert packed.verify().counts == {"RP016": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.pop("message"),
        lambda line: line.pop("tokens"),
        lambda line: line.update(characters=5),
        lambda line: line.update(kind="other"),
    ],
)
def test_a_line_of_a_message_is_whole(packed: Packed, change: Any) -> None:
    lines(lambda found: change(message(found)))(packed)
    assert "RP015" in packed.verify().counts


def test_a_message_that_verify_alone_thinks_too_long(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check counts by itself: it would notice if packing had another rule."""
    monkeypatch.setattr("reasonpack.verify.source.too_long", lambda *_: None)
    found = verify_dataset(packed.directory, [str(path) for path in packed.inputs])
    assert found.counts["RP314"] == sum(counts_of(packed)["left_out"].values())
