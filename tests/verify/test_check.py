"""One thing changed in the files or rows of a dataset, one code found."""

from __future__ import annotations

import shutil
from functools import partial

import pyarrow as pa
import pyarrow.ipc
import pytest
from damages import (
    REJECTS,
    SHARD,
    Damage,
    add,
    both,
    branch,
    context,
    copy_to,
    cross,
    edit,
    move_out,
    nullable,
    nullable_elements,
    numbered,
    own,
    put,
    recast,
    recount,
    rejson,
    relabelled,
    remove,
    reseal,
    reshard,
    tiny,
    trained,
    truncate,
)
from packed_twice import FIXTURES, OPTIONS, Packed
from test_optional_columns import DAMAGES as OF_COLUMNS

from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.rows.content_hash import combined_hash
from reasonpack.run.pack import pack_files
from reasonpack.verify.findings import CODES, fix_of


def card(old: str, new: str) -> Damage:
    """Change the dataset card."""

    def damage(packed: Packed) -> None:
        path = packed.directory / "README.md"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return damage


DAMAGES: dict[str, list[Damage]] = {
    "RP001": [remove("manifest.json"), put("manifest.json", "{")],
    "RP002": [
        rejson("manifest.json", lambda manifest: manifest.update(format_version="2.0")),
        rejson("manifest.json", lambda manifest: manifest.pop("format_version")),
        put("manifest.json", "[]"),
    ],
    "RP003": [
        *(
            rejson(
                "manifest.json", lambda manifest, change=change: manifest["options"].update(change)
            )
            for change in (
                *({"chat_template_kwargs": "{"}, {"template_behaviour": "[]"}, {"date": "today"}),
                *({"field": ["cot"]}, {"role": ["=user"]}, {"split": ["test=b"]}),
                *(
                    {"split": ["test=1.5"]},
                    {"layout": "npass"},
                    {"train_on": "all,x"},
                    {"seed": -1},
                ),
                *({name: 0} for name in ("max_length", "max_position", "max_cost", "sample")),
            )
        ),
        *(
            both(both(rejson("manifest.json", change), rejson("plan.json", change)), reseal)
            for change in (
                lambda value: value["options"].update(format="arrow"),
                lambda value: value["options"].update(max_position=99_999),
            )
        ),
        rejson("manifest.json", lambda manifest: manifest["templates"][0].update(thinking="")),
        rejson("manifest.json", lambda manifest: manifest.pop("counts")),
        rejson("manifest.json", lambda manifest: manifest.update(layout="other")),
        rejson("manifest.json", lambda manifest: manifest["shards"][0].update(path="../x.parquet")),
        rejson("manifest.json", lambda manifest: manifest["counts"].update(packed=-1)),
    ],
    "RP004": [remove(SHARD)],
    "RP005": [copy_to(SHARD, "data/train-00002-of-00002.parquet")],
    "RP006": [reshard(lambda shard: add(shard, "bytes"))],
    "RP007": [reshard(lambda shard: shard.update(sha256="0" * 64))],
    "RP008": [truncate],
    "RP009": [
        both(reshard(lambda shard: add(shard, "rows")), recount(lambda counts: add(counts, "rows")))
    ],
    "RP010": [
        both(
            reshard(lambda shard: add(shard, "tokens")),
            recount(lambda counts: add(counts, "tokens")),
        )
    ],
    "RP011": [
        remove("receipts/00001.json"),
        rejson("receipts/00001.json", lambda receipt: receipt.pop("counts")),
        put("receipts/00001.json", "{"),
        copy_to("receipts/00001.json", "receipts/00002.json"),
        lambda packed: put(
            "receipts/00001.json",
            (packed.directory / "receipts/00001.json").read_text().replace("b.jsonl", "c.jsonl"),
        )(packed),
    ],
    "RP012": [
        rejson("receipts/00001.json", lambda receipt: add(receipt["shards"][0], "bytes")),
        rejson("receipts/00001.json", lambda receipt: receipt.update(shards=receipt["shards"] * 2)),
        rejson("receipts/00001.json", lambda receipt: receipt.update(plan_sha256="0" * 64)),
    ],
    "RP013": [
        recount(lambda counts: add(counts, "trained_tokens")),
        recount(lambda counts: add(counts, "npass_tokens", -1)),
        recount(lambda counts: add(counts, "samples")),
        recount(lambda counts: add(counts["tokens_by_kind"], "r_in")),
        recount(lambda counts: (add(counts, "packed"), add(counts, "conversations"))),
    ],
    "RP014": [
        rejson("manifest.json", lambda manifest: add(manifest["counts"], "views")),
        rejson("manifest.json", lambda manifest: add(manifest["counts"]["tokens_by_kind"], "t")),
        rejson("manifest.json", lambda manifest: manifest["counts"]["notes"].update(unread=1)),
        recount(lambda counts: add(counts, "conversations")),
        recount(lambda counts: add(counts, "divided")),
        recount(lambda counts: add(counts, "extra_tokens")),
    ],
    "RP015": [
        put("rejects.jsonl", "{}\n"),
        put("rejects.jsonl", '{"where": "a:1", "reason": "empty", "error": "no record"}\n'),
    ],
    "RP016": [
        remove("rejects.jsonl"),
        lambda packed: put("rejects.jsonl", (packed.directory / "rejects.jsonl").read_text() * 2)(
            packed
        ),
        both(
            recount(lambda counts: (add(counts, "rejected"), add(counts, "conversations"))),
            rejson("receipts/00000.json", lambda receipt: add(receipt["rejects"], "lines")),
        ),
    ],
    "RP017": [
        both(
            reshard(lambda shard: shard.update(content_hash="0" * 64)),
            rejson(
                "manifest.json",
                lambda manifest: manifest.update(
                    content_hash=combined_hash(s["content_hash"] for s in manifest["shards"])
                ),
            ),
        ),
        rejson("manifest.json", lambda manifest: manifest.update(content_hash="0" * 64)),
    ],
    "RP018": [
        remove(REJECTS),
        put(REJECTS, ""),
        rejson("receipts/00000.json", lambda receipt: add(receipt["rejects"], "lines")),
    ],
    "RP019": [
        put("data/notes.txt", "mine"),
        put("data/notes.json", "mine"),
        put("receipts/notes.txt", "mine"),
    ],
    "RP020": [
        lambda packed: (packed.directory / "notes").symlink_to(FIXTURES / "README.md"),
        lambda packed: (packed.directory / "data" / ".more").symlink_to(FIXTURES),
        move_out(SHARD),
        move_out("manifest.json"),
    ],
    "RP021": [
        remove("README.md"),
        put("README.md", "# Mine\n"),
        card("path: data/train-*", "path: data/*-00000-of-*"),
        card("path: data/train-*.parquet", "path:\n    - data/*.parquet\n    - receipts/*.json"),
        card("path: data/train-*.parquet", "path: data/*.arrow"),
        card("split: train", "split: test"),
        card("split: train", "split: training"),
        card("config_name: default", "config_name: chats"),
    ],
    "RP023": [
        card("6 conversations", "7 conversations"),
        card("Layout `onepass`", "Layout `npass`"),
        card('nswers end with `"<|im_end|>"', 'nswers end with `"<|endoftext|>"'),
    ],
    "RP022": [
        remove("plan.json"),
        put("plan.json", "{"),
        rejson("plan.json", lambda plan: plan.update(sha256="0" * 64)),
        rejson("plan.json", lambda plan: plan["options"].update(train_on="last-turn")),
        rejson("plan.json", lambda plan: add(plan["inputs"][1], "bytes")),
        rejson("plan.json", lambda plan: plan["units"].pop()),
        rejson("plan.json", lambda plan: plan.update(columns=["loss_weights"])),
        rejson("plan.json", lambda plan: plan["units"][1].update(name="other.jsonl")),
        rejson("plan.json", lambda plan: add(plan, "unit_bytes")),
        both(rejson("plan.json", lambda plan: add(plan["units"][1], "first_line")), reseal),
        both(rejson("plan.json", lambda plan: add(plan, "unit_bytes")), reseal),
    ],
    "RP101": [
        recast(lambda table: table.select(table.column_names[::-1])),
        recast(lambda table: table.append_column("extra", table.column("length"))),
        recast(
            lambda table: table.set_column(3, "length", table.column("length").cast(pa.int64()))
        ),
        recast(lambda table: table.set_column(7, "segment_message", table.column("length"))),
        both(
            both(
                rejson("manifest.json", lambda manifest: manifest["columns"].append("moods")),
                rejson("plan.json", lambda plan: plan["columns"].append("moods")),
            ),
            reseal,
        ),
    ],
    "RP102": [recast(nullable), recast(nullable_elements)],
    "RP103": [],  # below: it takes an Arrow stream
    "RP104": [
        recast(lambda table: relabelled(table, layout=None)),
        recast(lambda table: relabelled(table, format_version="1.1")),
        recast(lambda table: relabelled(table, template_sha256="0" * 64)),
        recast(lambda table: relabelled(table, requires="loss_weights")),
    ],
    "RP106": [recast(lambda table: relabelled(table, requires="loss_weights,step_weights"))],
    "RP105": [
        recast(
            lambda table: pa.Table.from_pylist(
                [tiny(-100, -100, 7, -100, -100)] * 1001, schema=table.schema
            )
        )
    ],
    "RP201": [
        edit(lambda row: row["labels"].pop()),
        edit(lambda row: row["position_ids"].append(0)),
        edit(lambda row: add(row, "length")),
        edit(lambda row: row.update({name: [] for name in row if name != "length"}, length=0)),
    ],
    "RP202": [
        edit(lambda row: add(row["segment_start"], 0)),
        edit(lambda row: row["segment_start"].__setitem__(1, row["segment_start"][2])),
        edit(lambda row: row["segment_start"].__setitem__(-1, row["length"])),
        edit(lambda row: [row[name].clear() for name in row if name.startswith("segment_")]),
    ],
    "RP203": [
        edit(lambda row: row["segment_kind"].append(0)),
        edit(lambda row: row["segment_message"].pop()),
        edit(lambda row: row["segment_visible_until"].pop()),
    ],
    "RP204": [
        edit(lambda row: row["sample_id"].append("one more")),
        edit(lambda row: add(row["sample_start"], 0)),
        edit(lambda row: row["sample_start"].__setitem__(1, row["length"])),
        edit(lambda row: [row[name].clear() for name in ("sample_start", "sample_id")]),
    ],
    "RP205": [edit(lambda row: add(row["sample_start"], 1))],
    "RP206": [
        edit(lambda row: add(row["segment_visible_until"], -1)),
        edit(lambda row: add(row["segment_visible_until"], -1, -1)),
        edit(lambda row: row["segment_visible_until"].__setitem__(0, row["length"])),
    ],
    "RP207": [edit(cross)],
    "RP208": [
        edit(lambda row: add(row["position_ids"], context(row))),
        edit(lambda row: row.update(position_ids=list(range(row["length"])))),
    ],
    "RP209": [
        edit(lambda row: add(row["labels"], trained(row))),
        edit(lambda row: row["labels"].__setitem__(context(row), -1)),
    ],
    "RP210": [
        edit(own("labels", lambda row: 0)),
        edit(own("labels", lambda row: row["sample_start"][1])),
    ],
    "RP211": [edit(own("labels", branch))],
    "RP212": [edit(lambda row: row.update(tiny(-100, -100, 7, -100, 7)))],
    "RP213": [edit(lambda row: row["input_ids"].__setitem__(context(row), -1))],
    "RP214": [edit(lambda row: row["segment_kind"].__setitem__(0, 4))],
    "RP215": [edit(lambda row: row["segment_message"].__setitem__(0, -2))],
    "RP222": [
        lambda packed: (
            [
                rejson(name, lambda value: value.update(max_position=20))(packed)
                for name in ("manifest.json", "plan.json")
            ]
            and reseal(packed)
        )
    ],
}


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_good_dataset_passes(good: Packed, good_npass: Packed, layout: str) -> None:
    made = good if layout == "onepass" else good_npass
    findings, counts = made.verify(), made.json("manifest.json")["counts"]
    names = ("rows", "samples", "tokens", "trained_tokens")
    assert (findings.total, findings.warnings) == (0, [])
    assert findings.checked == {"shards": 2, **{name: counts[name] for name in names}}
    assert (counts["packed"], counts["rejected"]) == (6, 1)
    assert (counts["samples"] == 6) == (layout == "onepass")


