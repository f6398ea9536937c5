"""The theorem, for whole runs with any options: the dataset trains what N-pass would.

    chats ── pack, options drawn at random ──▶ shards ──▶ pairs and weights ─┐
    chats ── rendered, encoded and counted by the oracle ────────────────────┴─ equal

How often a record is packed, and in which split, the oracle cannot say, for that goes by hashes; it
says what numbers and which company are right.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import run

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import NothingPackedError
from reasonpack.run.pack import pack_files
from tests.changed import replace
from tests.laws.test_npass import (
    Json,
    conversations,
    in_full,
    options,
    template,
    tokenizer,
)

pytestmark = pytest.mark.long
EXAMPLES = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
PARTS = ("reasoning", "response", "tool-calls")
SHARES = ["", "", ":0.5", ":2", ":1.5", "#3"]


# --- what is right -------------------------------------------------------------------------------


@dataclass
class Expected:
    """What N-pass says of a conversation: its views that fit, as calls, and what is too long."""

    fitting: list[oracle.Call] = field(default_factory=list)
    long: dict[int, int] = field(default_factory=dict)
    nodes: int = 0
    key: str = ""

    @functools.cached_property
    def pairs(self) -> Counter[Any]:
        return Counter({pair for call in self.fitting for pair in call.pairs()})


def key_of(record: Json) -> str:
    """Write what makes two conversations equal."""
    said = []
    for message in record["messages"]:
        calls = [
            (each["function"]["name"], each["function"]["arguments"])
            for each in message.get("tool_calls", ())
        ]
        texts = (message.get("content") or "", message.get("reasoning_content") or "")
        said.append((message["role"], *texts, calls))
    return json.dumps([said, record.get("tools", [])], sort_keys=True)


def expected_of(record: Json, family: str, chosen: Options, most: float) -> Expected:
    """Work out by N-pass what a record trains."""
    facts, source = oracle.FAMILIES[family], template(family).read_text("utf-8")
    which, *parts = sorted(chosen.train_on.split(","), key=lambda each: each in PARTS)
    if which in PARTS:
        which, parts = "all", [which, *parts]
    messages = record["messages"]
    if not facts.takes_bare_answers:  # they stay context: the model never answers like this
        bare = [m["role"] == "assistant" and not oracle.has_reasoning(m) for m in messages]
        messages = [{**m, "train": False} if b else m for m, b in zip(messages, bare, strict=True)]
    calls = []
    for number in oracle.trained_messages(messages, train_on=which):
        message = messages[number]
        if parts and not any(oracle.has_part(message, part) for part in parts):
            continue
        prompt, completion = oracle.view_texts(
            messages,
            source,
            number,
            stop=facts.stop,
            tools=record.get("tools"),
            reasoning_field=facts.reasoning_field,
        )
        encode = functools.partial(tokenizer().encode, add_special_tokens=False)
        ids = [encode(each).ids for each in (prompt, completion)]
        mask = None
        if parts:
            of = oracle.part_of_tokens(message, completion, tokenizer())
            mask = [each in parts for each in of]
        calls.append(oracle.Call(str(number), *ids, mask))
    turns = list(itertools.accumulate(m["role"] == "user" for m in messages))
    group = {"message": int, "turn": turns.__getitem__}.get(chosen.loss_weights, lambda _: 0)
    counts: Counter[int] = Counter()
    for call in calls:
        counts[group(int(call.id))] += len(call.pairs())
    found = Expected()
    for call in calls:
        length = len(call.prompt_ids) + len(call.completion_ids)
        weight = 1.0 if chosen.loss_weights == "none" else 1 / counts[group(int(call.id))]
        if length > most:
            found.long[int(call.id)] = length
        else:
            found.fitting.append(call._replace(weight=weight))
    paths = {
        oracle.digest([*call.prompt_ids, *call.completion_ids][:depth])
        for call in calls
        for depth in range(1, 1 + len(call.prompt_ids) + len(call.completion_ids))
    }
    found.nodes, found.key = len(paths), key_of(record)
    return found


# --- what is drawn -------------------------------------------------------------------------------


def plainly_bordered(record: Json) -> Json:
    """Give each answer a text without white space around it: parts have plain borders then."""
    messages = [dict(each) for each in record["messages"]]
    for message in (each for each in messages if each["role"] == "assistant"):
        for name in {"content", "reasoning_content"} & message.keys():
            message[name] = message[name].strip()
        message["content"] = message["content"] or "Well."
    return {**record, "messages": messages}


@st.composite
def drawn_runs(draw: st.DrawFn, family: str) -> tuple[list[list[Json]], list[str], Options]:
    """Draw two files of records, the share of each, and options."""
    which = draw(st.sampled_from(["all", "all", "last-turn", "last-message"]))
    parts = draw(st.just([]) | st.lists(st.sampled_from(PARTS), unique=True, max_size=2))
    records = draw(st.lists(conversations(family, wild=False), min_size=2, max_size=5))
    records = [in_full(each) for each in records]
    records = [plainly_bordered(each) for each in records] if parts else records
    records += draw(st.lists(st.sampled_from(records), min_size=1, max_size=3))
    records = [{"id": f"c{number}", **record} for number, record in enumerate(records)]
    cut = draw(st.integers(1, len(records) - 1))
    packing = draw(st.sampled_from(["none", "best-fit", "sequential"]))
    limit = st.integers(60, 600)
    chosen = options(
        family,
        layout=draw(st.sampled_from(["onepass", "npass"])),
        train_on=",".join([which, *parts]) if parts else which,
        packing=packing,
        max_length=draw(limit if packing != "none" else st.none() | limit),
        max_position=draw(st.none() | limit),
        max_cost=draw(st.none() | st.integers(1, 90_000)) if packing != "none" else None,
        overlong=draw(st.sampled_from(["split", "split", "skip"])),
        loss_weights=draw(st.sampled_from(["none", "message", "turn", "conversation"])),
        split=draw(st.sampled_from([("validation=0.5",), (), ("validation=0.3", "test=0.4")])),
        dedup=draw(st.sampled_from(["none", "none", "exact"])),
        sample=draw(st.none() | st.integers(1, 8)),
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
        on_error="skip",
    )
    shares = [draw(st.sampled_from(SHARES)) for _ in range(2)]
    return [records[:cut], records[cut:]], shares, chosen


def packed(
    files: Sequence[Sequence[Json]], shares: Sequence[str], chosen: Options, unit_bytes: int = 1_000
) -> tuple[Manifest | None, dict[str, list[Json]], list[Json]]:
    """Pack: the manifest, the rows of each split, and the rejects."""
    with TemporaryDirectory() as folder:
        names = []
        for number, records in enumerate(files):
            path = Path(folder, f"{number}.jsonl")
            path.write_text("".join(json.dumps(each) + "\n" for each in records))
            names.append(f"{path}{shares[number]}")
        out = Path(folder, "out")
        try:
            manifest = pack_files(names, out, chosen, run=run(unit_bytes=unit_bytes))
        except NothingPackedError:
            manifest = None
        rows = defaultdict[str, list[Json]](list)
        for shard in manifest.shards if manifest else ():
            for batch in read_shard(out / shard.path):
                rows[shard.split] += batch.to_pylist()
        lines = (path.read_bytes().splitlines() for path in out.glob("receipts/*.rejects.jsonl"))
        return manifest, rows, [json.loads(line) for each in lines for line in each]


# --- the theorem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["stripped", "thinking_prompt", "headers", "kept"])
@EXAMPLES
@given(data=st.data())
def test_a_run_trains_what_npass_trains(family: str, data: st.DataObject) -> None:
    files, shares, chosen = data.draw(drawn_runs(family))
    unit_bytes = data.draw(st.sampled_from([1_000, 3_000, 100_000]))
    manifest, rows, rejects = packed(files, shares, chosen, unit_bytes)
    most = min(chosen.max_length or math.inf, chosen.max_position or math.inf)
    wanted = {
        each["id"]: expected_of(each, family, chosen, most) for file in files for each in file
    }
    places = {f"{number}.jsonl:{line}": each["id"] for number, file in enumerate(files)
              for line, each in enumerate(file, 1)}  # fmt: skip
    refused = {places[Path(line["where"]).name]: line for line in rejects if "kind" not in line}
    copies = check_rows(rows, wanted, chosen)
    check_refused(refused, wanted, chosen)
    assert not refused.keys() & copies.keys()
    left = {
        (places[Path(line["where"]).name], line["message"], line["tokens"])
        for line in rejects
        if line.get("kind") == "message"
    }
    assert left == {(id_, *each) for id_ in copies for each in wanted[id_].long.items()}
    check_copies(copies, refused.keys(), files, shares, chosen)
    assert (manifest is None) == (not copies)


def check_rows(
    rows: dict[str, list[Json]], wanted: dict[str, Expected], chosen: Options
) -> Counter[str]:
    """Check all rows; return how often each conversation was found in them."""
    pairs: dict[str, Counter[Any]] = defaultdict(Counter)
    weights: dict[str, Counter[Any]] = defaultdict(Counter)
    splits: dict[str, set[str]] = defaultdict(set)
    for split, row in ((name, row) for name in rows for row in rows[name]):
        assert row["length"] <= (chosen.max_length or math.inf)
        assert chosen.packed or len(row["sample_id"]) == 1
        assert max(row["position_ids"]) < (chosen.max_position or math.inf)
        bounds = [*row["sample_start"], row["length"]]
        for target in oracle.targets(row):
            number = next(at for at, end in enumerate(bounds[1:]) if target.place < end)
            id_ = row["sample_id"][number]
            pairs[id_][target.pair] += 1
            if "loss_weights" in row:
                weights[id_][target.pair] += row["loss_weights"][target.place]
        for id_ in row["sample_id"]:
            splits[wanted[id_.partition("#")[0]].key].add(split)
        check_cost(row, chosen)
    for id_, found in pairs.items():
        expected = wanted[id_.partition("#")[0]]
        assert found == expected.pairs
        if chosen.loss_weights != "none":
            weighed = oracle.expected_weights(expected.fitting)
            assert weights[id_] == pytest.approx(weighed, rel=1e-5)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) <= {*chosen.splits}
    copies = Counter(id_.partition("#")[0] for id_ in pairs)
    for id_, times in copies.items():
        assert {id_, *(f"{id_}#{copy}" for copy in range(2, times + 1))} <= pairs.keys()
    return copies


def check_cost(row: Json, chosen: Options) -> None:
    """Check that a row that several samples share has no more pairs than it may."""
    if chosen.max_cost is not None and len(row["sample_id"]) > 1:
        assert int(oracle.visible(row).sum()) <= chosen.max_cost


def check_refused(refused: dict[str, Json], wanted: dict[str, Expected], chosen: Options) -> None:
    for id_, expected in wanted.items():
        reason = refused.get(id_, {}).get("reason")
        if not expected.fitting and not expected.long:
            assert reason in {None, "nothing-to-train", "no-assistant"}
        elif expected.long and (chosen.overlong == "skip" or not expected.fitting):
            assert reason in {None, "overlong"}
        elif reason is not None:  # the conversation is longer than a row
            assert (reason, chosen.overlong, chosen.layout) == ("overlong", "skip", "onepass")
            assert expected.nodes + len(expected.fitting) > (chosen.max_length or math.inf)


def check_copies(
    copies: Counter[str],
    refused: Any,
    files: Sequence[Sequence[Json]],
    shares: Sequence[str],
    chosen: Options,
) -> None:
    """Check how often each record was packed, as far as that is no matter of hashes."""
    first: dict[str, str] = {}
    for record in itertools.chain(*files):
        first.setdefault(key_of(record), record["id"])
    for file, share in zip(files, shares, strict=True):
        kept = [each["id"] for each in file]
        if chosen.dedup == "exact":
            kept = [id_ for id_ in kept if id_ in first.values()]
        assert not {each["id"] for each in file} - {*kept} & copies.keys()
        if share.startswith("#"):
            low, high = divmod(3, max(1, len(kept)))
            most = low + bool(high)
        else:
            low, most = (math.floor(float(share[1:] or 1)), math.ceil(float(share[1:] or 1)))
        for id_ in kept:
            assert copies[id_] <= most
            assert chosen.sample or id_ in refused or copies[id_] >= low
        if share.startswith("#") and not chosen.sample and not {*kept} & {*refused} and kept:
            assert sum(copies[id_] for id_ in kept) == 3
    if chosen.sample is not None:
        assert sum(copies.values()) <= chosen.sample
        if not refused and set(shares) <= {"", ":2"}:
            once = [each["id"] for each in itertools.chain(*files)]
            once = [id_ for id_ in once if chosen.dedup == "none" or id_ in first.values()]
            everything = sum(
                2 if shares[number] == ":2" else 1
                for number, file in enumerate(files)
                for each in file
                if each["id"] in once
            )
            assert sum(copies.values()) == min(chosen.sample, everything)


def test_a_fault_in_the_options_would_be_noticed() -> None:
    """The comparison can fail: other parts, weights, limits or copies than were asked for."""
    record = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    files = [[{"id": "c0", **record}], [{"id": "c1", **record, "tools": []}]]
    chosen = options("kept", loss_weights="message", on_error="skip")
    _, rows, _ = packed(files, ["", ":2"], chosen)
    wanted = {id_: expected_of(record, "kept", chosen, math.inf) for id_ in ("c0", "c1")}
    copies = check_rows(rows, wanted, chosen)
    check_copies(copies, [], files, ["", ":2"], chosen)
    twice = {id_: replace(one, fitting=[c._replace(weight=2) for c in one.fitting]) for id_, one in wanted.items()}  # fmt: skip  # noqa: E501
    with pytest.raises(AssertionError):
        check_rows(rows, twice, chosen)
    for shares, changes in ((["", ""], {}), (["", ":2"], {"dedup": "exact"})):
        with pytest.raises(AssertionError):
            check_copies(copies, [], files, shares, replace(chosen, **changes))
