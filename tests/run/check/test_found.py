"""Each fault is found in data that has it, and nothing in data that is right.

Right data are npass rows without what is ours, in the shape that axolotl and LLaMA-Factory save:
`input_ids` and `labels`. Faults are planted in them, and made by TRL's and axolotl's own code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from runs import FIXTURES

import reasonpack
from reasonpack.cli import cli
from reasonpack.run.check.found import Findings, Group, finding_lines
from reasonpack.run.check.written import FAULTS
from tests.run.check.saved_sets import save_to_disk

TOKENIZER = str(FIXTURES / "tokenizer")
CHATS = FIXTURES / "chats.jsonl"
Rows = list[tuple[list[int], list[int]]]
START, STOP = 3985, 3986
"""The ids of <|im_start|> and <|im_end|>."""


def check(*arguments: object, tokenizer: str = TOKENIZER) -> tuple[int, dict[str, Any]]:
    call = ["check", *map(str, arguments), "--tokenizer", tokenizer, "--json"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


def places(found: dict[str, Any], kind: str) -> dict[str, int]:
    return {code: group["places"] for code, group in found[kind].items()}


def right_rows(tmp_path: Path, template: str | None = None, source: Path = CHATS) -> Rows:
    options = reasonpack.Options(
        tokenizer=TOKENIZER,
        chat_template=template,
        layout="npass",
        missing_reasoning="empty-think",
        on_error="skip",
    )
    reasonpack.pack_files([str(source)], tmp_path / "npass", options)
    (shard,) = (tmp_path / "npass" / "data").glob("*.parquet")
    table = pq.read_table(shard, columns=["input_ids", "labels"])
    return list(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return right_rows(tmp_path_factory.mktemp("right"))


def saved(folder: Path, rows: Rows) -> Path:
    ids, labels = zip(*rows, strict=True)
    return save_to_disk(folder / "set", {"input_ids": list(ids), "labels": list(labels)})


def test_nothing_is_found_in_what_is_right(right: Rows, tmp_path: Path) -> None:
    rows = saved(tmp_path, right)
    status, found = check(rows, CHATS)
    assert (status, found["ok"], found["faults"], found["suspects"]) == (0, True, {}, {})
    assert found["documents"] == found["found"] == len(right)
    assert found["source"]["answers"] == found["source"]["answers_trained"] == 89
    assert check(rows)[1]["suspects"] == {}


@pytest.mark.long
@pytest.mark.parametrize("path", sorted((FIXTURES / "templates").glob("*.jinja")), ids=str)
def test_nothing_is_found_whatever_the_template(path: Path, tmp_path: Path) -> None:
    rows = saved(tmp_path, right_rows(tmp_path, str(path)))
    for source in ([], [CHATS]):
        status, found = check(rows, *source, "--chat-template", path)
        assert (status, found["faults"], found["suspects"]) == (0, {}, {}), source


def all_trained(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return [*ids, 198], [*ids, 198]


def stop_untrained(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids, [-100 if label == STOP else label for label in labels]


def without_stop(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids[:-1], labels[:-1]


def cut(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids[:-5], labels[:-5]


def shifted(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    return ids, [*labels[1:], -100]


def headless(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    at = ids.index(START, 1)
    return ids[at:], labels[at:]


PLANTED: list[tuple[Callable[..., Any], dict[str, int], dict[str, int]]] = [
    (all_trained, {"template-text": 1, "after-stop": 1}, {"template-text": 1, "after-stop": 1}),
    (stop_untrained, {"stop-untrained": 1}, {"stop-untrained": 1}),
    (without_stop, {"stop-missing": 1}, {"cut": 1}),
    (cut, {"cut": 1}, {"cut": 1}),
    (shifted, {"labels": 1}, {"labels": 1}),
    (headless, {"context": 1}, {}),
]


@pytest.mark.parametrize(
    ("plant", "faults", "suspects"), PLANTED, ids=[each[0].__name__ for each in PLANTED]
)
def test_a_planted_fault_is_found(
    plant: Callable[..., Any],
    faults: dict[str, int],
    suspects: dict[str, int],
    right: Rows,
    tmp_path: Path,
) -> None:
    """In the first row, of one turn; with the source it is a fault, without it a suspect."""
    rows = saved(tmp_path, [plant(*right[0]), *right[1:]])
    status, found = check(rows, CHATS)
    assert (status, places(found, "faults")) == (1, faults)
    status, found = check(rows)
    assert (status, places(found, "suspects")) == (0, suspects)


def test_chats_that_nothing_parts_are_told_apart(right: Rows, tmp_path: Path) -> None:
    """By their own beginnings where they are known, else by the token with which chats begin."""
    first = [row for row in right if row[0].count(START) == 2][:3]
    ids, labels = ([*chain(*columns)] for columns in zip(*first, strict=True))
    status, found = check(saved(tmp_path, [(ids, labels)]), CHATS)
    assert (status, places(found, "faults"), found["documents"]) == (1, {"joined": 2}, 3)
    assert "[[<|im_start|>]]user" in found["faults"]["joined"]["example"]

    template = tmp_path / "begins.jinja"
    own = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text("utf-8")
    template.write_text("{{- '<|endoftext|>' }}" + own, "utf-8")
    (tmp_path / "begun").mkdir()
    rows = right_rows(tmp_path / "begun", str(template))[:3]
    rows.insert(1, ([rows[0][0][0]], [-100]))  # twice, as where a tokenizer writes it too
    ids, labels = ([*chain(*columns)] for columns in zip(*rows, strict=True))
    joined = saved(tmp_path / "begun", [(ids, labels)])
    status, found = check(joined, "--chat-template", template)
    assert (status, places(found, "suspects"), found["documents"]) == (0, {"joined": 2}, 3)
    assert found["suspects"]["joined"]["token"] == len(rows[0][0])


def test_a_row_of_another_chat_is_only_suspected(right: Rows, tmp_path: Path) -> None:
    source = tmp_path / "other.jsonl"
    source.write_text("".join(CHATS.read_text("utf-8").splitlines(keepends=True)[1:2]))
    status, found = check(saved(tmp_path, [stop_untrained(*right[0]), *right[1:]]), source)
    assert (status, found["faults"], places(found, "suspects")) == (0, {}, {"stop-untrained": 1})
    assert 0 < found["found"] < found["documents"]


def test_chats_that_differ_in_their_reasoning_alone_are_told_apart(tmp_path: Path) -> None:
    """They have weights too, which do not matter here."""
    answers = [
        {"role": "assistant", "content": "4", "reasoning_content": f"{n}.", "weight": 1 + n / 8}
        for n in range(40)
    ]
    chats = [{"messages": [{"role": "user", "content": "2+2?"}, answer]} for answer in answers]
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    status, found = check(saved(tmp_path, right_rows(tmp_path, source=source)), source)
    assert (status, found["found"], found["faults"]) == (0, 40, {})


def test_the_example_is_marked(right: Rows, tmp_path: Path) -> None:
    rows = saved(tmp_path, [stop_untrained(*right[0])])
    call = ["check", str(rows), "--tokenizer", TOKENIZER]
    shown = CliRunner().invoke(cli, call).stdout.splitlines()
    assert shown[1].startswith("suspect        stop-untrained: the stop token after")
    assert shown[2].endswith("data-00000-of-00001.arrow, row 0, token 542")
    assert shown[3].endswith("and on every cog.»[[<|im_end|>]]")
    assert len(shown) == 4


def test_colours_take_the_place_of_marks() -> None:
    group = Group(2, 3, "rows.parquet, row 0", 7, [("a", True, False), ("b", True, True)])
    found = Findings(suspects={"cut": group})
    lines = [text for _, text in finding_lines(found, colour=True)]
    assert lines[-1] == "\x1b[32m\x1b[4ma\x1b[0m\x1b[31m\x1b[1m\x1b[4mb\x1b[0m"
    assert [text for _, text in finding_lines(found, colour=False)][-1] == "«a»[[«b»]]"


def test_every_fault_is_in_the_readme() -> None:
    page = (FIXTURES.parent / "reasonpack" / "run" / "check" / "README.md").read_text("utf-8")
    table = page.partition("| fault |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([\w-]+)`", table)) - {"input_ids"} == FAULTS.keys()


# --- TRL's own code ------------------------------------------------------------------------------


def trl_places(
    tmp_path: Path, chats: list[dict[str, Any]], **how: Any
) -> tuple[dict[str, int], dict[str, int]]:
    """Let TRL prepare chats; return the faults, and what is suspected without the chats."""
    from tests.run.check import made_by_trl

    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    made_by_trl.prepared(chats, **how).save_to_disk(tmp_path / "set")
    status, found = check(tmp_path / "set", source)
    assert found["found"] == found["documents"]
    assert status == bool(found["faults"])
    return places(found, "faults"), places(check(tmp_path / "set")[1], "suspects")


def several_turns() -> list[dict[str, Any]]:
    """Chats without tools, which `datasets` would give one type."""
    chats = [json.loads(line) for line in CHATS.read_text("utf-8").splitlines()]
    return [
        {"messages": chat["messages"]}
        for chat in chats
        if "messages" in chat and not chat.get("tools")
    ]


def single_turns() -> list[dict[str, Any]]:
    first = [chat["messages"][:2] for chat in several_turns()]
    return [
        {"messages": messages}
        for messages in first
        if [each["role"] for each in messages] == ["user", "assistant"]
        and messages[1].get("reasoning_content")
    ]


@pytest.mark.long
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # of datasets and trl: not ours
def test_what_trl_prepares(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from tests.run.check import made_by_trl
    from tests.run.check.made_by_trl import marked

    chats, number = single_turns(), len(single_turns())

    def both(name: str, chats: list[dict[str, Any]] = chats, **how: Any) -> Any:
        (tmp_path / name).mkdir()
        return trl_places(tmp_path / name, chats, **how)

    assert both("right") == ({}, {})
    assert both("packed", packing="bfd", max_length=2_000) == ({}, {})
    faults, _ = both("wrapped", packing="wrapped", max_length=9_999)
    assert faults == {"joined": number - 1}
    everything = {"template-text": number, "after-stop": number}
    assert both("everything", only_answers=False) == (everything, everything)
    faults, suspects = both("cut", max_length=200)
    assert faults == suspects == {"cut": faults["cut"]}
    untrained = {"stop-untrained": number}
    assert both("untrained", template=marked(marked_stop=False)) == (untrained, untrained)
    no_stop = {"stop-missing": number}, {"cut": number}
    assert both("no stop", template=marked(stop="")) == no_stop
    faults, suspects = both("shipped", several_turns(), template=made_by_trl.SHIPPED)
    assert {"after-stop", "old-reasoning", "empty-think"} <= suspects.keys() <= faults.keys()
    faults, suspects = both("stripped", several_turns())
    assert {"reasoning-lost", "context", "empty-think"} == faults.keys()


# --- what axolotl's own code prepared, kept in files ---------------------------------------------

AXOLOTL: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "right": ({}, {}),
    "packed": ({}, {}),
    "everything": ({"template-text": 3}, {"template-text": 3}),
    "untrained": ({"stop-untrained": 3}, {"stop-untrained": 3}),
    "cut": ({"cut": 2}, {"cut": 2}),
    "several": ({"context": 2, "reasoning-lost": 8}, {}),
    "last": (
        {"context": 2, "reasoning-lost": 8, "stop-untrained": 10},
        {"stop-untrained": 10},
    ),
    "lost": ({"reasoning-lost": 5}, {}),
}


@pytest.mark.parametrize("name", AXOLOTL)
def test_what_axolotl_prepared(name: str, tmp_path: Path) -> None:
    from tests.run.check import made_by_axolotl as script

    made = json.loads((script.FOLDER / "made.json").read_text("utf-8"))
    assert made["made"] == script.MADE, "the files are made anew by the script"
    source, rows = tmp_path / "chats.jsonl", script.FOLDER / f"{name}.parquet"
    chats = script.chats(*(script.MADE[name].get(key) for key in ("turns", "chats")))
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    status, found = check(rows, source)
    alone = places(check(rows)[1], "suspects")
    assert (places(found, "faults"), alone) == AXOLOTL[name]
    assert status == bool(AXOLOTL[name][0])
    assert found["found"] == found["documents"] == len(chats)
