"""What a run was told about its records: the check of the dataset follows it, and says no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_twice import TOKENIZER, Json

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

TEMPLATES = TOKENIZER.parent / "templates"
ASK = {"role": "user", "content": "And?"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USE = {"type": "tool_use", "id": "u1", "name": "f"}


def said(content: Any, **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


CALL = said("", tool_calls=[{"id": "c1", "function": {"name": "f", "arguments": "{}"}}])
TOLD: dict[str, tuple[list[Json], Json]] = {
    "fields of the record": (
        [
            {"dialog": [ASK, CALL], "my_tools": [TOOL], "extra": {"uuid": "x"}},
            {"messages": [ASK, said("Four.")], "extra": {"uuid": "y"}},
        ],
        {"field": ("dialog=messages", "my_tools=tools", "extra.uuid=id")},
    ),
    "fields of prompt and completion": (
        [{"q": "And?", "a": "Four."}, {"q": [ASK], "a": [said("Four.", cot="Two and two.")]}],
        {"field": ("q=prompt", "a=completion", "cot=thinking")},
    ),
    "roles": (
        [
            {
                "dialog": [
                    {"who": "Guest", "text": "And?"},
                    {"who": "Caller", "text": '{"name": "f", "arguments": {}}'},
                    {"who": "Tool", "text": "4"},
                    {"who": "Bot", "text": "Four."},
                ],
                "tools": [TOOL],
            }
        ],
        {
            "field": ("dialog=messages", "who=from", "text=value"),
            "role": ("Guest=user", "Bot=assistant", "Caller=function_call", "Tool=observation"),
        },
    ),
    "fields within others": (
        [{"messages": [ASK, said("Four.", extra={"cot": "Two and two.", "plan": "Add."})]}],
        {"field": ("extra.cot=thought",), "ignore_fields": ("extra.plan",)},
    ),
    "fields left out at every depth": (
        [
            {
                "messages": [
                    ASK,
                    said(
                        [{"type": "text", "text": "Four.", "cot": "A"}],
                        metadata={"reasoning": "B"},
                        mood=["merry"],
                    ),
                    ASK,
                    said("", tool_calls=[{**CALL["tool_calls"][0], "thoughts": "A"}]),
                ],
                "tools": [TOOL],
            }
        ],
        {"ignore_fields": ("content.cot", "metadata", "mood", "tool_calls.thoughts")},
    ),
    "fields of functions that the template would show": (
        [
            {
                "messages": [
                    ASK,
                    said(
                        "",
                        tool_calls=[
                            {
                                "id": "c1",
                                "index": 0,
                                "function": {"name": "f", "arguments": {}, "status": "done"},
                            }
                        ],
                    ),
                ],
                "tools": [TOOL],
            }
        ],
        {"ignore_fields": ("tool_calls.function.status",)},
    ),
    "a field of a record on a message": (
        [{"messages": [ASK, said("Four.", tools=["x"])]}],
        {"ignore_fields": ("message.tools",)},
    ),
    "fields that hold nothing to learn": (
        [
            {
                "messages": [
                    ASK,
                    said(
                        "Four.",
                        finish_details={"type": "stop"},
                        end_turn=True,
                        provider_specific_fields={"citations": ["x"]},
                    ),
                ]
            }
        ],
        {},
    ),
    "closing tags that end reasoning": (
        [
            {"messages": [ASK, said("<think>Two</think>and two.</think>Four.")]},
            {"messages": [ASK, said("Two</think>and two.</think>Four.")]},
            {"messages": [ASK, said("Two and two. </think>Four.")]},
        ],
        {"stray_closing_tag": "reasoning"},
    ),
    "closing tags that are text": (
        [
            {"messages": [ASK, said("<think>Two</think>and two.</think>Four.")]},
            {"messages": [ASK, said("It is </think>."), ASK, said("It is </think>, again.")]},
            {"messages": [ASK, said("It is </think>.", thought="Tags.")]},
        ],
        {"stray_closing_tag": "text"},
    ),
    "reasoning that was cut off before its tag": (
        [{"messages": [ASK, said("<think>Two and", finish_reason="length")]}],
        {},
    ),
}
CASES = [(name, template) for name in TOLD for template in (None, "kept.jinja", "passing")]
CASES.append(("fields of functions that the template would show", "plain.jinja"))
PASSING = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.long
@pytest.mark.parametrize(("name", "template"), CASES)
def test_what_was_packed_is_checked(tmp_path: Path, name: str, template: str | None) -> None:
    records, told = TOLD[name]
    source = tmp_path / "a.jsonl"
    records = [*records, {"messages": [ASK, said("Plain.")]}]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    named = {None: None, "passing": PASSING}.get(template, str(TEMPLATES / str(template)))
    asked = {"on_error": "skip", "chat_template": named, **told}
    options = Options(tokenizer=str(TOKENIZER), **asked)
    made = pack_files([str(source)], tmp_path / "packed", options)
    assert template or made.counts.rejected == 0
    found = verify_dataset(tmp_path / "packed", [str(source)])
    assert (found.total, found.unchecked) == (0, {}), [str(one) for one in found.listed]
    assert found.checked["packed"] == made.counts.packed


@pytest.mark.parametrize("how", ["keep", "drop", "refuse"])
def test_nulls_of_structs_are_those_of_the_run(tmp_path: Path, how: str) -> None:
    calls = [
        said([{**USE, "input": {"a": {"b": 1}}}]),
        said([{**USE, "input": {"a": {"c": 2}, "d": 3}}]),
    ]
    source = tmp_path / "a.parquet"
    asking = {"role": "user", "content": [{"type": "text", "text": "And?"}]}
    rows = [{"messages": [asking, call], "tools": json.dumps([TOOL])} for call in calls]
    if how == "refuse":  # those of a text were written
        calls.append(said([{**USE, "input": {"a": None}}]))
        rows = [{"messages": json.dumps([asking, call])} for call in calls]
    pq.write_table(pa.Table.from_pylist(rows), source)
    options = Options(tokenizer=str(TOKENIZER), null_arguments=how)  # type: ignore[arg-type]
    pack_files([str(source)], tmp_path / "packed", options)
    found = verify_dataset(tmp_path / "packed", [str(source)])
    assert (found.total, found.unchecked) == (0, {}), [str(one) for one in found.listed]


def test_nulls_that_are_dropped_do_not_make_the_prompts_of_a_pair_differ(tmp_path: Path) -> None:
    """The columns of a Parquet file have nulls of their own, by the calls of all rows in each."""
    asking = {"role": "user", "content": [{"type": "text", "text": "And?"}]}
    used = [said([{**USE, "input": {"a": 1}}]), asking]
    better = [said([{**USE, "input": {"b": 2}}]), said([{"type": "text", "text": "Yes."}])]
    worse = said([{"type": "text", "text": "No."}])
    rows = [
        {"chosen": [asking, *used, each], "rejected": [asking, *used, worse]} for each in better
    ]
    source = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), source)
    options = Options(tokenizer=str(TOKENIZER), null_arguments="drop", group_by="none")
    pack_files([str(source)], tmp_path / "packed", options)
    found = verify_dataset(tmp_path / "packed", [str(source)])
    assert (found.total, found.unchecked) == (0, {}), [str(one) for one in found.listed]
    assert found.checked["views"] == 4
