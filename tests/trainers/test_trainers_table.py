"""The table of what trainers do with a chat is that of the script which makes it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from runs import ROOT

SCRIPT = ROOT / "tests" / "benchmarks" / "trainers.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("trainers_script", SCRIPT)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def rows(script: ModuleType) -> dict[str, list[int]]:
    """Read the table: trained, wrong and lost by name."""
    body = script.PAGE.read_text("utf-8").partition(script.BEGIN)[2].partition(script.END)[0]
    lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")][2:]
    return {
        name.strip(): [int(cell.replace(",", "")) for cell in cells] for name, _, *cells in lines
    }


def test_it_has_a_row_for_each_setting(script: ModuleType) -> None:
    assert [*rows(script)] == [*script.PREPARE, "reasonpack"]


def test_what_is_right_and_what_is_lost_are_all_that_the_model_writes(script: ModuleType) -> None:
    table = rows(script)
    (written, *others) = table["reasonpack"]
    assert others == [0, 0]
    for name, (trained, wrong, lost) in table.items():
        assert trained - wrong + lost == written, name


@pytest.mark.network
def test_the_last_row_is_what_is_packed(script: ModuleType, tmp_path: Path) -> None:
    import assets

    template = tmp_path / "qwen3.jinja"
    template.write_text(assets.template("trl/qwen3"), "utf-8")
    model = script.model_of(assets.tokenizer_dir("qwen3"), template, tmp_path)
    chat = tmp_path / "chat.jsonl"
    chat.write_text(json.dumps(script.conversation()) + "\n")
    *_, written = script.counted([], str(model), chat)
    assert written == rows(script)["reasonpack"][0]
