"""Parts of answers are found by this check's own rule, and a fault in packing them is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packed_twice import FIXTURES, Packed, pack_two

from reasonpack.verify.answer_parts import find_reasoning_end, stretches
from reasonpack.verify.chat import Message
from reasonpack.views import chosen

TEMPLATES = sorted((FIXTURES / "templates").glob("*.jinja"))
TRAIN_ON = ["last-message", "reasoning", "response", "tool-calls", "last-turn,reasoning,tool-calls"]


def made(folder: Path, **asked: Any) -> Packed:
    return pack_two(folder, **asked)


@pytest.mark.long
@pytest.mark.parametrize("train_on", TRAIN_ON)
@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_what_is_trained_is_that_of_the_records(tmp_path: Path, train_on: str, layout: str) -> None:
    findings = made(tmp_path, train_on=train_on, layout=layout).compare()
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.long
@pytest.mark.parametrize("train_on", TRAIN_ON[1:4])
@pytest.mark.parametrize("template", [each for each in TEMPLATES if each.stem != "plain"])
def test_with_every_template(tmp_path: Path, train_on: str, template: Path) -> None:
    """Divided into rows, and weighed, too."""
    more = {"max_length": 300, "packing": False, "loss_weights": "message"}
    packed = made(tmp_path, train_on=train_on, chat_template=str(template), **more)
    findings = packed.compare()
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.parametrize(
    ("verbatim", "closer", "reasoning"),
    [
        (None, "</think>\n", "<think>A</think>\n"),
        (None, "</think>", "<think>A</think>"),
        ("<think>A</think>\n\nB", "</think>", "<think>A</think>\n\n"),  # as the record has it
        ("<think>A</think>\nB", "</think>", "<think>A</think>"),  # and as it does not
        ("<think>A</think>\n\nB", "", "<think>A</think>\n\n"),
    ],
)
def test_white_space_behind_reasoning_is_whose_the_template_or_the_record_says(
    verbatim: str | None, closer: str, reasoning: str
) -> None:
    message = Message("assistant", "B", "A", verbatim)
    text = "<think>A</think>\n\nB<|im_end|>"
    thought = find_reasoning_end(message, text, closer)
    ((begin, end),) = stretches(message, text, thought, closer, ["reasoning"])
    assert text[begin:end] == reasoning
    assert stretches(message, text, thought, closer, ["response"]) == ((end, len(text)),)


def test_an_empty_block_is_not_parted() -> None:
    text = "\n</think>\n\nB<|im_end|>"
    thought = (0, len(text) - len("B<|im_end|>"))
    message = Message("assistant", "B")
    assert stretches(message, text, thought, "\n</think>\n\n", ["response"]) == ((0, len(text)),)


@pytest.mark.parametrize("text", ["<think>A", "A", "<think>A\n"])
def test_an_answer_that_was_cut_off_within_its_reasoning_has_nothing_else(text: str) -> None:
    message = Message("assistant", "", "A", cut=True)
    thought = find_reasoning_end(message, text, "</think>\n")
    assert stretches(message, text, thought, "</think>\n", ["reasoning"]) == ((0, len(text)),)
    assert stretches(message, text, thought, "</think>\n", ["response"]) == ()


@pytest.mark.parametrize(("train_on", "move"), [("reasoning", -4), ("response", 5)])
def test_a_border_that_is_elsewhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_on: str, move: int
) -> None:
    right = chosen.Chosen.stretches

    def wrong(self: Any, *arguments: Any) -> list[tuple[int, bool]]:
        (end, trained), *others = right(self, *arguments)
        return [(max(0, end + move), trained), *others]

    monkeypatch.setattr(chosen.Chosen, "stretches", wrong)
    findings = made(tmp_path, train_on=train_on).compare()
    assert set(findings.counts) <= {"RP310", "RP312"}
    assert findings.counts["RP310"]


def test_another_scope_in_the_manifest_is_found(tmp_path: Path) -> None:
    packed = made(tmp_path, train_on="last-turn")
    for name in ("manifest.json", "plan.json"):
        value = packed.json(name)
        value["options"]["train_on"] = "all"
        packed.write(name, value)
    assert packed.compare().counts.keys() & {"RP309", "RP310"}


def test_an_answer_that_repeats_its_reasoning() -> None:
    message = Message("assistant", "Four", "Four")
    text = "Four\n</think>\n\nFour<|im_end|>"
    thought = find_reasoning_end(message, text, "</think>\n\n")
    ((begin, end),) = stretches(message, text, thought, "</think>\n\n", ["response"])
    assert text[begin:end] == "Four<|im_end|>"
