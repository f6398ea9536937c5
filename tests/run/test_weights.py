"""What tokens weigh, by the sums of FORMAT.md, and where weights come from."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FIXTURES, OPTIONS, WORDS

from reasonpack.choices import Layout
from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import RecordError
from reasonpack.records.unit import Record
from reasonpack.run.context import load_context
from reasonpack.run.conversations import Chats
from reasonpack.run.pack import pack_files
from reasonpack.run.unit import pack_records
from tests.changed import replace

PLAIN = Options(tokenizer=str(FIXTURES / "tokenizer"))
weight = st.sampled_from([0.25, 0.5, 1, 2, 3.5])
Json = dict[str, Any]


@st.composite
def chats(draw: st.DrawFn) -> Json:
    """Turns of one or two answers, with weights here and there, and answers that are context."""
    messages: list[Json] = []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(st.sampled_from(WORDS))})
        for _ in range(draw(st.integers(1, 2))):
            text = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)))
            messages.append({"role": "assistant", "content": text, "reasoning_content": "so"})
            if draw(st.booleans()):
                messages[-1]["weight"] = draw(weight | st.just(0))
    messages[-1].pop("weight", None)
    record: Json = {"id": "x", "messages": messages}
    return record | ({"weight": draw(weight)} if draw(st.booleans()) else {})


def sums(record: Json, options: Options) -> tuple[dict[int, float], Counter[int]]:
    """The weights and the tokens of each trained message, over all samples."""
    line = json.dumps(record).encode()
    work = Chats(options, load_context(PLAIN), columns=["loss_weights"])
    laid = work.lay_out([Record("x:1", line)])
    weights: dict[int, float] = defaultdict(float)
    tokens: Counter[int] = Counter()
    for sample in laid.samples:
        sizes = np.diff(sample.segments.start, append=sample.length)
        message = np.repeat(sample.segments.message, sizes)
        for token in np.flatnonzero(sample.labels != -100).tolist():
            tokens[int(message[token])] += 1
            weights[int(message[token])] += float(sample.extra["loss_weights"][token])
    return weights, tokens


@pytest.mark.long
@settings(max_examples=60)
@given(chats(), st.sampled_from(["onepass", "npass"]))
def test_sums_are_those_of_the_format(record: Json, layout: Layout) -> None:
    """a(m) is what the data says of message m, n(m) how many tokens of it are trained."""
    options = replace(PLAIN, layout=layout)
    messages = record["messages"]
    of = {
        number: record.get("weight", 1) * message.get("weight", 1)
        for number, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("weight") != 0
    }
    turn = np.cumsum([message["role"] == "user" for message in messages]).tolist()

    found, tokens = sums(record, replace(options, loss_weights="data"))
    assert found == pytest.approx({m: a * tokens[m] for m, a in of.items()}, rel=1e-5)
    found, _ = sums(record, replace(options, loss_weights="message"))
    assert found == pytest.approx(of, rel=1e-5)
    found, _ = sums(record, replace(options, loss_weights="turn"))
    in_turn = Counter[int]()
    for m in of:
        in_turn[turn[m]] += tokens[m]
    expected = {m: a * tokens[m] / in_turn[turn[m]] for m, a in of.items()}
    assert found == pytest.approx(expected, rel=1e-5)
    found, _ = sums(record, replace(options, loss_weights="conversation"))
    expected = {m: a * tokens[m] / tokens.total() for m, a in of.items()}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", ["message", "turn", "conversation"])
def test_weights_are_those_of_the_whole_conversation_where_it_is_divided(scheme: Any) -> None:
    """And where a message is left out, the others weigh what they would beside it."""
    words = " ".join(WORDS[:30])
    turn = [{"role": "user", "content": words}, {"role": "assistant", "content": words}]
    record = {"id": "x", "messages": [*turn, *turn, *turn, *turn[:1], {**turn[1], "weight": 2}]}
    options = replace(PLAIN, loss_weights=scheme)
    whole, tokens = sums(record, options)
    one_view = len(whole) and max(tokens.values()) * 10
    divided, _ = sums(record, replace(options, max_length=one_view))
    assert {m: divided[m] for m in divided} == pytest.approx({m: whole[m] for m in divided})


# --- columns -------------------------------------------------------------------------------------


def record(**fields: Any) -> Json:
    answer = {"role": "assistant", "content": "4", **fields}
    return {"messages": [{"role": "user", "content": "2+2?"}, answer]}


def packed(folder: Path, records: list[Json], **asked: Any) -> tuple[Manifest, list[Json]]:
    (folder / "chats.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    manifest = pack_files(
        [str(folder / "chats.jsonl")], folder / "out", replace(PLAIN, **asked), overwrite=True
    )
    batches = [b for shard in manifest.shards for b in read_shard(folder / "out" / shard.path)]
    return manifest, [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("scheme", ["auto", "none", "data", "message", "turn", "conversation"])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_column_is_planned_by_the_option_or_by_what_inputs_hold(
    tmp_path: Path, scheme: Any, weighted: bool
) -> None:
    records = [record(weight=1), record(weight=0.5 if weighted else 1)]
    if scheme == "none" and weighted:
        with pytest.raises(RecordError, match=r"weight 0\.5.*--loss-weights data"):
            packed(tmp_path, records, loss_weights=scheme)
        return
    manifest, rows = packed(tmp_path, records, loss_weights=scheme)
    expected = scheme in ("data", "message", "turn", "conversation") or (
        scheme == "auto" and weighted
    )
    assert manifest.columns == (["loss_weights"] if expected else [])
    assert all(("loss_weights" in row) == expected for row in rows)
    assert json.loads((tmp_path / "out/plan.json").read_bytes())["columns"] == manifest.columns


def test_a_renamed_weight_is_asked_for(tmp_path: Path) -> None:
    """Files are searched for the known names alone, so that the option says it."""
    manifest, (row,) = packed(tmp_path, [record(mass=0.5)], field=("mass=weight",))
    assert manifest.columns == ["loss_weights"]
    assert set(row["loss_weights"]) == {0.0, 0.5}


def test_unweighted_data_is_what_it_was(tmp_path: Path) -> None:
    _, plain = packed(tmp_path, [record()], loss_weights="none")
    manifest, auto = packed(tmp_path, [record()])
    assert plain == auto
    assert manifest.columns == []


def test_records_without_a_plan_have_no_weights_unless_asked_for() -> None:
    """A table of records in memory: nothing may depend on what one of them holds."""
    records = [Record("x:1", json.dumps(record(weight=0.5)).encode())]
    with pytest.raises(RecordError, match="--loss-weights data"):
        pack_records(records, PLAIN, load_context(PLAIN))
    weighted = replace(PLAIN, loss_weights="data")
    table = pack_records(records, weighted, load_context(weighted))
    assert "loss_weights" in table.column_names


def test_options_of_tests_are_unweighted() -> None:
    assert OPTIONS.columns == ()
