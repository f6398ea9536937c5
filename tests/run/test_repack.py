"""Packing finished datasets again is packing their inputs afresh: the same samples, the same bytes.

chats ── pack, old options ──▶ dataset ── repack ──▶ samples, counts, rejects ─┐
chats ── pack, new options ─────────────────────────▶ samples, counts, rejects ─┴─ equal
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from again import Watching, chdir
from damages import edit
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_twice import Packed
from runs import FIXTURES, agents, run, tree

from reasonpack.datasets.manifest import Manifest, read_manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError, ReasonpackError, UsageError
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.run import records_again
from reasonpack.run import unit as unit_module
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

TOKENIZER = str(FIXTURES / "tokenizer")
PLAIN = Options(tokenizer=TOKENIZER)
CHATS = [json.loads(line) for line in (FIXTURES / "chats.jsonl").read_bytes().splitlines()]
Json = dict[str, Any]


def samples(dataset: Path, manifest: Manifest) -> Counter[tuple[Any, ...]]:
    """All samples of a dataset, each with its split and all that its arrays hold."""
    found: Counter[tuple[Any, ...]] = Counter()
    for shard in manifest.shards:
        for batch in read_shard(dataset / shard.path):
            for sample in (sample for row in cut_rows(batch) for sample in row):
                columns = (sample.input_ids, sample.position_ids, sample.labels)
                table = sample.segments
                parts = (table.start, table.visible_until, table.kind, table.message)
                extra = (sample.extra[name] for name in sorted(sample.extra))
                arrays = (each.tobytes() for each in (*columns, *parts, *extra))
                found[(shard.split, sample.id, *arrays)] += 1
    return found


def left_out(dataset: Path) -> Counter[tuple[Any, ...]]:
    """What rejects.jsonl says, but for where, which may be a place or an id."""
    place = dataset / "rejects.jsonl"
    lines = place.read_bytes().splitlines() if place.exists() else []
    found: Counter[tuple[Any, ...]] = Counter()
    for line in map(json.loads, lines):
        said = line["error"].removeprefix(line["where"])
        found[(line["reason"], line.get("message"), line.get("tokens"), said)] += 1
    return found


def shards(dataset: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((dataset / "data").iterdir())]


def write(records: Sequence[Json], name: str = "a.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def compare(old: Options, given: Json, *, inputs: Sequence[str] = ("a.jsonl",)) -> Manifest:
    """Pack, pack again, and pack afresh; return the manifest of what was packed again."""
    for name in ("old", "new", "fresh"):
        shutil.rmtree(name, ignore_errors=True)
    pack_files(inputs, Path("old"), old, run=run(unit_bytes=30_000))
    new = repack([Path("old")], Path("new"), given)
    fresh = pack_files(inputs, Path("fresh"), replace(old, **given), run=run(unit_bytes=30_000))
    assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
    assert left_out(Path("new")) == left_out(Path("fresh"))
    assert replace(new.counts, rows=0, notes={}) == replace(fresh.counts, rows=0, notes={})
    assert (new.options, new.unit_bytes) == (fresh.options, fresh.unit_bytes)
    assert new.max_position == fresh.max_position
    assert new.columns == fresh.columns
    if not old.packed:
        assert shards(Path("new")) == shards(Path("fresh"))
        assert new.content_hash == fresh.content_hash
        assert new.counts.rows == fresh.counts.rows
    findings = verify_dataset(Path("new"), list(inputs))
    assert (findings.total, findings.warnings) == (0, []), findings.listed
    return new


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(CHATS)


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


def packed(name: str, records: Sequence[Json], **options: Any) -> Path:
    write(records, f"{name}.jsonl")
    pack_files([f"{name}.jsonl"], Path(name), replace(PLAIN, **options), run=run())
    return Path(name)


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


def refused(directories: Sequence[Path], given_: Json) -> ReasonpackError:
    with pytest.raises((UsageError, FormatError)) as caught:
        repack(directories, Path("refused"), given_)
    assert not Path("refused/manifest.json").exists()
    return caught.value


@pytest.mark.long
def test_conversations_of_one_id_cannot_be_joined() -> None:
    twice = [{**CHATS[11], "id": "a"}, {**CHATS[11], "id": "a"}]
    one = packed("one", twice, max_length=450)
    assert read_manifest(one).counts.extra_samples
    error = refused([one], {"max_length": 1_300})
    assert "its 2 conversations have 1 ids between them" in error.what
    repack([one], Path("new"), {"packing": True})  # which asks for no other samples
    assert verify_dataset(Path("new"), ["one.jsonl"]).total == 0


def test_views_that_are_counted_and_not_found_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = packed("one", CHATS[:3])
    ends = "reasonpack.run.finished_unit.ends_of"
    monkeypatch.setattr(ends, lambda _: {1: 9})
    assert "its rows show" in refused([one], {"max_length": 700}).what


def test_samples_that_their_views_do_not_give_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = packed("one", CHATS[:3])
    monkeypatch.setattr("reasonpack.run.finished_unit._same", lambda *_: False)
    assert "from which views were left out" in refused([one], {"max_length": 700}).what


def test_a_conversation_without_a_view_is_rejected_by_its_id() -> None:
    one = packed("one", CHATS)
    counts: Counts = repack([one], Path("new"), {"max_length": 700}).counts
    assert counts.rejects == {"overlong": 1}
    lines = [json.loads(line) for line in Path("new/rejects.jsonl").read_bytes().splitlines()]
    (line,) = (each for each in lines if each.get("kind") == "conversation")
    assert (line["where"], line["reason"]) == ("weekend-in-porto", "overlong")


@pytest.mark.long
def test_it_cannot_be_rejected_where_messages_of_it_were_left_out_before() -> None:
    one = packed("one", CHATS, max_length=1_000)
    error = refused([one], {"max_length": 700})
    assert error.fix.startswith("pass --max-length 923, or pack")
    repack([one], Path("new"), {"max_length": 923})
    assert verify_dataset(Path("new"), ["one.jsonl"]).total == 0


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


def many() -> list[Json]:
    """Records of which some are equal, refused, noted, without reasoning or not to be trained."""
    said = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    reasoned, flagged = {**said[1], "reasoning_content": "+"}, {**said[1], "weight": 0}
    found = [*CHATS, *({**chat, "id": f"{chat['id']} again"} for chat in CHATS[:2])]
    for at in range(4):
        asked: Json = {"role": "user", "content": f"{at}+2?"}
        kinds: dict[str, list[Json]] = {
            "bad": [{"role": "no"}],
            "bare": [asked, *said[1:], said[0], reasoned],
            "none": [asked, flagged],
        }
        found += ({"id": f"{kind} {at}", "messages": each} for kind, each in kinds.items())
        found.append({**CHATS[at], "id": f"odd {at}", "what": {"is": at}})
    return found


@pytest.mark.parametrize("share", [":2.25", ":0.5", "#5", "#37"])
@pytest.mark.long
def test_a_share_of_a_dataset_is_that_share_of_its_inputs(share: str, tmp_path: Path) -> None:
    """With all that is counted, in the first of messages that were left out before."""
    opens = str(FIXTURES / "templates/thinking_prompt.jinja")
    plain = replace(PLAIN, on_error="skip", ignore_fields=("what",))
    divided = replace(plain, max_length=1_000, split=("test=0.3",), chat_template=opens)
    joined = replace(plain, layout="npass", packing=True, max_length=7_000, dedup="exact")
    with chdir(tmp_path):
        write(many())
        for old, given_ in (
            (divided, {"loss_weights": "message"}),
            (joined, {}),
            (plain, {"max_length": 900}),
        ):
            here, fresh_options = run(unit_bytes=30_000), replace(old, **given_)
            pack_files(["a.jsonl"], Path("old"), old, overwrite=True, run=here)
            new = repack([Path(f"old{share}")], Path("new"), given_, overwrite=True)
            one = f"a.jsonl{share}"
            fresh = pack_files([one], Path("fresh"), fresh_options, overwrite=True, run=here)
            assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
            assert left_out(Path("new")) == left_out(Path("fresh"))
            assert replace(new.counts, rows=0) == replace(fresh.counts, rows=0)
            assert new.blend == fresh.blend
            assert old.packed or shards(Path("new")) == shards(Path("fresh"))
            findings = verify_dataset(Path("new"), ["a.jsonl"])
            assert (findings.total, findings.warnings) == (0, []), findings.listed
            counted = read_manifest(Path("old")).counts
            assert counted.rejects.keys() >= {"role", "nothing-to-train"}
            assert old is joined or counted.notes
            assert old is not divided or (counted.missing_reasoning and counted.left_out)


def noted() -> list[Json]:
    """Records with an answer that is kept as context, and with one that a template hides."""
    call = {"function": {"name": "look_up", "arguments": "{}"}, "id": "c", "type": "function"}
    found = []
    for at in range(6):
        asked: Json = {"role": "user", "content": f"{at}+2?"}
        hidden = {"role": "assistant", "content": "", "tool_calls": [call], "train": False}
        told = {"role": "tool", "content": f"{at + 2}", "tool_call_id": "c"}
        kept = {"role": "assistant", "content": f"{at}<|im_end|>"}
        bare, answer = ({"role": "assistant", "content": f"{at}{more}"} for more in ("", "."))
        found += [[asked, hidden, told, answer], [asked, kept, asked, answer], [asked, kept]]
        found += [[asked, kept, asked, bare, asked, hidden, told, answer]]
    return [{"id": str(at), "messages": each} for at, each in enumerate(found)]


@pytest.mark.parametrize("share", [":2.5", "#9"])
@pytest.mark.parametrize("max_length", [None, 40])
def test_what_rendered_views_tell_is_counted_for_a_share(
    share: str, max_length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the counts of a share would be wrong, which is refused."""
    message = "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
    prompt = "{{ '<|im_start|>assistant\\n' if add_generation_prompt }}"
    options = replace(
        PLAIN,
        chat_template="{% for m in messages %}" + message + "{% endfor %}" + prompt,
        on_error="skip",
        on_message_error="context",
        max_length=max_length,
    )
    with chdir(tmp_path):
        write(noted())
        old = pack_files(["a.jsonl"], Path("old"), options)
        new = repack([Path(f"old{share}")], Path("new"), {})
        fresh = pack_files([f"a.jsonl{share}"], Path("fresh"), options)
        assert old.counts.notes.keys() >= {"hidden-answer", "kept stop-token"}
        assert bool(old.counts.left_out) == (max_length is not None)
        assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
        assert replace(new.counts, rows=0) == replace(fresh.counts, rows=0)
        assert not verify_dataset(Path("new"), ["a.jsonl"]).total
        monkeypatch.setattr(records_again, "OF_VIEWS", ())
        with pytest.raises(FormatError, match="of notes, or of untrained answers, that its"):
            repack([Path(f"old{share}")], Path("other"), {})


