"""Renderings of a conversation, and what of them prompts share."""

from __future__ import annotations

import itertools

from stories import PROMPT, TURN, answer, call, last, refusal, rendering, result, user, views


def _equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def test_it_is_known_how_far_prompts_begin_alike() -> None:
    """Also behind an answer that is left untrained."""
    turns = [
        each for n in range(20) for each in (user(f"U{n}"), call(), result(), answer("A", "R"))
    ]
    story = (*turns[:40], user(), answer("B"), *turns[40:])
    for name in ("stripped", "thinking_prompt", "kept"):
        made = views(rendering(name), *story)
        prompts = ["", *(view.prompt for view in made)]
        pairs = [zip(*pair, strict=False) for pair in itertools.pairwise(prompts)]
        expected = [sum(1 for _ in itertools.takewhile(_equal, pair)) for pair in pairs]
        assert [view.shared for view in made] == expected
        assert any(0 < n < len(p) for n, p in zip(expected, prompts, strict=False)) == (
            name != "kept"
        )


def test_record_that_the_template_refuses_is_named() -> None:
    error = refusal(rendering("tool_loop"), user(), result(), answer())
    assert (error.reason, error.path) == ("template", "messages[0:3]")
    assert "A tool result must follow a tool call." in error.what


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
