"""The tree of a sample's calls says what the run noted when it joined them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FIXTURES, run

from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.run.pack import pack_files
from reasonpack.show.call_tree import call_tree, tree_json, tree_lines
from reasonpack.show.message_view import find_view
from reasonpack.show.row import RowData, read_rows
from reasonpack.show.stats import gather
from reasonpack.show.summary import summary

Json = dict[str, Any]
OPTIONS = Options(tokenizer=str(FIXTURES / "tokenizer"))
SYSTEM = {"role": "system", "content": "You are helpful."}


def asked(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str, reasoning: str = "") -> Json:
    return {"role": "assistant", "content": text, "reasoning_content": reasoning}


def call(id_: str, messages: list[Json], answer: Json, **more: Any) -> Json:
    return {"trace_id": "t", "id": id_, "messages": messages, "response": answer, **more}


def rows_of(folder: Path, calls: list[Json]) -> tuple[dict[str, int], list[RowData]]:
    source = folder / "calls.jsonl"
    source.write_text("".join(json.dumps(each) + "\n" for each in calls))
    manifest = pack_files([str(source)], folder / "out", OPTIONS, run=run())
    return manifest.counts.notes, read_rows(folder / "out", manifest, range(manifest.counts.rows))


FIRST = [SYSTEM, asked("How many boats?")]
SECOND = [*FIRST, said("Twelve."), asked("And in the west?")]
REWRITTEN = [SYSTEM, asked("12 boats in the east. And in the west?")]
CALLS = [
    call("a.0", FIRST, said("Twelve.", "I count.")),
    call("a.0r", FIRST, said("A dozen.", "I count again.")),
    call("sub", [{**SYSTEM, "content": "You count."}, asked("Masts?")], said("Three.", "1 2 3")),
    call("a.1", SECOND, said("Nine.", "West it is.")),
    call("a.1=", SECOND, said("Nine.", "West it is.")),
    call("b.0", REWRITTEN, said("Nine.", "West.")),
    call("b.1", [*REWRITTEN, said("Nine."), asked("Sure?")], said("Yes.", "I am.")),
]
TREE = """
7 calls: over 299 tokens one by one, 181 as a tree
  call        prompt     shared    written
  a.0             27          0         13
  ├ a.0r          27         31         14  its prompt is in a.0
  │ └ sub         25          7         15  history as in a.0r before message 0, then rewritten
  └ a.1           51         27         13  shows the answer of a.0r differently
    ├ b.0         38         16         11  history as in a.1 before message 1, then rewritten
    └ b.1         55         38         10  shows the answer of b.0 differently
  a.1=             0          0          0  others train all that it wrote
"""


def test_the_tree_is_drawn(tmp_path: Path) -> None:
    _, (row,) = rows_of(tmp_path, CALLS)
    assert "\n".join(tree_lines(row, 0)) == TREE.strip("\n")
    assert [each["parent"] for each in tree_json(row, 0)] == [
        *(None, "a.0", "a.0r", "a.0r", None, "a.1", "b.0")
    ]


def test_the_next_turn_stands_below_the_one_before(tmp_path: Path) -> None:
    """Its history shows no earlier reasoning, so that it hangs on the first call of that turn."""
    function = {"name": "count", "arguments": "{}"}
    asks = {**said("", "I count."), "tool_calls": [{"type": "function", "function": function}]}
    turn = [*FIRST, asks, {"role": "tool", "content": "12"}]
    answer = said("Twelve.", "The tool says 12.")
    after = [*turn, answer, asked("Sure?")]
    calls = [
        call("1", FIRST, asks),
        call("2", turn, answer),
        call("3", after, said("Yes.", "I am.")),
    ]
    _, (row,) = rows_of(tmp_path, calls)
    shown = [line.split()[0] for line in list(tree_lines(row, 0))[2:]]
    assert [each.joint for each in call_tree(row, 0)] == ["beginning", "continued", "otherwise"]
    assert shown == ["1", "└", "3"]


def test_rewards_and_roles_are_shown(tmp_path: Path) -> None:
    """Calls that are kept apart hang on copies of the last token of their prompt."""
    pair = {"chosen": "Twelve.", "rejected": "Two.", "id": "p"}
    calls = [
        *(call(str(n), FIRST, said("Twelve.", "I count."), reward=n / 2) for n in range(3)),
        {"trace_id": "t", "messages": FIRST, **pair},
    ]
    _, (row,) = rows_of(tmp_path, calls)
    tree = call_tree(row, 0)
    assert [(each.prompt, each.joint) for each in tree[1:3]] == [
        (tree[0].prompt, "known-prompt")
    ] * 2
    shown = "\n".join(tree_lines(row, 0))
    assert "its prompt is in 0, reward 0.5\n" in shown
    assert "chosen\n" in shown
    assert shown.endswith("rejected")


@st.composite
def groups(draw: st.DrawFn) -> list[Json]:
    """Draw calls of agents that go on, try again, rewrite, and answer alike."""
    words = st.sampled_from(["boats", "masts", "12", "Yes.", "No, not one."])
    values = draw(st.booleans())
    histories: list[list[Json]] = [FIRST]
    calls = []
    for number in range(draw(st.integers(1, 7))):
        history = draw(st.sampled_from(histories))
        if draw(st.booleans()) and len(history) > 2:
            at = draw(st.integers(0, len(history) - 2))
            changed = {**history[at], "content": draw(words)}
            history = [*history[:at], changed, *history[at + 1 :]]
        answer = said(draw(words), draw(words))
        more = {"reward": float(number)} if values else {}
        calls.append(call(str(number), history, answer, **more))
        histories.append([*history, answer, asked(draw(words))])
    return calls


@pytest.mark.long
@settings(max_examples=40)
@given(calls=groups())
def test_the_tree_says_what_was_noted(
    calls: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> None:
    notes, (row,) = rows_of(tmp_path_factory.mktemp("tree"), calls)
    noted: Counter[str] = Counter()
    for note, count in notes.items():
        if note.startswith("joined-"):
            noted[note.removeprefix("joined-")] += count
    found: Counter[str] = Counter()
    for each in call_tree(row, 0)[1:]:
        joint = "known-prompt" if each.joint == "equal" else each.joint
        found[f"rewritten message {each.message}" if joint == "rewritten" else joint] += 1
    assert found == noted
    assert sum(found.values()) == len(calls) - 1


def test_stats_count_calls_and_where_histories_were_rewritten(tmp_path: Path) -> None:
    rows_of(tmp_path, CALLS)
    stats = gather(tmp_path / "out")
    found = {name: each.values.tolist() for name, each in stats.distributions.items()}
    assert (found["calls"], found["turns"], found["rewritten_at"]) == ([7], [6], [0, 1])
    assert "as calls       363 tokens" in summary(stats.manifest)


def test_what_begins_alike_has_its_own_prompt(tmp_path: Path) -> None:
    """The copy that leads an answer is of no call: the answer of another agent is not its begin."""
    _, (row,) = rows_of(tmp_path, CALLS)
    view = find_view([(row, 0)], "a.0r")
    assert view.prompt_length == find_view([(row, 0)], "a.0").prompt_length


@pytest.mark.parametrize(
    ("id_", "why"),
    [("a.1=", "others train all that it wrote"), ("a.2", "no call there has this id")],
)
def test_a_call_that_has_no_view_is_told_from_one_that_is_not_there(
    id_: str, why: str, tmp_path: Path
) -> None:
    _, (row,) = rows_of(tmp_path, CALLS)
    with pytest.raises(UsageError, match=rf"{why}\.$"):
        find_view([(row, 0)], id_)
