"""Which fields of a message a template reads, found out by what it shows of a marked one."""

from __future__ import annotations

import pytest

from reasonpack.templates.learn.marked_chats import Probe, find_dumped, find_forms, keys_read
from reasonpack.templates.template import ChatTemplate

START = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
END = "<|end|>{% endfor %}"
READ = {
    "in every answer": "{{ m.reasoning or '' }}",
    "beside calls": "{% if m.tool_calls %}{{ m.reasoning or '' }}{% endif %}",
    "in the last message": "{% if loop.last %}{{ m.reasoning or '' }}{% endif %}",
    "with thinking switched on": "{% if enable_thinking %}{{ m.reasoning or '' }}{% endif %}",
}
NOT_READ = {
    "a variable that no switch sets": "{% if add_thoughts %}{{ m.thought or '' }}{% endif %}",
    "a word of the text": "Give a thought to it.",
    "asked for, and not shown": "{% if m.thought %}{% endif %}",
}


def fields(shown: str) -> tuple[str, ...]:
    template = ChatTemplate.compile(START + shown + END, name="probe")
    return find_forms(Probe(template)).reasoning_fields


@pytest.mark.parametrize("where", READ)
def test_a_field_that_is_shown_is_read(where: str) -> None:
    assert fields(READ[where]) == ("reasoning",)


@pytest.mark.parametrize("where", NOT_READ)
def test_a_field_that_is_never_shown_is_no_place_for_reasoning(where: str) -> None:
    """Reasoning within the content stays there, in the history too."""
    assert fields(NOT_READ[where]) == ()
    template = ChatTemplate.compile(START + NOT_READ[where] + END, name="probe")
    assert find_forms(Probe(template)).inline_as_written


def test_what_a_template_asks_messages_for() -> None:
    asks = "{% if 'mood' in m %}!{% endif %}{{ m.get('tone') }}{{ m['pace'] }}"
    asks += "{% if tools %}{{ m.unit }}{% else %}{{ m.functions }}{% endif %}"
    asked = keys_read(Probe(ChatTemplate.compile(START + asks + END, name="probe")))
    assert asked >= {"content", "functions", "mood", "pace", "role", "tone", "unit"}


@pytest.mark.parametrize(
    ("shown", "dumped"),
    [
        ("{{ call | tojson }}", ("tool_calls", "tool_calls.function")),
        ("{{ call.function | tojson }}", ("tool_calls.function",)),
        ("{{ call.id ~ call.function.name ~ call.function.arguments | tojson }}", ()),
    ],
)
def test_what_a_template_shows_with_all_fields(shown: str, dumped: tuple[str, ...]) -> None:
    source = START + "{% for call in m.tool_calls or [] %}" + shown + "{% endfor %}" + END
    assert find_dumped(Probe(ChatTemplate.compile(source, name="probe"))) == dumped
