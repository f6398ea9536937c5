"""`verify`, which shares nothing that packing learned, rebuilds what it makes of each template.

Both read the same chats with the template of each family, and agree in every token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import assets
import pytest
from matrix import DATE, PLAIN, compiled
from published import TEMPLATES, eos
from tokenizers import AddedToken, Tokenizer

from reasonpack.datasets.options import Options
from reasonpack.errors import ReasonpackError
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

FIXTURES = Path(__file__).parents[2] / "fixtures"
SOME = TEMPLATES[::12]
INLINE = [
    "<think>A</think>B",
    "<think>\nA\n</think>\n\nB",
    "<think> A </think> B",
    "A\n</think>\n\nB",
]
"""Reasoning within the content."""

EMPTY = "<think>\n\n</think>\n\n"
CALL = {"id": "c00000001", "function": {"name": "f", "args": {"a": "b"}}}
MORE: list[list[dict[str, Any]]] = [
    [{"content": f"{EMPTY}B"}, {"content": "<think>A</think>C"}],
    [{"content": "", "finish_reason": "length"}, {"content": ""}, {"content": "C"}],
    [{"content": "<think>A</think>", "tool_calls": [CALL]}],
    [{"content": EMPTY, "tool_calls": [CALL]}, {"content": f"{EMPTY}B"}],
    [{"content": "A\n</judge>\nB"}],
    [{"content": "", "reasoning": "\n"}, {"content": "\nB"}, {"content": "C", "reasoning": " "}],
    [{"content": "\n</think>\n\n", "tool_calls": [CALL]}, {"content": "\n</think>\n\nB"}],
]
"""Answers of conversations: blocks with nothing in them, nothing written, calls without a text."""
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {}}}

pytestmark = pytest.mark.network


def tokenizer_for(name: str, folder: Path) -> Path:
    """Give the fixture's tokenizer the tokens and files of a template's model."""
    _, tokens = compiled(name)
    tokenizer = Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=not PLAIN.fullmatch(token), normalized=False)
            for token in tokens
        ]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    source, listed = assets.template(name), eos(name)
    own = "</s>" if "eos_token" in source or not listed else listed[0]
    config = {"eos_token": own, "bos_token": "<s>", "model_max_length": 100_000}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ids = [id_ for token in listed if (id_ := tokenizer.token_to_id(token)) is not None]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    return folder


def inline(content: str) -> str:
    """Write a line with a conversation of two turns."""
    turn = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    return json.dumps({"messages": turn * 2}) + "\n"


def story(answers: list[dict[str, Any]], **variables: bool) -> str:
    """Write a line with a conversation of these answers."""
    messages: list[dict[str, Any]] = []
    for answer in answers:
        messages += [{"role": "user", "content": "Hi"}, {"role": "assistant", **answer}]
        if "tool_calls" in answer:
            messages.append({"role": "tool", "tool_call_id": CALL["id"], "content": "R"})
    tools = [TOOL] if any("tool_calls" in answer for answer in answers) else []
    record = {"messages": messages, "tools": tools, "chat_template_kwargs": variables}
    return json.dumps(record) + "\n"


@pytest.mark.parametrize("blank", [{}, {"missing_reasoning": "empty-think"}])
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in SOME else pytest.mark.slow) for one in TEMPLATES]
)
def test_two_that_share_nothing_agree(tmp_path: Path, name: str, blank: dict[str, Any]) -> None:
    chats = [str(FIXTURES / "chats.jsonl"), str(tmp_path / "inline.jsonl")]
    lines = [*map(inline, INLINE), *map(story, MORE)]
    lines += [story(each, enable_thinking=True) for each in MORE]
    (tmp_path / "inline.jsonl").write_text("".join(lines))
    tokenizer = tokenizer_for(name, tmp_path / "tokenizer")
    if blank:  # the block is trained as well
        blank = {**blank, "train_empty_think": True}
    options = Options(tokenizer=str(tokenizer), on_error="skip", date=DATE.isoformat(), **blank)
    try:
        pack_files(chats, tmp_path / "packed", options)
    except ReasonpackError as error:
        pytest.skip(f"packing refuses it: {error}")
    findings = verify_dataset(tmp_path / "packed", chats)
    assert findings.total == 0, [str(finding) for finding in findings.listed]
    assert findings.unchecked == {}


@pytest.mark.parametrize(
    ("name", "opener", "closer"),
    [
        ("xinference/KAT-V1", "", "\n</judge>\n"),  # whose prompt opens this tag
        ("xinference/KAT-V1", "On.</judge>\n<think>\n", "</think>"),
        ("llama.cpp/LFM2.5-Instruct", "<think>\n", "\n</think>\n"),  # looks for tags in content
    ],
)
def test_they_agree_on_delimiters_that_are_stated(
    tmp_path: Path, name: str, opener: str, closer: str
) -> None:
    """With templates that pass content through."""
    tokenizer = tokenizer_for(name, tmp_path / "tokenizer")
    chats = [str(FIXTURES / "chats.jsonl"), str(tmp_path / "more.jsonl")]
    (tmp_path / "more.jsonl").write_text(story([{"content": "B", "reasoning": "A"}, *MORE[1]]))
    stated = json.dumps({"opener": opener, "closer": closer})
    options = Options(tokenizer=str(tokenizer), on_error="skip", template_behaviour=stated)
    packed = pack_files(chats, tmp_path / "packed", options)
    findings = verify_dataset(tmp_path / "packed", chats)
    assert packed.counts.packed > 10
    assert [str(each) for each in findings.listed] == []
    assert findings.unchecked == {}
