"""Columns and tags as LLaMA-Factory names them."""

from __future__ import annotations

import json
from pathlib import Path

from reasonpack.verify.check import verify_dataset
from tests.cli.called import TOKENIZER, call, write


def test_columns_and_tags_of_llama_factory_are_read(source: Path, tmp_path: Path) -> None:
    """An entry of a dataset_info.json, as it is there."""
    entry = {
        "columns": {"messages": "dialog", "tools": "functions", "system": "system", "images": None},
        "tags": {
            "role_tag": "who",
            "content_tag": "text",
            "user_tag": "guest",
            "system_tag": "sys",
        },
    }
    entry["tags"] |= {"assistant_tag": "bot", "function_tag": "function", "observation_tag": "seen"}
    said = [
        ["guest", "2+2?"],
        ["function", '{"name": "add", "arguments": {"a": 2}}'],
        ["seen", "4"],
    ]
    dialog = [{"who": who, "text": text} for who, text in [["sys", "Sum."], *said, ["bot", "4."]]]
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    source.write_text(json.dumps({"id": "x", "dialog": dialog, "functions": [tool]}) + "\n")
    text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in entry.items())
    arguments = [source, "--tokenizer", TOKENIZER, "--config", write(tmp_path, text)]
    made = call(*arguments, "-o", tmp_path / "out")
    assert made.exit_code == 0, made.output
    assert "views          2 trained" in made.output
    assert not verify_dataset(tmp_path / "out", [str(source)]).total
    wrong = call(*arguments, "-o", tmp_path / "x", "--columns", '{"query": "input"}')
    assert wrong.exit_code == 2
    assert wrong.output.startswith('Error: --columns: query: "input", expected a name for some of')
    wrong = call(*arguments, "-o", tmp_path / "x", "--columns", '{"messages": 5}')
    assert "Fix: write the name that the records have, in quotes." in wrong.output
