"""Records as well-known datasets and services write them pack without any option.

Each file in shapes has the fields of one of them, with text of our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fixing import Pack

from reasonpack.records.call_formats import GROUP_FIELDS
from reasonpack.records.conversation import Conversation, parse_line
from reasonpack.records.harmless_fields import HARMLESS, HARMLESS_OF_A_CALL, HARMLESS_OF_A_RECORD
from reasonpack.records.unknown import SIGNAL

SHAPES = sorted((Path(__file__).parent / "shapes").glob("*.jsonl"))
NOTICED = {
    "nemotron": {"unread record.reasoning": 2},
    "openthoughts": {"form <|begin_of_thought|>": 1},
    "swe_agent": {"repeated-reasoning": 2, "no-tools": 1},
}
"""What is noticed of a file, where that is anything."""
LONG = (
    "Count the apples in the first basket, then those in the second one, and add the two numbers."
)


def conversations(name: str) -> list[Conversation]:
    lines = (Path(__file__).parent / "shapes" / f"{name}.jsonl").read_bytes().splitlines()
    return [parse_line(line, f"{name}:{number}") for number, line in enumerate(lines, 1)]


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_well_known_records_pack_without_any_option(path: Path, pack_here: Pack) -> None:
    status, said = pack_here([str(path)])
    assert status == 0, said
    noticed = sum((Counter(c.notes) for c in conversations(path.stem)), Counter())
    assert noticed == NOTICED.get(path.stem, {}), said
    assert said.count("noticed") == len(noticed)


def test_there_are_a_dozen_shapes() -> None:
    assert len(SHAPES) >= 12


READ: dict[str, Callable[[list[Conversation]], object]] = {
    "dolphin_r1": lambda read: (read[0].messages[-1].content, read[0].messages[-1].reasoning),
    "openr1": lambda read: (read[0].messages[-1].content, read[0].messages[-1].reasoning),
    "swe_agent": lambda read: [(m.content, m.reasoning) for m in read[0].messages if m.tool_calls],
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dolphin_r1", ("Seven.", LONG)),
        ("openr1", ("7", LONG)),
        (
            "swe_agent",
            [("I look at the test first, since it names the function.", None), ("Done.", None)],
        ),
    ],
)
def test_what_the_model_wrote_is_read(name: str, expected: object) -> None:
    assert READ[name](conversations(name)) == expected


def test_what_is_called_harmless_could_hardly_be_signal() -> None:
    """Those that could by their names are in a list of their own, and have values that are not."""
    likely = {name for name in HARMLESS | HARMLESS_OF_A_RECORD if SIGNAL.search(name)}
    assert likely == {
        *("thought_signature", "tool_call_id", "tool_call_ids", "tool_name", "parallel_tool_calls"),
        *("finish_reasons", "is_reasoning_complete", "used_in_training"),
    }


def test_what_groups_calls_does_not_count_as_unread() -> None:
    assert {name.partition(".")[0] for name in GROUP_FIELDS} <= HARMLESS_OF_A_CALL
