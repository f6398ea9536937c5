"""Small records that were trained wrongly without a word, and what is right.

The first of each kind is kept beside the project for acceptance; the others are its brothers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import assets
import pyarrow.parquet as pq
import pytest
from fixing import Pack

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, parse_line, parse_row
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases"
here = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
Json = dict[str, Any]
ASK = {"role": "user", "content": "Ask one."}


def records(name: str) -> list[Json]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_bytes().splitlines()]


def read(record: Json, reading: Reading = DEFAULT) -> Conversation:
    return parse_line(json.dumps(record).encode(), "x:1", reading=reading)


def reasonings(conversation: Conversation) -> list[str | None]:
    return [m.reasoning for m in conversation.messages if m.role == "assistant"]


def answer(**fields: Any) -> Json:
    return {"messages": [ASK, {"role": "assistant", "content": "Answer one.", **fields}]}


# ------------------------------------------------------------ reasoning that was lost


@here
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openrouter_details", ["Think one.", "Think two."]),
        ("litellm_blocks", ["Think one."]),
        ("provider_specific", ["Think one."]),
        ("reasoning_text_name", ["Think one."]),
        ("top_level_reasoning", ["Think one."]),
        ("mistral_thinking_list", ["Think one."]),
    ],
)
def test_reasoning_that_was_lost_is_read(name: str, expected: list[str]) -> None:
    (record,) = records(name)
    assert reasonings(read(record)) == expected


BROTHERS: dict[str, tuple[Json, str]] = {
    "think": (answer(think="Think one."), "--field think=reasoning_content"),
    "thoughts": (answer(thoughts="Think one."), "--field thoughts=thought"),
    "cot": (answer(cot="Think one."), "--field cot=reasoning_content"),
    "a typo": (answer(reasoning_contnet="Think one."), "=reasoning_content"),
    "a wrapper": (
        answer(additional_kwargs={"reasoning_content": "Think one."}),
        "--field additional_kwargs.reasoning_content=reasoning_content",
    ),
}


@pytest.mark.parametrize(("record", "option"), BROTHERS.values(), ids=BROTHERS)
def test_reasoning_under_another_name_is_refused_and_the_fix_reads_it(
    record: Json, option: str, tmp_path: Path, pack_here: Pack
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    status, said = pack_here(["a.jsonl", "--on-error", "skip"])
    assert status == 1
    assert option in said
    pair = said.partition("--field ")[2].partition(" ")[0]
    assert pack_here(["a.jsonl", "--field", pair])[0] == 0
    name, _, known = pair.partition("=")
    assert reasonings(read(record, Reading(renamed={name: known}))) == ["Think one."]


@here
def test_the_field_think_is_refused() -> None:
    with pytest.raises(RecordError, match=r"messages\[1\]\.think: "):
        read(records("think_field")[0])


@pytest.mark.parametrize("name", ["reasoning_content", "thought", "thinking"])
def test_reasoning_beside_a_completion(name: str) -> None:
    record = {"prompt": "Ask one.", "completion": "Answer one.", name: "Think one."}
    assert reasonings(read(record)) == ["Think one."]
    listed = record | {"completion": [{"role": "assistant", "content": "Answer one."}]}
    with pytest.raises(RecordError, match=f"^x:1: {name}: "):
        read(listed)


# ------------------------------------------------------------ flags, tools


@here
def test_a_flag_not_to_train_is_read() -> None:
    trained = [m.train for m in read(records("slime_step_loss_mask")[0]).messages]
    assert trained == [True, False, True, True]


@pytest.mark.parametrize("name", ["loss_mask", "step_loss_mask", "training", "trainable"])
def test_every_flag_not_to_train_is_read(name: str) -> None:
    read_flag = read(answer(**{name: 0}) | {}).messages[1].train
    assert not read_flag


@pytest.mark.parametrize("name", ["is_masked", "no_loss", "train_on_this"])
def test_a_flag_under_another_name_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match=f"--ignore-fields {name}"):
        read(answer(**{name: False}))


# ------------------------------------------------------------ the same text twice


@here
@pytest.mark.parametrize("name", ["swe_agent", "swe_agent_text"])
def test_a_thought_that_repeats_the_answer_is_no_reasoning(name: str) -> None:
    (record,) = records(name)
    conversation = read(record)
    assert set(reasonings(conversation)) == {None}
    assert [m.content for m in conversation.messages] == [m["content"] for m in record["messages"]]
    answers = [m for m in record["messages"] if m["role"] == "assistant"]
    calls = any("tool_calls" in message for message in answers)
    expected = {"repeated-reasoning": len(answers)} | ({"no-tools": 1} if calls else {})
    assert conversation.notes == expected


# ------------------------------------------------------------ nulls


@here
@pytest.mark.parametrize(
    ("null_arguments", "expected"),
    [
        ("drop", [{"key": "a"}, {"n": 2}]),
        ("keep", [{"key": "a", "n": None}, {"key": None, "n": 2}]),
    ],
)
def test_nulls_of_a_struct_of_arguments(null_arguments: Any, expected: list[Json]) -> None:
    (row,) = pq.read_table(CASES / "null_filled_arguments.parquet").to_pylist()
    with pytest.raises(RecordError, match="JSON text, or pass --null-arguments drop"):
        parse_row(row, "x")
    reading = Reading(null_arguments=null_arguments)
    conversation = parse_row(row, "x", reading=reading)
    calls = [call.arguments for m in conversation.messages for call in m.tool_calls]
    assert calls == expected


SHAPES_OF_CALLS: dict[str, Callable[[Json], Json]] = {
    "function_call": lambda arguments: {"function_call": {"name": "f", "arguments": arguments}},
    "a call without a function": lambda arguments: {
        "tool_calls": [{"name": "f", "arguments": arguments}]
    },
    "tool_use": lambda arguments: {
        "content": [{"type": "tool_use", "id": "c", "name": "f", "input": arguments}]
    },
}


@pytest.mark.parametrize("shape", SHAPES_OF_CALLS.values(), ids=SHAPES_OF_CALLS)
def test_nulls_of_a_struct_in_every_shape_of_a_call(shape: Callable[[Json], Json]) -> None:
    def arguments(mode: Any) -> Any:
        row = answer(**shape({"a": 1, "b": {"c": None}}))
        reading = Reading(null_arguments=mode)
        read_row = parse_row(row, "x", reading=reading)
        return read_row.messages[1].tool_calls[0].arguments

    with pytest.raises(RecordError, match="--null-arguments") as caught:
        arguments("refuse")
    assert caught.value.reason == "null-arguments"
    assert arguments("drop") == {"a": 1, "b": {}}
    assert arguments("keep") == {"a": 1, "b": {"c": None}}


def test_arguments_as_text_have_the_nulls_that_were_written() -> None:
    call = {"name": "f", "arguments": '{"a": null}'}
    row = parse_row(answer(tool_calls=[call]), "x")
    assert row.messages[1].tool_calls[0].arguments == {"a": None}
    assert row.notes == {"null-argument": 1, "no-tools": 1}


# ------------------------------------------------------------ null, stray, cut


@here
def test_null_stray_and_cut() -> None:
    null, stray, cut = records("null_stray_cut")
    assert read(null).notes == {"null-argument": 1}
    with pytest.raises(RecordError, match="--stray-closing-tag text"):
        read(stray)
    kept = read(stray, Reading(stray_closing_tag="text")).messages[1]
    assert (kept.content, kept.reasoning) == ("A\n</think>\nB", "Hm.")
    assert read(cut).notes == {"reasoning-alone": 1}
    assert not read(cut).messages[1].finished


# ------------------------------------------------------------ as Qwen3 writes it


@pytest.fixture(scope="module")
def qwen3() -> Rendering:
    config = json.loads((assets.tokenizer_dir("qwen3") / "tokenizer_config.json").read_bytes())
    template = ChatTemplate.compile(config["chat_template"], name="qwen3")
    tokens = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"]
    return Rendering(template, learn(template, tokens, {}), {})


CALL = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
NO_THOUGHT = "<think>\n\n</think>\n\n"


@here
@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "ends", "completion"),
    [
        ("swe_agent", NO_THOUGHT, f"I list the files.\n{CALL}<|im_end|>"),
        ("swe_agent_text", NO_THOUGHT, "I list the files.\n```\nls\n```<|im_end|>"),
        (
            "top_level_reasoning",
            "assistant\n",
            "<think>\nThink one.\n</think>\n\nAnswer one.<|im_end|>",
        ),
    ],
)
def test_what_is_trained(name: str, ends: str, completion: str, qwen3: Rendering) -> None:
    view = build_views(read(records(name)[0]), qwen3)[0]
    assert view.prompt.endswith(ends)
    assert view.completion == completion
