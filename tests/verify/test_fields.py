"""Fields of a message: flags, left out, renamed, harmless, or null in a struct."""

from __future__ import annotations

import pytest
from packed_twice import Json

from reasonpack.verify import record_names
from reasonpack.verify.chat import NotChecked, Refused
from tests.verify.test_reader import CALL, FUNCTION, answer, said


@pytest.mark.parametrize("name", record_names.FLAGS)
def test_every_flag_is_heard(name: str) -> None:
    assert [answer(said("B", **{name: value})).trained for value in (0, 1)] == [False, True]


def test_fields_that_the_run_left_out_or_renamed() -> None:
    assert answer(said("B", cot="A"), renamed={"cot": "reasoning_content"}).reasoning == "A"
    assert answer(said("B", cot="A"), ignored=frozenset({"cot"})).reasoning == ""
    assert answer(said("B", plan="A"), template="{{ message.plan }}").more == {"plan": "A"}
    assert answer(said("B", extra={"cot": "A"}), renamed={"extra.cot": "thought"}).reasoning == "A"
    with pytest.raises(Refused):
        answer(said("B", cot="A", thought="C"), renamed={"cot": "thought"})


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("extra.cot", {"extra": {"cot": "A"}}),
        ("extra", {"extra": {"cot": "A"}}),
        ("metadata.reasoning", {"metadata": {"reasoning": "A"}}),
        ("content.cot", {"content": [{"type": "text", "text": "B", "cot": "A"}]}),
        ("tool_calls.cot", {"tool_calls": [{**CALL, "cot": "A"}]}),
        ("tool_calls.function.cot", {"tool_calls": [{"function": {**FUNCTION, "cot": "A"}}]}),
    ],
)
def test_fields_within_others_may_be_left_out(name: str, fields: Json) -> None:
    with pytest.raises(NotChecked):
        answer({**said("B"), **fields})
    assert answer({**said("B"), **fields}, ignored=frozenset({name})).content == "B"


def test_a_field_that_is_left_out_is_read_where_it_has_a_meaning() -> None:
    ignored = frozenset({"reasoning", "plan"})
    read = answer(said("B", reasoning="A", plan="P"), ignored=ignored, template="{{ m.plan }}")
    assert (read.reasoning, read.more) == ("A", {"plan": "P"})


@pytest.mark.parametrize(
    "fields",
    [
        {"finish_details": {"type": "stop"}, "end_turn": True},
        {"provider_specific_fields": {"citations": ["x"]}},
        {"metadata": {"loss": 0.25, "model_slug": "x"}},
    ],
)
def test_fields_that_hold_nothing_to_learn(fields: Json) -> None:
    assert not answer(said("B", **fields)).cut


def test_nulls_of_a_struct() -> None:
    message = said("", tool_calls=[{"function": {"name": "f", "arguments": {"a": 1, "b": None}}}])
    assert answer(message).calls[0]["function"]["arguments"] == {"a": 1, "b": None}
    with pytest.raises(Refused):
        answer(message, row=True)
    kept = answer(message, row=True, null_arguments="keep")
    assert kept.calls[0]["function"]["arguments"] == {"a": 1, "b": None}
