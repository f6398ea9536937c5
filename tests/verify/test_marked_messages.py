"""Short texts, which stand elsewhere in a rendering too, are found where the message has them."""

from __future__ import annotations

from typing import Any

import pytest
from text_views import ASK, END, STOPS, USER, rules, said, template, views

from reasonpack.verify.chat import Message, Refused
from reasonpack.verify.marked_messages import marked
from reasonpack.verify.template import WHITE, learn_forms
from tests.changed import replace

THINKS = f"{USER}<|bot|><think>\n{{{{ m.reasoning | trim }}}}\n</think>\n\n{{{{ m.content }}}}"
CALLS = "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}{% endfor %}<|end|>"
LEAVES = f"{USER}<|bot|>{{{{ m.content }}}}{CALLS}"
OPENER, CLOSER = "<think>\n", "\n</think>\n\n"
CALL = [{"name": "alarm", "arguments": {}}]


def written(source: str, opens: str, *messages: Any) -> list[tuple[str, str, tuple[int, int]]]:
    rule = rules(f"{source}{END}<|bot|>{opens}{{% endif %}}", STOPS, OPENER, CLOSER)
    made = views(rule, *messages).views
    return [
        (one.prompt.rpartition("<|bot|>")[2], one.completion, one.reasoning_end) for one in made
    ]


@pytest.mark.parametrize("thought", ["a", "n", "t", "call", "think", "end", "Four.", "alarm"])
@pytest.mark.parametrize("source", [THINKS + CALLS, LEAVES], ids=["shown", "dropped"])
def test_reasoning_that_stands_in_other_texts(thought: str, source: str) -> None:
    one = said("Four.", reasoning=thought)
    two = said("", reasoning=thought, tool_calls=CALL)
    shown = source != LEAVES
    if not shown:  # a field that is nowhere shown is not known
        one, two = (said(f"{OPENER}{thought}{CLOSER}{each['content']}") for each in (one, two))
        two["tool_calls"] = CALL
    first, second = written(source, "", ASK, one, ASK, two)
    lead = f"{OPENER}{thought}{CLOSER}"
    assert first[:2] == ("", f"{lead}Four.<|end|>")
    assert second[:2] == ("", f"{lead}<call>alarm<|end|>")


@pytest.mark.parametrize("content", ["a", "Four", "</think", "end", "bot", ""])
def test_content_that_stands_in_other_texts(content: str) -> None:
    (made,) = written(THINKS + CALLS, "<think>\n", ASK, said(content, reasoning="Fo\n\nur"))[:1]
    if content:
        assert made[1] == f"Fo\n\nur{CLOSER}{content}<|end|>"
        assert made[2] == (len("Fo\n\nur\n</think>"), len(f"Fo\n\nur{CLOSER}"))
    else:
        assert made[1] == "Fo\n\nur"  # it was cut off


REWRITES = "{% if messages[-1].role == 'assistant' %}~{% endif %}"
"""The rendering with the answer does not go on from its prompt."""


def test_an_answer_without_text_is_found() -> None:
    source = f"{REWRITES}{USER}<|bot|>{{{{ m.content }}}}<|end|>\n"
    made = written(source, "", ASK, said(""), ASK, said(" "))
    assert [completion for _, completion, _ in made] == ["<|end|>", " <|end|>"]


@pytest.mark.parametrize("white", ["\n", "\n\n", " \n"])
@pytest.mark.parametrize("start", ["", REWRITES])
def test_white_space_at_the_start_is_the_prompts_where_the_template_strips(
    white: str, start: str
) -> None:
    answer = said("Four.", reasoning=f"{white}Two\n\nthree{white}")
    (made,) = written(start + THINKS + CALLS, "<think>\n", ASK, answer)
    assert made[:2] == ("<think>\n", f"Two\n\nthree{CLOSER}Four.<|end|>")


@pytest.mark.parametrize("start", ["", REWRITES])
@pytest.mark.parametrize("opens", ["<think>\n", ""])
def test_white_space_at_the_start_is_the_models_where_the_template_shows_it(
    opens: str, start: str
) -> None:
    source = start + THINKS.replace(" | trim", "") + CALLS
    (made,) = written(source, opens, ASK, said("Four.", reasoning="\n Two"))
    assert "".join(made[:2]) == f"{OPENER}\n Two{CLOSER}Four.<|end|>"


@pytest.mark.parametrize("start", ["", REWRITES])
@pytest.mark.parametrize("white", ["\n", " \n"])
def test_reasoning_that_was_cut_off_ends_in_its_own_white_space_if_it_is_shown(
    start: str, white: str
) -> None:
    tail = white if white == "\n" else ""  # which the template writes itself before the closer
    (made,) = written(start + THINKS + CALLS, "<think>\n", ASK, said("", reasoning=f"\nTwo{white}"))
    assert made[:2] == ("<think>\n", f"Two{tail}")
    drops = THINKS.replace(OPENER, "{% if m.tool_calls %}<think>\n").replace(
        CLOSER, f"{CLOSER}{{% endif %}}"
    )
    (made,) = written(drops + CALLS, "<think>\n", ASK, said("", reasoning=f"Two{white}"))
    assert made[:2] == ("<think>\n", f"Two{white}")


