"""Where reasoning ends and the answer begins; text that looks like it, and answers cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fixing import Pack
from runs import FIXTURES
from tokenizers import Tokenizer

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Message, parse_line
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

ASK = {"role": "user", "content": "2+2?"}
TEXT, REASONING = Reading(stray_closing_tag="text"), Reading(stray_closing_tag="reasoning")
OPENED, NO_PLACE = Reading(prompt_opens=True), Reading(closers=())


def answer(reading: Reading = DEFAULT, **fields: Any) -> Message:
    record = {"messages": [ASK, {"role": "assistant", **fields}]}
    return parse_line(json.dumps(record).encode(), "x", reading=reading).messages[1]


def parts(content: str, reading: Reading = DEFAULT, **fields: Any) -> tuple[str | None, str | None]:
    read = answer(reading, content=content, **fields)
    return read.content, read.reasoning


@pytest.mark.parametrize(
    ("content", "reading", "expected"),
    [
        # The only tag, first on its line: reasoning, whatever the template.
        ("A\n</think>\nB", DEFAULT, ("B", "A")),
        ("A\n  </think>B", DEFAULT, ("B", "A\n  ")),
        ("</think>B", DEFAULT, ("B", None)),
        ("A\n</think>\nB", TEXT, ("B", "A")),
        ("A\n</think>\nB", NO_PLACE, ("B", "A")),
        # Elsewhere on its line: reasoning where the prompt opens it.
        ("A</think>B", OPENED, ("B", "A")),
        ("It writes </think> and ends.", OPENED, (" and ends.", "It writes ")),
        ("A</think>B", TEXT, ("A</think>B", None)),
        ("A</think>B", REASONING, ("B", "A")),
        ("A</think>B", NO_PLACE, ("A</think>B", None)),
        # Several.
        ("A\n</think>\nB\n</think>\nC", TEXT, ("A\n</think>\nB\n</think>\nC", None)),
        ("A\n</think>\nB\n</think>\nC", REASONING, ("C", "A\n</think>\nB")),
        ("<think>A</think>B</think>C", TEXT, ("B</think>C", "A")),
        ("<think>A</think>B</think>C", REASONING, ("C", "A</think>B")),
        ("<think>A</think>B</think>C", NO_PLACE, ("B</think>C", "A")),
        # An opening tag inside.
        ("See <think>A</think>B", TEXT, ("See <think>A</think>B", None)),
        ("See <think>A</think>B", NO_PLACE, ("See <think>A</think>B", None)),
        ("See <think>.", DEFAULT, ("See <think>.", None)),
    ],
)
def test_closing_tags(content: str, reading: Reading, expected: tuple[str, str | None]) -> None:
    assert parts(content, reading) == expected
    undecided, noted = replace(reading, stray_closing_tag="refuse"), ()
    try:
        assert parts(content, undecided) == expected
    except RecordError:  # so that the option decides what is trained
        noted = (f"closing-tag {reading.stray_closing_tag}",)
    assert answer(reading, content=content).noticed == noted


@pytest.mark.parametrize("reading", [DEFAULT, OPENED, REASONING, Reading(closers=("[/THINK]",))])
@pytest.mark.parametrize(
    "fields",
    [
        {"content": "B", "reasoning_content": "A {} A"},
        {"content": [{"type": "thinking", "thinking": "A {}"}, {"type": "text", "text": "B"}]},
        {"content": "B", "thinking_blocks": [{"type": "thinking", "thinking": "{}A"}]},
        {"reasoning": "A\n{}\n\nB"},
    ],
)
def test_a_closing_tag_in_a_field_of_reasoning(reading: Reading, fields: dict[str, Any]) -> None:
    fields = json.loads(json.dumps(fields).replace("{}", reading.closers[0]))
    with pytest.raises(RecordError, match="a field of reasoning that holds") as caught:
        answer(reading, **fields)
    assert caught.value.reason == "closing-tag"
    as_text = answer(replace(TEXT, closers=reading.closers), **fields)
    assert reading.closers[0] in (as_text.reasoning or "")
    assert "closing-tag text" in as_text.noticed
    assert reading.closers[0] in (answer(NO_PLACE, **fields).reasoning or "")


@pytest.mark.parametrize("reading", [DEFAULT, OPENED])
@pytest.mark.parametrize(
    "content",
    ["A\n</think>\nB\n</think>\nC", "<think>A</think>B</think>C", "See <think>A</think>B"],
)
def test_a_tag_that_is_not_certain_is_refused(content: str, reading: Reading) -> None:
    with pytest.raises(RecordError, match="--stray-closing-tag text") as caught:
        parts(content, reading)
    assert caught.value.reason == "closing-tag"


@pytest.mark.parametrize("content", ["A\n</think>\nB", "A</think>B", "<think>A</think>B"])
def test_a_tag_beside_reasoning_is_no_end_of_it(content: str) -> None:
    for reading in (DEFAULT, OPENED, REASONING):
        with pytest.raises(RecordError):
            parts(content, reading, reasoning_content="Hm.")
    if not content.startswith("<think>"):
        assert parts(content, TEXT, reasoning_content="Hm.") == (content, "Hm.")
        assert parts(content, NO_PLACE, reasoning_content="Hm.") == (content, "Hm.")


@pytest.mark.parametrize(
    ("content", "verbatim"),
    [
        ("<think>\nA\n</think>\n\nB", True),
        ("A\n</think>\nB", True),
        ("<think></think>B", True),
        ("B", False),
        ("", False),
    ],
)
def test_content_is_kept_as_it_was_where_reasoning_was_split_off(
    content: str, verbatim: bool
) -> None:
    assert answer(content=content).verbatim == (content if verbatim else None)


# ------------------------------------------------------------ the same text twice


@pytest.mark.parametrize(
    "content",
    [
        "<think></think>B",
        "<think>\n\n</think>\n\nB",
        "</think> is the tag.",
        "</think>",
        "\n</think>\nB",
    ],
)
def test_an_empty_block_is_text_where_there_is_no_place_for_one(content: str) -> None:
    passed = answer(Reading(closers=(), empty_block_is_text=True), content=content)
    assert (passed.content, passed.reasoning, passed.verbatim) == (content, None, None)
    assert answer(content=content).content == content.rpartition("</think>")[2].lstrip("\n")


@pytest.mark.parametrize(
    ("shown", "written"),
    [("m.content", "<think></think>B"), ("m.content.split('</think>')[-1]", "B")],
)
def test_an_empty_block_is_trained_as_the_template_shows_it(
    shown: str, written: str, pack_here: Pack
) -> None:
    message = "'<|im_start|>' ~ m.role ~ '\\n' ~ text ~ '<|im_end|>\\n'"
    each = f"{{% for m in messages %}}{{% set text = {shown} %}}{{{{ {message} }}}}{{% endfor %}}"
    begun = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    record = {"messages": [ASK, {"role": "assistant", "content": "<think></think>B"}]}
    Path("a.jsonl").write_text(json.dumps(record), encoding="utf-8")
    status, error = pack_here(["a.jsonl", "--chat-template", each + begun])
    assert status == 0, error
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0
    (labels,) = pq.read_table("out/data", columns=["labels"])["labels"].to_pylist()
    tokenizer = Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))
    trained = tokenizer.decode([i for i in labels if i >= 0], skip_special_tokens=False)
    assert trained == f"{written}<|im_end|>"


LONG = "I list the files first, since the name of the test is not known yet."


@pytest.mark.parametrize(
    ("field", "text", "content", "repeats"),
    [
        ("thought", "I list.", "I list.", True),
        ("thought", "I list.\n", "I list.\n```\nls\n```", True),
        ("thought", " I list.", "I list. Then I stop.", True),
        ("thought", "I", "It is so.", False),
        ("thought", "I list.", "So I list.", False),
        ("thought", "I list. Then I stop.", "I list.", False),
        ("reasoning_content", "Yes.", "Yes.", False),
        ("reasoning_content", LONG, LONG, True),
        ("thinking", LONG, f"{LONG}\n```\nls\n```", True),
        ("reasoning", LONG, f"No. {LONG}", False),
    ],
)
def test_reasoning_that_repeats_the_answer(
    field: str, text: str, content: str, repeats: bool
) -> None:
    read = answer(content=content, **{field: text})
    assert read.reasoning == (None if repeats else text)
    assert read.noticed == (("repeated-reasoning",) if repeats else ())


@pytest.mark.parametrize(
    "content", [f"DISCUSSION\n{LONG}\n```\nls\n```", LONG.replace(", ", ",\n```ls```\n")]
)
def test_a_thought_that_stands_within_the_answer_is_refused(content: str) -> None:
    with pytest.raises(RecordError, match=r"messages\[1\]\.thought: a thought that is in"):
        answer(content=content, thought=LONG.replace(", ", ",\n"))
    assert answer(content=content, reasoning=LONG).reasoning == LONG


def test_other_reasoning_stays_where_thought_repeats_the_answer() -> None:
    read = answer(content="I list.", thought="I list.", reasoning_content="Hm.")
    assert (read.content, read.reasoning) == ("I list.", "Hm.")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("<thinking>Hm.</thinking>4", "<thinking>"),
        ("<Thought>Hm.</Thought>4", "<Thought>"),
        ("<|thinking|>Hm.<|/thinking|>4", "<|thinking|>"),
        ("[THINK]Hm.[/THINK]4", "[THINK]"),
        ("analysisHm.assistantfinal4", "assistantfinal"),
    ],
)
def test_a_form_of_reasoning_that_the_template_does_not_know_is_noticed(
    text: str, form: str
) -> None:
    assert answer(content=text).noticed == (f"form {form}",)


# ------------------------------------------------------------ answers without a stop


@pytest.mark.parametrize(
    ("fields", "noticed"),
    [
        ({"content": "4"}, ()),
        ({"content": "4", "finish_reason": "stop", "stop_reason": 151645}, ()),
        ({"content": "4", "prefix": False, "partial": None}, ()),
        ({"content": ""}, ()),
        ({"content": "4", "finish_reason": "length"}, ("unfinished",)),
        ({"content": "4", "finish_reason": "LENGTH"}, ("unfinished",)),
        ({"content": "4", "stop_reason": "max_tokens"}, ("unfinished",)),
        ({"content": "4", "done_reason": "length"}, ("unfinished",)),
        ({"content": "4", "native_finish_reason": "MAX_TOKENS"}, ("unfinished",)),
        ({"content": "4", "finish_reason": "model_length"}, ("unfinished",)),
        ({"content": "4", "stop_reason": "model_context_window_exceeded"}, ("unfinished",)),
        ({"content": "4", "native_finish_reason": "SAFETY"}, ("unfinished",)),
        ({"content": "4", "status": "incomplete"}, ("unfinished",)),
        ({"content": "4", "status": "completed"}, ()),
        ({"content": "4", "prefix": "true"}, ("unfinished",)),
        ({"content": "4", "prefix": True}, ("unfinished",)),
        ({"content": "4", "partial": True}, ("unfinished",)),
        ({"content": "4", "finish_details": {"type": "interrupted"}}, ("unfinished",)),
        ({"content": "4", "finish_details": {"type": "stop"}}, ()),
        ({"content": "4", "metadata": {"finish_reason": "length"}}, ("unfinished",)),
        ({"content": "4", "metadata": {"finish_details": {"type": "max_tokens"}}}, ("unfinished",)),
        ({"content": "4", "end_turn": False}, ("unfinished",)),
        ({"content": "4", "status": "Status.TRUNCATED"}, ("unfinished",)),
        ({"content": "4", "termination_reason": "max_response_length_exceeded"}, ("unfinished",)),
        ({"content": "4", "truncated": True}, ("unfinished",)),
        ({"content": "4", "is_truncated": "true"}, ("unfinished",)),
        ({"content": "4", "truncated": False, "error": 0.5, "status": None}, ()),
        ({"content": "", "error": {"message": "m"}}, ("nothing-written",)),
        ({"content": "4", "status": "failed", "train": False}, ("unfinished",)),
        ({"content": "4", "end_turn": True}, ()),
        ({"content": "", "reasoning": "Hm"}, ("reasoning-alone",)),
        ({"content": " \n", "reasoning": "Hm"}, ("reasoning-alone",)),
        ({"reasoning": "Hm", "finish_reason": "length"}, ("reasoning-alone",)),
        ({"content": "", "reasoning": " \n"}, ()),
        ({"content": "", "reasoning": "\n", "finish_reason": "length"}, ("nothing-written",)),
        ({"content": "<think>Hm</think>"}, ("reasoning-alone",)),
        ({"content": "<think>Hm", "finish_reason": "length"}, ("reasoning-alone",)),
    ],
)
def test_answers_without_a_stop(fields: dict[str, Any], noticed: tuple[str, ...]) -> None:
    read = answer(**fields)
    assert (read.finished, read.noticed) == (not noticed, noticed)


def test_reasoning_that_was_cut_off_is_read_without_its_end() -> None:
    read = answer(content="<think>\nHm", finish_reason="length")
    assert (read.content, read.reasoning, read.verbatim) == ("", "Hm", "<think>\nHm")


def test_a_call_after_reasoning_is_finished() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    assert answer(content="", reasoning="Hm", tool_calls=[call]).finished
    assert answer(content="", tool_calls=[call], end_turn=False).finished


@pytest.mark.parametrize(
    ("fields", "finished"),
    [
        ({"finish_reason": "length"}, False),
        ({"metadata": {"finish_reason": "length"}}, False),
        ({"finish_details": {"type": "max_tokens"}}, False),
        ({"finish_reasons": ["length"]}, False),
        ({"finish_reasons": ["length", "length"]}, False),
        ({"finish_reasons": ["stop", "stop"]}, True),
        ({"finish_reasons": ["stop", "length"]}, True),  # nobody can tell which it is
        ({"finish_reasons": ["stop", "length"], "generations": ["5", "4"]}, False),
        ({"finish_reasons": ["length", "stop"], "generations": ["5", "4"]}, True),
        ({"finish_reasons": None}, True),
    ],
)
def test_a_record_says_how_its_answer_ended(fields: dict[str, Any], finished: bool) -> None:
    chat = {"messages": [ASK, {"role": "assistant", "content": "4"}]}
    for record in (chat, {"prompt": "2+2?", "completion": "4"}):
        read = parse_line(json.dumps({**record, **fields}).encode(), "x")
        assert read.messages[1].finished is finished


# ------------------------------------------------------------ other forms


@pytest.mark.parametrize(
    ("content", "opener", "form"),
    [
        ("<thinking>A</thinking>B", "<think>", "<thinking>"),
        ("[THINK]A[/THINK]B", "<think>", "[THINK]"),
        ("[THINK]A[/THINK]B", "[THINK]", None),
        ("◁think▷A◁/think▷B", "<think>\n", "◁think▷"),
        ("<seed:think>A</seed:think>B", "", "<seed:think>"),
        ("<reasoning>A</reasoning>B", "<think>", "<reasoning>"),
        ("<|channel|>analysis<|message|>A<|end|>", "<think>", "<|channel|>analysis"),
        ("<|channel|>analysis<|message|>A<|end|>", "<|channel|>analysis<|message|>", None),
        ("<THINK>A</THINK>B", "<think>", "<THINK>"),
        ("<think type='x'>A", "", "<think"),
        ("<antThinking>A</antThinking>B", "<think>", "<antThinking>"),
        ("<analysis>A</analysis>B", "<think>", "<analysis>"),
        ("<scratchpad>A</scratchpad>B", "<think>", "<scratchpad>"),
        ("assistantanalysisA assistantfinalB", "<think>", "assistantanalysis"),
        ("I am thinking.", "<think>", None),
    ],
)
def test_reasoning_in_another_form_is_noticed(content: str, opener: str, form: str | None) -> None:
    read = answer(Reading(opener=opener), content=content)
    assert read.content == content
    assert read.noticed == ((f"form {form}",) if form else ())
