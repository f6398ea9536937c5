"""Packing finished datasets again is packing their inputs afresh: the same samples, the same bytes.

chats ── pack, old options ──▶ dataset ── repack ──▶ samples, counts, rejects ─┐
chats ── pack, new options ─────────────────────────▶ samples, counts, rejects ─┴─ equal
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from again import Watching, chdir
from damages import edit
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_twice import Packed
from repacked import (
    CHATS,
    PLAIN,
    TOKENIZER,
    Json,
    compare,
    packed,
    refused,
    samples,
    shards,
    write,
)
from runs import run, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.run import unit as unit_module
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

pytestmark = pytest.mark.usefixtures("with_chats")


# --- equal to packing afresh ---------------------------------------------------------------------

OLD = [
    PLAIN,
    replace(PLAIN, layout="npass"),
    replace(PLAIN, max_length=2_000, packing=True),
    replace(PLAIN, max_length=2_500, loss_weights="turn", split=("validation=0.3",)),
    replace(PLAIN, max_length=3_000, layout="npass", packing=True),
    replace(PLAIN, max_position=3_000, format="arrow"),
    replace(PLAIN, train_on="reasoning", on_error="skip"),
    replace(PLAIN, train_on="response", layout="npass"),
]
GIVEN: list[Json] = [
    {"max_length": 1_000},
    {"max_length": 950, "packing": "sequential", "max_cost": 300_000},
    {"max_length": 1_500, "max_position": 1_100, "format": "parquet"},
]


@pytest.mark.parametrize("given_", GIVEN, ids=str)
@pytest.mark.parametrize("old", OLD, ids=range(len(OLD)))
@pytest.mark.long
def test_shortened_it_is_what_packing_afresh_gives(old: Options, given_: Json) -> None:
    counts = compare(old, given_).counts
    assert counts.left_out


def test_what_was_left_out_before_has_the_limit_that_leaves_it_out_now() -> None:
    write([each for each in CHATS if each.get("id") == "failing-test"])
    counts = compare(replace(PLAIN, max_position=1_500), {"max_length": 1_200}).counts
    assert "over-max-position" in read_manifest(Path("old")).counts.left_out
    assert counts.left_out.keys() == {"over-max-length"}
    write(CHATS[:2])
    assert compare(replace(PLAIN, max_length=250), {"max_length": 240}).counts.rejects


@pytest.mark.long
def test_what_was_divided_is_joined_again() -> None:
    """At 1,300 tokens all views of these fit."""
    write([each for each in CHATS if each.get("id") in {"bicycle-chain", "twenty-questions"}])
    old = replace(PLAIN, max_length=750)
    counts = compare(old, {"max_length": 1_300}).counts
    assert read_manifest(Path("old")).counts.extra_samples
    assert not read_manifest(Path("old")).counts.left_out
    assert counts.extra_samples == 0


@pytest.mark.long
def test_packed_anew_in_another_format_nothing_is_laid_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reasonpack.run.finished_unit.views_of", None)
    compare(PLAIN, {"max_length": 5_000, "packing": True, "format": "arrow"})
    compare(replace(PLAIN, format="arrow"), {"compression": "lz4"})


@pytest.mark.long
def test_ids_of_places_give_the_order_of_packed_samples() -> None:
    write([{key: each[key] for key in each if key != "id"} for each in CHATS])
    compare(replace(PLAIN, max_length=4_000, packing=True), {"max_length": 1_000})
    assert shards(Path("new")) == shards(Path("fresh"))
    assert Path("new/rejects.jsonl").read_bytes() == Path("fresh/rejects.jsonl").read_bytes()


@pytest.mark.long
@settings(max_examples=5)
@given(st.data())
def test_of_any_chats_and_limits(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    draw = data.draw
    chosen = draw(st.lists(st.sampled_from(range(len(CHATS))), min_size=2, unique=True))
    records = [
        {key: CHATS[at][key] for key in CHATS[at] if key != "id" or draw(st.booleans())}
        for at in chosen
    ]
    old = Options(
        tokenizer=TOKENIZER,
        layout=draw(st.sampled_from(("onepass", "npass"))),
        max_length=draw(st.sampled_from((1_200, 2_500))),
        packing=draw(st.booleans()),
        loss_weights=draw(st.sampled_from(("none", "conversation"))),
        split=draw(st.sampled_from(((), ("test=0.4",)))),
    )
    given_: Json = {"max_length": draw(st.integers(500, 1_200)), "packing": draw(st.booleans())}
    given_ |= draw(st.sampled_from(({}, {"split": ("test=0.3", "other=0.2")})))
    with chdir(tmp_path_factory.mktemp("chats")):
        write(records)
        try:
            compare(old, given_)
        except UsageError as error:
            refused_for = error.what
        else:
            return
        assert "cannot be left out" in refused_for
        assert read_manifest(Path("old")).counts.left_out


# --- several datasets ----------------------------------------------------------------------------


def test_several_become_one() -> None:
    """As if their inputs had been packed together; units follow one another."""
    one, two = packed("one", CHATS[:5]), packed("two", CHATS[5:9])
    both = repack([one, two], Path("both"), {"max_length": 2_000, "packing": True})
    fresh = pack_files(
        ["one.jsonl", "two.jsonl"],
        Path("fresh"),
        replace(PLAIN, max_length=2_000, packing=True),
        run=run(),
    )
    assert shards(Path("both")) == shards(Path("fresh"))
    assert (both.counts, both.inputs) == (fresh.counts, fresh.inputs)
    assert [each.path for each in both.sources] == ["one", "two"]
    assert not fresh.sources
    findings = verify_dataset(Path("both"), ["one.jsonl", "two.jsonl"])
    assert (findings.total, findings.warnings) == (0, [])


def test_a_dataset_that_is_named_twice_is_there_twice() -> None:
    one = packed("one", CHATS[:3])
    twice = repack([one, one], Path("twice"), {})
    assert samples(Path("twice"), twice) == samples(one, read_manifest(one)) + samples(
        one, read_manifest(one)
    )
    assert verify_dataset(Path("twice"), ["one.jsonl", "one.jsonl"]).total == 0


@pytest.mark.long
def test_what_was_packed_again_is_packed_again() -> None:
    one = packed("one", CHATS)
    repack([one], Path("first"), {"max_length": 2_000})
    again = repack([Path("first")], Path("second"), {"max_length": 950, "packing": True})
    fresh = pack_files(
        ["one.jsonl"], Path("fresh"), replace(PLAIN, max_length=950, packing=True), run=run()
    )
    assert samples(Path("second"), again) == samples(Path("fresh"), fresh)
    assert again.counts.left_out == fresh.counts.left_out
    assert verify_dataset(Path("second"), ["one.jsonl"]).total == 0


def test_calls_are_packed_again_and_not_divided() -> None:
    calls = [
        {
            "trace_id": f"trace {number // 2}",
            "request": {"messages": [{"role": "user", "content": f"{number} " * 9}]},
            "response": {"choices": [{"message": {"role": "assistant", "content": "Yes."}}]},
            "reward": number / 4,
        }
        for number in range(8)
    ]
    one = packed("one", calls)
    new = repack([one], Path("new"), {"max_length": 300, "packing": "best-fit"})
    fresh = pack_files(
        ["one.jsonl"], Path("fresh"), replace(PLAIN, max_length=300, packing=True), run=run()
    )
    assert new.columns == fresh.columns
    assert "call_reward" in new.columns
    assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
    assert new.content_hash == fresh.content_hash
    assert verify_dataset(Path("new")).total == 0
    assert refused([one], {"max_length": 50}).what == "calls, which a row does not tell apart"


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = packed("one", CHATS)
    repack([one], Path("whole"), {"max_length": 900})
    publish = unit_module.publish_shard
    done: list[int] = []

    def stops(*arguments: Any, **more: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(more["unit"].number)
        return publish(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(unit_module, "publish_shard", stops)
        with pytest.raises(KeyboardInterrupt):
            repack([one], Path("new"), {"max_length": 900})
    assert not Path("new/manifest.json").exists()
    watching = Watching()
    repack([one], Path("new"), {"max_length": 900}, run=watching.run)
    assert watching.kept == done
    assert tree(Path("new")) == tree(Path("whole"))


@pytest.mark.long
def test_processes_give_the_same_bytes() -> None:
    one = packed("one", CHATS)
    repack([one], Path("here"), {"max_length": 900})
    repack([one], Path("there"), {"max_length": 900}, run=run(num_proc=2))
    assert tree(Path("here")) == tree(Path("there"))


def test_another_run_in_the_output_is_refused() -> None:
    one = packed("one", CHATS[:3])
    repack([one], Path("new"), {"max_length": 900})
    with pytest.raises(UsageError, match="--max-length 900 there, 950 here"):
        repack([one], Path("new"), {"max_length": 950})
    repack([one], Path("new"), {"max_length": 950}, overwrite=True)
    assert read_manifest(Path("new")).options.max_length == 950


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dataset_is_not_written_over_itself(overwrite: bool) -> None:
    one = packed("one", CHATS[:3])
    before = tree(one)
    Path("link").symlink_to("one")
    for output in ("one", "one/", "link"):
        with pytest.raises(UsageError, match="is a dataset that is to be packed again"):
            repack([one], output, {}, overwrite=overwrite)
    assert tree(one) == before


# --- what cannot be told -------------------------------------------------------------------------


def test_a_damaged_shard_is_not_copied() -> None:
    one = packed("one", CHATS[:3])
    shard = next((one / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert "not the shard that the manifest names" in refused([one], {}).what


def test_rows_that_make_no_sense_are_not_copied_whatever_the_hashes_say() -> None:
    one = packed("one", CHATS[:3])
    edit(lambda row: row.update(length=row["length"] + 1))(Packed(one, []))
    assert "input_ids is not as long as length says, in row 0" in str(refused([one], {}))


# --- several times -----------------------------------------------------------------------


def test_a_dataset_three_times_is_its_inputs_three_times(tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        write(CHATS[6:9], "b.jsonl")
        options = replace(PLAIN, max_length=2_500)
        for name in ("a", "b"):
            pack_files([f"{name}.jsonl"], Path(name), options, run=run(unit_bytes=30_000))
        new = repack([Path("a:3"), Path("b")], Path("new"), {})
        inputs = ["a.jsonl:3.0", "b.jsonl"]
        fresh = pack_files(inputs, Path("fresh"), options, run=run(unit_bytes=30_000))
        assert shards(Path("new")) == shards(Path("fresh"))
        assert (new.counts, new.blend) == (fresh.counts, fresh.blend)
        assert not verify_dataset(Path("new"), ["a.jsonl", "b.jsonl"]).total
        again = repack([Path("new")], Path("again"), {"max_length": 3_000, "packing": "best-fit"})
        assert again.counts.copies == 12
        assert not verify_dataset(Path("again"), ["a.jsonl", "b.jsonl"]).total


# --- weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [("auto", "none"), ("none", "auto")])
def test_without_weights_there_is_no_column(old: Any, new: str, tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:3])
        assert compare(replace(PLAIN, loss_weights=old), {"loss_weights": new}).columns == []


@pytest.mark.parametrize("scheme", ["message", "turn", "conversation"])
@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_weights_are_those_of_packing_afresh(scheme: str, layout: Any, tmp_path: Path) -> None:
    """Of turns with several answers too, some of which follow a tool's message, and of copies."""
    with chdir(tmp_path):
        write(CHATS[:8])
        old = replace(PLAIN, layout=layout, max_length=None if layout == "onepass" else 6_000)
        more = {"max_length": 2_500} if layout == "onepass" and scheme != "conversation" else {}
        inputs = ["a.jsonl:2.0" if scheme == "turn" else "a.jsonl"]
        manifest = compare(old, {"loss_weights": scheme, **more}, inputs=inputs)
        assert manifest.columns == ["loss_weights"]
        assert not verify_dataset(Path("new"), ["a.jsonl"]).total


@pytest.mark.parametrize(
    ("options", "scheme", "said"),
    [
        ({"max_length": 700}, "turn", "the trained tokens of messages that were left out"),
        ({"loss_weights": "message"}, "conversation", "the weights of its records, before"),
        ({"max_length": 700}, "conversation", "the trained tokens of messages that were left out"),
    ],
)
def test_weights_that_rows_do_not_tell(
    options: Json, scheme: str, said: str, tmp_path: Path
) -> None:
    with chdir(tmp_path):
        write(CHATS[:8])
        pack_files(["a.jsonl"], Path("old"), replace(PLAIN, **options), run=run())
        with pytest.raises(
            UsageError, match=rf"^--loss-weights {scheme}: old does not hold {said}"
        ):
            repack([Path("old")], Path("new"), {"loss_weights": scheme})
