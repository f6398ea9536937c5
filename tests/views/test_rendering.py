"""Renderings of a conversation, and what of them prompts share."""

from __future__ import annotations

from stories import PROMPT, TURN, answer, last, refusal, rendering, result, user


def test_record_that_the_template_refuses_is_named() -> None:
    error = refusal(rendering("tool_loop"), user(), result(), answer())
    assert (error.reason, error.path) == ("template", "messages[0:3]")
    assert "A tool result must follow a tool call" in error.what


def test_two_messages_in_a_row_are_not_joined() -> None:
    prompt, completion = last(rendering("stripped"), user("A"), answer("B"), answer("C", "R"))
    assert prompt.endswith("B<|im_end|>\n<|im_start|>assistant\n")
    assert completion == "<think>\nR\n</think>\n\nC<|im_end|>"
    joined = "{{ m.content }}{{ '<|im_end|>\n' if m.role == 'user' or loop.last or "
    joined += "loop.nextitem.role != 'assistant' }}"
    source = "{% for m in messages %}{% if loop.first or m.role == 'user' or "
    source += (
        "loop.previtem.role != 'assistant' %}" + TURN + "{% endif %}" + joined + "{% endfor %}"
    )
    assert refusal(rendering(source + PROMPT), user(), answer(train=False), answer("C"))
