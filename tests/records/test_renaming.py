"""Fields that an option renames: where the new name is free."""

from __future__ import annotations

import pytest
from fields_of import ASK, TOOL, of_answer, of_record, read

from reasonpack.errors import RecordError
from reasonpack.records.options import renamed_fields
from reasonpack.records.reading import Reading


def test_renaming() -> None:
    reading = Reading(renamed=renamed_fields(["a.b=reasoning", "defs=tools", "cot=reasoning"]))
    answer = {"role": "assistant", "content": "4", "metadata": {"x": 1}, "a": {"b": "easy"}}
    record = of_record(defs=[TOOL], messages=[ASK, answer])
    conversation = read(record, reading)
    assert conversation.tools == (TOOL,)
    assert conversation.messages[1].reasoning == "easy"


def test_renaming_to_what_is_there_is_refused() -> None:
    reading = Reading(renamed={"cot": "reasoning"})
    assert read(of_answer(cot="a", reasoning="a"), reading).messages[1].reasoning == "a"
    with pytest.raises(RecordError, match=r"messages\[1\]\.cot: it cannot be read as reasoning"):
        read(of_answer(cot="a", reasoning="b"), reading)