def test_an_empty_block_before_the_records_own_is_not_what_the_model_wrote() -> None:
    source = (
        f"{USER}<|bot|>{{% if m.tool_calls %}}<think></think>{{{{ m.content }}}}{CALLS}{{% else %}}"
        "{{ m.content.split('</think>')[-1] }}<|end|>{% endif %}"
    )
    asked = {"missing_reasoning": "empty-think", "train_empty": True}
    rule = rules(f"{source}{END}<|bot|><think>{{% endif %}}", STOPS, "<think>", "</think>", **asked)
    for content in ("<think>a</think>Four.", "<think>\n\n</think>\n\n", "<think></think>"):
        (view,) = views(rule, ASK, said(content, tool_calls=CALL)).views
        assert view.completion == f"{content.removeprefix('<think>')}<call>alarm<|end|>"


@pytest.mark.parametrize("content", ["<think></think>", "</think>\n\n", "\n</think>\n"])
def test_the_records_empty_block_is_as_the_template_shows_it(content: str) -> None:
    """As Nemotron 3 does: between white space, and not as it goes on from the prompt."""
    source = f"{USER}<|bot|>{{{{ m.content | trim ~ '\n' }}}}{CALLS}"
    asked = {"missing_reasoning": "empty-think", "train_empty": True}
    rule = rules(
        f"{source}{END}<|bot|>{OPENER}{{% endif %}}", STOPS, OPENER, "\n</think>\n", **asked
    )
    (view,) = views(rule, ASK, said(content, tool_calls=CALL)).views
    assert view.completion == "</think>\n<call>alarm<|end|>"


def test_a_stop_token_in_a_short_text_is_refused() -> None:
    for message in (said("<|end|>"), said("Four.", reasoning="<|end|>")):
        with pytest.raises(Refused, match="stop token"):
            written(THINKS + CALLS, "<think>\n", ASK, message)


def test_arguments_in_json_text_are_given_as_the_record_has_them() -> None:
    source = f"{USER}<|bot|>{{{{ m.tool_calls[0].function.arguments ~ '' }}}}f<|end|>"
    rule = rules(f"{source}{END}<|bot|>{{% endif %}}", STOPS)
    text = '{"a":  "\\u00fc"}'
    message = said("", tool_calls=[{"name": "f", "arguments": text}])
    as_text = replace(rule, forms=replace(rule.forms, arguments_as_text=True))
    assert views(as_text, ASK, message).views[0].completion == f"{text}f<|end|>"


def test_a_long_text_that_stands_once_needs_no_mark() -> None:
    message = Message("assistant", "It was the twenty-third.", "Count the days of the month.")
    whole = f"<think>{message.reasoning}</think>{message.content}"
    assert marked(message, whole) is None
    assert marked(message, whole + message.content) is not None


def test_an_empty_text_beside_a_call_is_not_null() -> None:
    source = (
        f"{USER}<|bot|>{{% for c in m.tool_calls or [] %}}alarm"
        "{{ c.function.arguments | tojson }}{% endfor %}"
        "{% if m.content is not none %}+{{ m.content }}{% endif %}<|end|>"
    )
    for content, more in (("", "+"), ([], ""), (None, "")):
        call = said(content, tool_calls=CALL)
        assert written(source, "", ASK, call)[0][1] == f"alarm{{}}{more}<|end|>"


def test_a_template_that_wants_tools_is_asked_with_one() -> None:
    source = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}" + LEAVES
    assert learn_forms(template(source + END + "{% endif %}"), {}, "").as_written


def test_what_strips_reasoning_within_the_content_is_found() -> None:
    source = f"{USER}<|bot|><think>{{{{ m.content | trim }}}}<|end|>{{# </think> #}}"
    forms = learn_forms(template(f"{source}{END}<|bot|><think>{{% endif %}}"), {}, "<think>")
    assert forms.opens
    assert forms.strips == (WHITE, "")


def test_reasoning_that_the_template_ends_before_a_call_goes_on_to_it() -> None:
    """It writes two messages, with a stop between them, of what the model wrote in one."""
    last = "m.tool_calls and loop.last and m.content | trim"
    source = (
        f"{USER}<|bot|>{{% if {last} %}}{{{{ m.content | trim }}}}<|end|>\n<|bot|>{{% else %}}"
        f"{{{{ m.content.split('</think>')[-1] | trim }}}}{{% endif %}}{CALLS}"
    )
    message = said("<think>\na\n</think>\n\n", tool_calls=CALL)
    (made,) = written(source, "<think>\n", ASK, message)
    assert made[:2] == ("<think>\n", f"a{CLOSER}<call>alarm<|end|>")
