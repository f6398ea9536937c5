"""The forms in which a template takes reasoning and calls."""

from __future__ import annotations

from small_templates import CONTENT, THOUGHT, chatml, learned

from reasonpack.templates.forms import Forms


def test_reasoning_field_is_found() -> None:
    assert learned(chatml(THOUGHT + CONTENT)).forms == Forms(("reasoning",))


def test_reasoning_may_be_read_from_the_content_alone() -> None:
    source = chatml("{{ m.content.split('</think>')[-1] if not loop.last else m.content }}")
    found = learned(source)
    assert found.forms.inline == "<think>\n{}\n</think>\n\n"
    assert (found.opener, found.closer) == ("<think>\n", "\n</think>\n\n")
    assert not found.kept_after_user


def test_reasoning_may_be_a_part_of_the_content() -> None:
    parts = (
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ '[THINK]' ~ p.thinking ~ '[/THINK]' if p.type == 'thinking' else p.text }}"
        "{% endfor %}{% endif %}"
    )
    found = learned(chatml(parts))
    assert found.forms.parts
    assert (found.opener, found.closer) == ("[THINK]", "[/THINK]")


def test_empty_message_beside_a_call_is_avoided() -> None:
    """As DeepSeek-R1: a content, even an empty one, is a message of its own."""
    calls = "{{ '<tool_call>' ~ m.tool_calls | tojson ~ '<|im_end|>\n' if m.tool_calls }}"
    content = "{% if m.content is not none %}{{ m.content }}<|im_end|>\n{% endif %}"
    source = chatml(calls + content, end="")
    assert learned(source).forms.empty_content is None
