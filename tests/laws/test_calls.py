"""The theorem, for calls: a group trains what its calls train one by one.

For every call, prompt and completion encoded as logged; the weights of each (prefix, token) are
those of the calls, added up, whatever was compacted, rewritten, retried, repeated or re-ordered.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logged_calls import answer_of, calls_of, encoder, expected, groups
from tokenizers import Tokenizer

from reasonpack.choices import Layout
from reasonpack.datasets.options import Options
from reasonpack.records.groups import Group
from reasonpack.records.reasoning import repeats
from reasonpack.records.unit import Record
from reasonpack.rows.schema import planned, schema
from reasonpack.rows.table import rows_to_table
from reasonpack.run.call_plan import ALWAYS
from reasonpack.run.calls import CallGroups
from reasonpack.run.context import load_context as load_context_anew
from reasonpack.run.pack import pack_files
from reasonpack.run.work import Laid
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

load_context = functools.cache(load_context_anew)

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SHARED = ROOT.parent / "shared" / "data"
FAMILIES = list(oracle.FAMILIES)
EXAMPLES = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])

Json = dict[str, Any]


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))


def source(family: str) -> str:
    return (FIXTURES / "templates" / f"{family}.jinja").read_text("utf-8")


def laid_out(
    calls: Sequence[Json], family: str, columns: Sequence[str] = (), **changes: Any
) -> tuple[Laid, list[Json]]:
    """Run the calls of one group through the package as a work unit does."""
    options = Options(
        tokenizer=str(FIXTURES / "tokenizer"),
        chat_template=str(FIXTURES / "templates" / f"{family}.jinja"),
        **changes,
    )
    records = [
        Record(f"calls.jsonl:{number}", json.dumps(call).encode())
        for number, call in enumerate(calls, 1)
    ]
    names = planned([*ALWAYS, *columns])
    group = Group("g", 0, iter(records), records.__getitem__)
    laid = CallGroups(options, load_context(options), columns=names).lay_out([group])
    return laid, rows_to_table(laid.samples, laid.rows["train"], schema({}, names)).to_pylist()


def _repeats(message: Json) -> bool:
    said, thought = message.get("content"), message.get("reasoning_content")
    return bool(said and thought and repeats(thought, said, name="reasoning_content"))


def check_group(calls: list[Json], family: str, layout: Layout) -> None:
    """Raise AssertionError unless a group trains what its calls do."""
    try:
        wanted = expected(calls, family, source(family), encoder(tokenizer()))
    except (oracle.PrefixError, jinja2.TemplateError):
        return  # the oracle cannot say; test_npass sees that such records are refused
    said = [message for call in calls for message in (*call["messages"], answer_of(call))]
    if any(_repeats(each) for each in said):
        return  # such reasoning is left out: test_reasoning
    laid, rows = laid_out(calls, family, layout=layout)
    assert laid.counts.views == len(wanted)
    assert oracle.weights(rows) == oracle.expected_weights(wanted)
    found = oracle.per_call(rows)
    assert found.total() == len({pair for _, pair in found})  # each pair once
    assert set(found) <= set(oracle.expected_per_call(wanted))


def of_family(family: str) -> st.SearchStrategy[list[Json]]:
    return groups(reasoning=None if oracle.FAMILIES[family].shows_reasoning else "never")


@pytest.mark.parametrize("family", ["stripped", "kept", "tool_loop"])
@EXAMPLES
@given(data=st.data())
def test_a_group_trains_what_its_calls_train(family: str, data: st.DataObject) -> None:
    check_group(
        data.draw(of_family(family)), family, data.draw(st.sampled_from(["onepass", "npass"]))
    )


@pytest.mark.long
@pytest.mark.parametrize("layout", ["onepass", "npass"])
@pytest.mark.parametrize("family", FAMILIES)
@EXAMPLES
@given(data=st.data())
def test_groups_in_all_families(family: str, layout: Layout, data: st.DataObject) -> None:
    check_group(data.draw(of_family(family)), family, layout)


# --- real conversations, logged as calls ---------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real conversations beside the checkout")
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("nemo_gym_rollouts.jsonl", "stripped"),
        ("llamafactory_reason_tool_use.jsonl", "kept"),
        ("nemo_gym_rollouts.jsonl", "kept"),
        ("llamafactory_reason_tool_use.jsonl", "stripped"),
    ],
)
@pytest.mark.long
def test_shuffled_calls_are_the_conversations_that_they_made(
    name: str, family: str, tmp_path: Path
) -> None:
    """Token for token: those of all samples, of each kind, and trained, are as many."""
    chats = [json.loads(line) for line in (SHARED / name).read_bytes().splitlines()]
    calls = [
        {**call, "trace_id": str(chat["id"])}
        for number, chat in enumerate(chats)
        for call in calls_of(chat, f"{number}.")
        if call["messages"]
    ]
    random.Random(0).shuffle(calls)
    logged = tmp_path / "calls.jsonl"
    logged.write_text("".join(json.dumps(call) + "\n" for call in calls))
    chosen = Options(
        tokenizer=str(FIXTURES / "tokenizer"),
        chat_template=str(FIXTURES / "templates" / f"{family}.jinja"),
        stray_closing_tag="text",
        max_position=1 << 20,
    )
    one = pack_files([str(SHARED / name)], tmp_path / "chats", chosen).counts
    asked = replace(chosen, input_format="calls")
    other = pack_files([str(logged)], tmp_path / "calls", asked).counts
    assert (one.rejected, other.rejected) == (0, 0)
    for count in ("packed", "views", "trained_tokens", "npass_tokens", "naive_tokens"):
        assert getattr(one, count) == getattr(other, count), count
    assert one.tokens == other.tokens or family == "stripped"
    compared = verify_dataset(tmp_path / "calls", [str(logged)], sample=30)
    assert (compared.total, compared.unchecked) == (0, {}), compared.listed
    broken = sum(n for note, n in other.notes.items() if note.startswith("joined-rewritten"))
    assert broken == 0 or family == "stripped"
