"""Each fault is found in data that has it, and nothing in data that is right.

Right data are npass rows without what is ours, in the shape that axolotl and LLaMA-Factory save:
`input_ids` and `labels`. Faults are planted in them, and made by TRL's and axolotl's own code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import FIXTURES

from tests.run.check.checked import (
    CHATS,
    Rows,
    check,
    places,
    right_rows,
    saved,
)


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
