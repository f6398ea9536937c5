"""Calls through a whole run: the same bytes however it is done, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from packed_calls import OPTIONS, SKIPPING, Json, packed, rows_of, with_ids, written
from runs import FIXTURES, agents, run, said, tree
from tokenizers import Tokenizer

from reasonpack.cli import cli
from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError, UsageError
from reasonpack.records import plan
from reasonpack.run import call_plan, output_directory
from reasonpack.run import estimate as estimates
from reasonpack.run.engine import Run, Watch
from reasonpack.run.estimate import estimate
from reasonpack.run.pack import merge_parts, pack_files, pack_part
from reasonpack.run.splits import split_of
from reasonpack.show.summary import summary_lines
from reasonpack.tokens import tokenizer as tokenizer_module
from reasonpack.tokens.fast_backends import Choice
from reasonpack.verify.check import verify_dataset
from tests.changed import replace


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Calls of the same agents in two files."""
    folder, calls = tmp_path_factory.mktemp("calls"), agents()
    return [written(folder / "a.jsonl", calls[::2]), written(folder / "b.jsonl", calls[1::2])]


@pytest.fixture(scope="module")
def expected(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    manifest = pack_files(sources, out, SKIPPING, run=run())
    assert len(manifest.shards) > 3
    assert manifest.counts.rejected > 0
    assert verify_dataset(out).total == 0
    return tree(out)


# --- the same bytes ------------------------------------------------------------------------------


def test_workers_do_not_change_a_byte(
    sources: list[str], tmp_path: Path, expected: dict[str, bytes]
) -> None:
    pack_files(sources, tmp_path / "out", SKIPPING, run=run(num_proc=2))
    assert tree(tmp_path / "out") == expected


def test_parts_do_not_change_a_byte(
    sources: list[str], tmp_path: Path, expected: dict[str, bytes]
) -> None:
    for index in (1, 0):
        pack_part(sources, tmp_path / "out", SKIPPING, index=index, count=2, run=run())
    merge_parts(tmp_path / "out")
    assert tree(tmp_path / "out") == expected


def test_groups_laid_out_one_by_one_have_the_same_bytes(
    sources: list[str], tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonpack.run.calls.WRITTEN_AT_ONCE", 0)
    pack_files(sources, tmp_path / "out", SKIPPING, run=run())
    assert tree(tmp_path / "out") == expected


def test_errors_come_in_the_order_of_their_groups(tmp_path: Path) -> None:
    """The sample of the first group is too long; in the second, two calls share an id."""
    first = [with_ids([5, 6], [each] * 3) for each in (7, 8)]
    second = [with_ids([5], [each], id="a", trace_id="u") for each in (7, 8)]
    with pytest.raises(RecordError) as raised:
        packed(tmp_path, [*first, *second], max_length=8, overlong="error")
    assert raised.value.reason == "overlong"


@pytest.mark.long
@pytest.mark.parametrize("lost", ["receipts/00001.json", "groups.index", "manifest.json"])
def test_a_run_goes_on(
    lost: str, sources: list[str], tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out, done = tmp_path / "out", list[int]()
    pack_files(sources, out, SKIPPING, run=run())
    (out / lost).write_bytes((out / lost).read_bytes()[:-30])
    watch = Watch(on_receipt=lambda receipt: done.append(receipt.unit.number))
    pack_files(sources, out, SKIPPING, run=run(watch=watch))
    assert tree(out) == expected
    assert done == ([1] if lost.startswith("receipts") else [])


@pytest.mark.parametrize("write", ["write_plan", "publish_once"])
@pytest.mark.parametrize("written", [False, True])
def test_a_run_that_was_stopped_while_its_plan_was_written_begins_again(
    write: str,
    written: bool,
    sources: list[str],
    tmp_path: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of plan and index is there then."""
    real = getattr(output_directory, write)

    def stop(*given: Any) -> None:
        if written:
            real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(output_directory, write, stop)
    with pytest.raises(KeyboardInterrupt):
        pack_files(sources, tmp_path / "out", SKIPPING, run=run())
    monkeypatch.setattr(output_directory, write, real)
    pack_files(sources, tmp_path / "out", SKIPPING, run=run())
    assert tree(tmp_path / "out") == expected


@pytest.mark.long
@pytest.mark.parametrize("lost", ["", "index", "input"])
def test_files_that_are_as_they_were_are_not_read_again(
    lost: str, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index vouches for the groups by its hash, the stamps for the files."""
    out, inputs = tmp_path / "out", [str(tmp_path / Path(source).name) for source in sources]
    for source, copy in zip(sources, inputs, strict=True):
        Path(copy).write_bytes(Path(source).read_bytes())
    monkeypatch.setattr(plan, "is_settled", lambda _: True)
    first = pack_files(inputs, out, SKIPPING, run=run())
    planned: list[str] = []
    real = call_plan.plan_groups

    def plan_groups(*args: Any, **options: Any) -> Any:
        planned.append("again")
        return real(*args, **options)

    monkeypatch.setattr(call_plan, "plan_groups", plan_groups)
    if lost == "index":
        (out / "groups.index").write_bytes(b"")
    elif lost == "input":
        Path(inputs[0]).touch()
    assert pack_files(inputs, out, SKIPPING, run=run()) == first
    assert planned == (["again"] if lost else [])


def test_another_grouping_is_another_run(sources: list[str], tmp_path: Path) -> None:
    pack_files(sources, tmp_path / "out", SKIPPING, run=run())
    alone = replace(SKIPPING, group_by="none")
    with pytest.raises(UsageError, match="--group-by auto there, none here"):
        pack_files(sources, tmp_path / "out", alone, run=run())


def test_what_groups_the_calls_is_said(sources: list[str], tmp_path: Path) -> None:
    notes: list[str] = []
    watch = Watch(on_note=notes.append)
    pack_files(sources, tmp_path / "out", SKIPPING, run=run(watch=watch))
    assert notes[0].endswith(" records in 12 groups by trace_id")
    misspelt = replace(SKIPPING, group_by="trace")
    pack_files(sources, tmp_path / "alone", misspelt, run=run(watch=watch))
    assert notes[-1].startswith("no record has trace: ")
    assert notes[-1].endswith(" records, each a group; check --group-by")


@pytest.mark.long
@pytest.mark.parametrize("form", ["list", "gzip", "list.gzip", "parquet", "stdin"])
def test_the_form_of_a_file_does_not_change_a_row(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are looked up in what compressed files, rows and pipes are unpacked to."""
    calls = agents(6, bad=False)
    plain = written(tmp_path / "calls.jsonl", calls)
    whole = Path(plain).read_bytes()
    if "list" in form:
        whole = json.dumps(calls, indent=1).encode()
    path = tmp_path / form
    path.write_bytes(gzip.compress(whole) if "gzip" in form else whole)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(calls), path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(whole)))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = run(temp_dir=str(temporary), num_proc=2)
    one = pack_files([plain], tmp_path / "one", OPTIONS, run=run(unit_bytes=1 << 20))
    other = pack_files(
        ["-" if form == "stdin" else str(path)], tmp_path / "other", OPTIONS, run=settings
    )
    again = (
        pack_files(
            ["-" if form == "stdin" else str(path)], tmp_path / "again", OPTIONS, run=settings
        )
        if form != "stdin"
        else other
    )
    assert again.content_hash == other.content_hash
    assert rows_of(tmp_path / "one", one) == rows_of(tmp_path / "other", other)
    assert len(other.shards) > 1
    assert list(temporary.iterdir()) == []


# --- what is packed ------------------------------------------------------------------------------


def test_a_sample_is_a_group(tmp_path: Path) -> None:
    manifest, rows = packed(tmp_path, agents(5, bad=False))
    calls = agents(5, bad=False)
    assert manifest.columns == ["loss_weights", "segment_call", "call_id", "call_sample"]
    assert {row["sample_id"][0] for row in rows} == {f"agent {number}" for number in range(5)}
    assert sorted(id_ for row in rows for id_ in row["call_id"]) == sorted(c["id"] for c in calls)
    assert (manifest.counts.packed, manifest.counts.views) == (5, len(calls))


def test_ids_are_trained_as_they_were_logged(tmp_path: Path) -> None:
    calls = [
        with_ids([5, 6], [7, 8], id="a", weight=0.5),
        with_ids([5, 6, 7, 8, 9], [10], id="b"),
        with_ids([5, 6], [7, 8], id="c", loss_mask=[0, 1]),
    ]
    manifest, (row,) = packed(tmp_path, calls)
    assert row["input_ids"] == [5, 6, 7, 8, 9, 10]
    assert row["labels"] == [-100, -100, 7, 8, -100, 10]
    assert row["loss_weights"] == [0, 0, 0.5, 1.5, 0, 1]
    assert row["call_id"] == ["a", "b", "c"]
    assert row["segment_call"] == [-1, 0, -1, 1]
    assert set(row["segment_message"]) == {-1}
    assert manifest.counts.notes == {
        "joined-continued": 1,
        "joined-known-prompt": 1,
    }


@pytest.mark.parametrize("part", ["reasoning", "response"])
def test_parts_of_answers_are_trained(part: str, tmp_path: Path) -> None:
    answer = {**said("assistant", "It is 4."), "reasoning_content": "Easy."}
    call = {"messages": [said("user", "2+2?")], "response": {"choices": [{"message": answer}]}}
    _, (row,) = packed(tmp_path, [call], train_on=part)
    pairs = zip(row["labels"], row["loss_weights"], row["input_ids"], strict=True)
    trained = [token for label, weight, token in pairs if label != -100 and weight == 1]
    text = Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json")).decode(
        trained, skip_special_tokens=False
    )
    wanted = {"reasoning": "<think>\nEasy.\n</think>\n\n", "response": "It is 4.<|im_end|>"}
    assert text == wanted[part]


def test_values_keep_answers_apart(tmp_path: Path) -> None:
    calls = [
        with_ids([5, 6], [7, 8], id="a", logprobs=[-0.5, -1], advantage=1, reward=2),
        with_ids([5, 6], [7, 9], id="b", logprobs=[-0.5, -2], advantage=-1),
    ]
    manifest, (row,) = packed(tmp_path, calls)
    assert {"logprobs", "advantages", "call_reward"} <= set(manifest.columns)
    assert row["input_ids"] == [5, 6, 7, 8, 6, 7, 9]
    assert row["logprobs"] == [0, 0, -0.5, -1, 0, -0.5, -2]
    assert row["advantages"] == [0, 0, 1, 1, 0, -1, -1]
    assert str(row["call_reward"]) == "[2.0, nan]"
    assert row["loss_weights"] == [0, 0, 1, 1, 0, 1, 1]


def test_a_rejected_answer_has_labels_of_its_own(tmp_path: Path) -> None:
    pair: Json = {"trace_id": "t", "messages": [said("user", "2+2?")]}
    pair |= {"chosen": [said("assistant", "4")], "rejected": [said("assistant", "5")]}
    _, (row,) = packed(tmp_path, [pair])
    assert row["call_role"] == [1, 2]
    both = zip(row["labels"], row["preference_labels"], strict=True)
    assert {(a != -100, b != -100) for a, b in both} == {
        (True, False),
        (False, True),
        (False, False),
    }
    assert 0 not in {
        w for w, a in zip(row["loss_weights"], row["labels"], strict=True) if a != -100
    }


def test_a_call_that_is_logged_twice_counts_once(tmp_path: Path) -> None:
    calls = [
        with_ids([5, 6], [7], id="a"),
        with_ids([5, 6], [7], id="a"),
        with_ids([5, 6], [7]),
        with_ids([5, 6], [7]),
        with_ids([5, 6], [7], weight=2),
    ]
    manifest, (row,) = packed(tmp_path, calls)
    assert row["loss_weights"] == [0, 0, 4]
    assert row["call_id"] == ["a", f"{tmp_path}/calls.jsonl:3", f"{tmp_path}/calls.jsonl:5"]
    assert manifest.counts.notes["repeated-call"] == 2


@pytest.mark.parametrize("own", [{"id": "a"}, {}])
def test_a_call_that_is_logged_again_behind_a_shorter_one_counts_once(
    own: Json, tmp_path: Path
) -> None:
    """Whatever pieces its prompt is cut into, where no special tokens part the messages."""
    asked = [said("user", "\nline\nline")]
    going_on = [*asked, said("assistant", "\n"), said("user", "\t")]
    calls = [{"trace_id": "t", "messages": going_on, "response": "6", **own}]
    calls += [{"trace_id": "t", "messages": asked, "response": "4"}, *calls]
    answer = "' ' ~ m.content ~ '<|im_end|>'"
    shown = f"{{{{ ' [INST] ' ~ m.content ~ ' [/INST]' if m.role == 'user' else {answer} }}}}"
    template = f"{{% for m in messages %}}{shown}{{% endfor %}}"
    manifest, _ = packed(tmp_path, calls, chat_template=template)
    assert manifest.counts.views == 2
    assert manifest.counts.notes["repeated-call"] == 1


def test_equal_answers_of_one_record_are_two_calls(tmp_path: Path) -> None:
    choices = [{"message": said("assistant", "4")}] * 2
    call = {"messages": [said("user", "2+2?")], "response": {"choices": choices}}
    manifest, (row,) = packed(tmp_path, [call])
    assert max(row["loss_weights"]) == 2
    assert manifest.counts.views == 2


def test_an_empty_answer_is_no_parent_and_is_not_trained(tmp_path: Path) -> None:
    calls = [with_ids([5, 6], []), with_ids([5, 6, 9], [7])]
    manifest, (row,) = packed(tmp_path, calls)
    assert row["input_ids"] == [5, 6, 9, 7]
    assert manifest.counts.notes["empty-generation"] == 1
    assert not any(note.startswith("joined") for note in manifest.counts.notes)


def test_rewritten_history_is_counted_where_it_was(tmp_path: Path) -> None:
    chat = [said("system", "Hi."), said("user", "2+2?"), said("assistant", "4"), said("user", "?")]
    calls = [
        {"trace_id": 1, "messages": messages, "response": "Well."}
        for messages in (chat, [*chat[:1], said("user", "In short: 4."), chat[3]])
    ]
    manifest, _ = packed(tmp_path, calls)
    assert manifest.counts.notes["joined-rewritten message 1"] == 1


def test_other_tools_count_as_rewritten_text_of_the_template(tmp_path: Path) -> None:
    """Tools stand in no message, and these calls were not logged as token ids."""
    calls = [
        {"trace_id": 1, "messages": [said("user", "2+2?")], "response": "4", "tools": [tool]}
        for tool in ({"name": "add", "parameters": {}}, {"name": "sum", "parameters": {}})
    ]
    manifest, _ = packed(tmp_path, calls)
    assert manifest.counts.notes["joined-rewritten template text"] == 1


def test_ids_are_compared_with_their_messages(tmp_path: Path) -> None:
    plain = {"trace_id": 1, "messages": [said("user", "2+2?")], "response": "4"}
    _, (row,) = packed(tmp_path, [plain])
    cut = row["labels"].index(next(label for label in row["labels"] if label != -100))
    ids = row["input_ids"]
    known = {**plain, "prompt_token_ids": ids[:cut], "completion_token_ids": ids[cut:]}
    other = {**known, "completion_token_ids": [*ids[cut:], 9]}
    (tmp_path / "again").mkdir()
    manifest, _ = packed(tmp_path / "again", [known, other])
    assert manifest.counts.notes["rendered-equal"] == 1
    assert manifest.counts.notes["rendered-otherwise completion"] == 1
    at = len(ids) - cut
    shown = f"calls.jsonl:2, token {at} of the completion: '*' logged, nothing rendered"
    shown = f"{tmp_path / 'again'}/{shown}"
    assert manifest.counts.examples == {"rendered-otherwise": shown}
    assert any(shown in line for _, line in summary_lines(manifest))
    path = tmp_path / "again" / "out" / "manifest.json"
    path.write_text(path.read_text().replace(" logged, ", " written, "))
    assert dict(verify_dataset(path.parent).counts) == {"RP014": 1}


@pytest.mark.parametrize("scheme", ["message", "turn", "conversation"])
def test_weights_are_shared_out(scheme: Any, tmp_path: Path) -> None:
    """Three answers, two of them equal, to the first question are one turn."""
    asked, more = [said("user", "2+2?")], [said("assistant", "4"), said("user", "Sure?")]
    calls: list[Json] = [
        {"id": 0, "trace_id": 1, "messages": asked, "response": "4"},
        {"id": 1, "trace_id": 1, "messages": asked, "response": "It is four."},
        {"id": 2, "trace_id": 1, "messages": asked, "response": "4"},
        {"id": 3, "trace_id": 1, "messages": [*asked, *more], "response": "Yes, of course."},
    ]
    _, (row,) = packed(tmp_path, calls, loss_weights=scheme)
    sums = dict.fromkeys(row["call_id"], 0.0)
    stops = [*row["segment_start"][1:], row["length"]]
    for start, stop, call in zip(row["segment_start"], stops, row["segment_call"], strict=True):
        if call >= 0:
            sums[row["call_id"][call]] += sum(row["loss_weights"][start:stop])
    expected = {"message": {"0": 2, "1": 1, "3": 1}, "turn": {"3": 1}, "conversation": {}}[scheme]
    assert {id_: sums[id_] for id_ in expected} == pytest.approx(expected)
    whole = {"message": 4, "turn": 2, "conversation": 1}[scheme]
    assert sum(sums.values()) == pytest.approx(whole)


def test_a_group_is_of_one_split(tmp_path: Path) -> None:
    calls = agents(30, bad=False)
    manifest, _ = packed(tmp_path, calls, split=("test=0.3",))
    of = {
        id_: shard.split
        for shard in manifest.shards
        for row in pq.read_table(tmp_path / "out" / shard.path).to_pylist()
        for id_ in row["sample_id"]
    }
    assert of == {f"agent {n}": split_of(f"agent {n}".encode(), {"test": 0.3}) for n in range(30)}
    assert set(of.values()) == {"train", "test"}


# --- what is refused -----------------------------------------------------------------------------


def test_a_call_that_is_too_long_is_left_out_of_its_group(tmp_path: Path) -> None:
    calls = [with_ids([5], [7]), with_ids([5, 6], [7] * 9)]
    with pytest.raises(RecordError, match=r"calls.jsonl:2: .*: a view of 11 tokens, expected"):
        packed(tmp_path, calls, max_length=10, overlong="error")
    manifest, (row,) = packed(tmp_path, calls, max_length=10)
    assert row["input_ids"] == [5, 7]
    assert manifest.counts.rejects == {"overlong": 1}


def test_one_of_the_calls_of_a_record_may_be_too_long(tmp_path: Path) -> None:
    record = {"calls": [with_ids([5, 6], [7] * 9), with_ids([5], [7])]}
    manifest, (row,) = packed(tmp_path, [record], max_length=10)
    assert row["input_ids"] == [5, 7]
    assert (manifest.counts.rejected, manifest.counts.left_out) == (0, {"over-max-length": 1})


def test_a_group_that_is_too_long_is_divided(tmp_path: Path) -> None:
    calls = [with_ids([5, 6], [7 + turn] * 5, id=turn, weight=2) for turn in range(4)]
    manifest, rows = packed(tmp_path, calls, max_length=16)
    assert [row["call_id"] for row in rows] == [["0", "1"], ["2", "3"]]
    trained = [label for row in rows for label in row["labels"] if label != -100]
    assert trained == [token for call in calls for token in call["completion_ids"]]
    assert {weight for row in rows for weight in row["loss_weights"]} == {0, 2}
    assert manifest.counts.divided == 1


def test_a_group_that_is_too_long_is_left_out_with_all_its_records(tmp_path: Path) -> None:
    calls = [with_ids([5], [7] * 5), with_ids([6], [7] * 5), {**with_ids([5], [7]), "trace_id": 2}]
    manifest, (row,) = packed(tmp_path, calls, max_length=10, overlong="skip")
    assert row["sample_id"] == ["2"]
    assert manifest.counts.rejects == {"overlong": 2}
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["where"].rpartition(":")[2] for line in rejects] == ["1", "2"]


def test_a_record_that_repeats_a_call_is_left_out_with_its_group(tmp_path: Path) -> None:
    once = {**with_ids([5], [7] * 5), "id": "a"}
    calls = [once, once, with_ids([6], [7] * 5), {**with_ids([5], [7]), "trace_id": 2}]
    manifest, _ = packed(tmp_path, calls, max_length=10, overlong="skip")
    assert manifest.counts.rejects == {"overlong": 3}


def test_a_dry_run_of_few_calls_reads_all(tmp_path: Path) -> None:
    source = written(tmp_path / "calls.jsonl", agents(bad=False))
    found = estimate([source], OPTIONS, run=run())
    counts = pack_files([source], tmp_path / "out", OPTIONS).counts
    assert (found.tokens, found.conversations) == (counts.tokens, counts.packed)


@pytest.mark.long
def test_a_dry_run_takes_a_sample_of_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "calls.jsonl", agents(400, bad=False))
    counts = pack_files([source], tmp_path / "out", OPTIONS).counts
    monkeypatch.setattr(estimates, "SMALL", 0)
    monkeypatch.setattr(estimates, "GROUP_BYTES", 1 << 18)
    found = estimate([source], OPTIONS, run=run())
    assert found.tokens != counts.tokens
    assert found.tokens == pytest.approx(counts.tokens, rel=0.1)
    assert found.conversations == counts.packed


def test_inspect_shows_what_a_call_saw_and_wrote(tmp_path: Path) -> None:
    packed(tmp_path, agents(5, bad=False))
    calls = {call["id"]: call for call in agents(5, bad=False)}
    for id_ in ("0.0", "4.0"):
        done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "out"), "--view", id_])
        shown = done.stdout
        assert shown.startswith("<|im_start|>user\n" + calls[id_]["messages"][0]["content"])
        answer = calls[id_]["response"]["choices"][0]["message"]
        assert shown.endswith(answer["content"] + "<|im_end|>")
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "out"), "--view", "nine"])
    assert "--view: no call has the id 'nine'" in str(done.exception)


def test_calls_in_ids_need_no_text_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = lru_cache(lambda *_: pytest.fail("it was loaded"))
    monkeypatch.setattr(tokenizer_module, "_loaded", none)
    source = tmp_path / "calls.jsonl"
    source.write_text('{"prompt_token_ids": [5], "completion_token_ids": [7, 4]}\n')
    options = Options(tokenizer=str(FIXTURES / "tokenizer"), seed=1)
    manifest = pack_files([str(source)], tmp_path / "out", options, run=Run(samples=True))
    assert manifest.counts.views == 1
    assert "samples.html" in tree(tmp_path / "out")


def test_the_backend_is_chosen_by_the_text_that_calls_do_not_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Choice, "backends", lambda _, characters: asked.append(characters) or ())
    messages: list[Json] = [{"role": "user", "content": "x" * 3_000}]
    calls: list[Json] = []
    for number in range(30):
        answer = {"role": "assistant", "content": f"answer {number}"}
        calls.append({"trace_id": "t", "messages": [*messages], "response": answer})
        messages += [answer, {"role": "user", "content": f"question {number}"}]
    packed(tmp_path, calls)
    assert 3_000 < max(asked) < 12_000 < (tmp_path / "calls.jsonl").stat().st_size / 8