@pytest.mark.parametrize(("code", "damage"), numbered(DAMAGES))
def test_one_damage_one_code(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    findings = packed.verify()
    assert set(findings.counts) == {code}, [str(finding) for finding in findings.listed]
    for finding in findings.listed:
        assert finding.file
        assert "Error)" not in finding.what
        assert "data was truncated" not in finding.what


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "damage"), numbered({code: DAMAGES[code] for code in DAMAGES if code < "RP2"})
)
def test_what_explain_says_of_files_helps(
    good: Packed, packed: Packed, code: str, damage: Damage
) -> None:
    damage(packed)
    fix, found = fix_of(code), packed.verify().listed
    for path in {packed.directory / finding.file for finding in found}:
        if "remove" in fix and any("no such file" in finding.what for finding in found):
            path.unlink(missing_ok=True)
        elif path.is_symlink():
            target = path.resolve()
            path.unlink()
            (shutil.copytree if target.is_dir() else shutil.copy)(target, path)
    inputs, again = list(map(str, good.inputs)), partial(pack_files, options=Options(**OPTIONS))
    # A damaged plan may be that of another run.
    name = {"RP003": "options", "RP101": "columns"}.get(code)
    if name and packed.json("plan.json")[name] != good.json("plan.json")[name]:
        with pytest.raises(UsageError, match="or pass --overwrite"):
            again(inputs, packed.directory)
        fix = "--overwrite"
    again(inputs, packed.directory, overwrite="--overwrite" in fix)
    assert packed.verify().total == 0


def test_every_code_has_a_damage() -> None:
    elsewhere = {"RP301", "RP302", "RP303"}  # the source is not the dataset's at all
    elsewhere |= {"RP223"}  # test_weights has it
    against = {code for code in CODES if code > "RP303"}  # test_against has those
    assert sorted(CODES) == sorted({*DAMAGES, *OF_COLUMNS, *against, *elsewhere})


def test_a_temporary_file_is_only_a_warning(packed: Packed) -> None:
    name = "data/.train-00000-of-00001.parquet.1.tmp"
    (packed.directory / name).write_bytes(b"half")
    findings = packed.verify()
    assert (findings.total, len(findings.warnings)) == (0, 1)
    assert name in findings.warnings[0]