@pytest.mark.parametrize(
    ("options", "directories", "said"),
    [
        ({"dedup": "exact"}, ["old", "old"], "^old: packed with --dedup exact, which chose among"),
        ({"sample": 4}, ["old", "old"], "^old: packed with --sample 4, which chose among"),
        ({"sample": 4}, ["old:2"], "^old: a share of a dataset with shares of inputs, or a sample"),
    ],
)
def test_what_rows_do_not_tell_is_not_chosen_by(
    options: Json, directories: list[str], said: str, tmp_path: Path
) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl"], Path("old"), replace(PLAIN, **options), run=run())
        with pytest.raises(UsageError, match=said):
            repack(directories, Path("new"), {})


@pytest.mark.long
def test_other_splits_need_the_inputs(tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl"], Path("old"), replace(PLAIN, split=("test=0.3",)), run=run())
        given_ = {"split": ("test=0.2",)}
        repack([Path("old")], Path("shuffled"), {"shuffle": True})
        with pytest.raises(UsageError, match="expected a dataset that is not shuffled"):
            repack([Path("shuffled")], Path("new"), given_)
        write(CHATS[:7])
        with pytest.raises(UsageError, match=r"^--split: a\.jsonl is missing, or was altered "):
            repack([Path("old")], Path("new"), given_)
        repack([Path("old")], Path("new"), {"split": ("test=0.3",)})
        twins = [{**chat, "id": "twin"} for chat in CHATS[:6]]
        write(twins)
        pack_files(["a.jsonl"], Path("twins"), PLAIN, run=run())
        with pytest.raises(FormatError, match="several conversations have the id 'twin'"):
            repack([Path("twins")], Path("new twins"), {"split": ("test=0.5",)})


@pytest.mark.long
def test_other_splits_are_those_of_packing_afresh(tmp_path: Path) -> None:
    """With copies, of packed rows, of calls, and with weights and splits before."""
    with chdir(tmp_path):
        write([*CHATS[:5], *({**chat, "weight": 0.5} for chat in CHATS[5:])])
        for old, name in (
            (replace(PLAIN, max_length=4_000, packing=True, split=("b=0.3",)), "a.jsonl:1.5"),
            (replace(PLAIN, layout="npass", dedup="exact", split=("b=0.7",)), "a.jsonl"),
        ):
            compare(old, {"split": ("a=0.4", "c=0.1")}, inputs=[name])
        write(agents(12, bad=False), "calls.jsonl")
        compare(PLAIN, {"split": ("a=0.4",)}, inputs=["calls.jsonl:2"])


def test_what_is_left_out_of_copies_stops_it(tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl:2"], Path("old"), PLAIN, run=run())
        with pytest.raises(UsageError, match=r"some are copies, of which a message"):
            repack([Path("old")], Path("new"), {"max_length": 200})
        repack([Path("old")], Path("new"), {"max_length": 2_500})
        assert not verify_dataset(Path("new"), ["a.jsonl"]).total


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
