"""What stands before and behind reasoning."""

from __future__ import annotations

from small_templates import PROMPT, chatml, learned


def test_delimiters_that_are_never_shown_follow_from_a_prompt_that_opens() -> None:
    dropped = "{{ m.content.split('</think>')[-1] }}"
    opened = PROMPT.replace("assistant\n", "assistant\n<think>\n")
    found = learned(chatml(dropped, prompt=opened))
    assert (found.prompt_opener, found.opener, found.closer) == ("<think>\n", "", "\n</think>\n\n")
    assert not found.shows_reasoning
    opened = opened.replace("<think>\n", "<think>")
    assert learned(chatml(dropped, prompt=opened)).closer == "</think>"
    assert learned(chatml(dropped)).closer == ""  # nothing says where reasoning would begin


def test_what_is_closed_before_it_begins_is_no_reasoning() -> None:
    assert learned(chatml("{{ '<think></think>' ~ m.content }}")).closer == ""
