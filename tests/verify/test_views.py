"""Messages without a view: not checked, or refused where pack must refuse too."""

from __future__ import annotations

import pytest
from text_views import ASK, END, STOPS, USER, rules, said, views

from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.reader import read_chat
from reasonpack.verify.stop import Stops
from reasonpack.verify.views import build_views
from tests.verify.test_one_view import DROPS, OPENS


def test_no_view_of_a_message_that_may_be_context_is_not_checked() -> None:
    rule = rules(DROPS, STOPS, keep_as_context=True)
    thinks = said("Four.", thinking="Two.")
    with pytest.raises(NotChecked, match="no delimiters"):
        views(rule, ASK, thinks)
    made = views(rule, ASK, said("One."), ASK, thinks)
    assert [view.completion for view in made.views] == ["One.<|end|>"]
    assert "no delimiters" in made.doubt


def test_calls_of_which_the_manifest_has_no_stop_token_are_context_where_some_may_be() -> None:
    call = {"function": {"name": "look_up", "arguments": {}}}
    source = DROPS.replace("m.content", "(m.content or m.tool_calls | string)")
    found = [
        views(rules(source, STOPS, keep_as_context=is_so), ASK, said("", tool_calls=[call]), ASK)
        for is_so in (False, True)
    ]
    assert [(len(made.views), made.context) for made in found] == [(1, 0), (0, 1)]


def test_what_pack_refuses_of_an_answer_is_refused() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    source = OPENS.replace("<think>\n", "").replace("<|end|>{%", "{{ m.tool_calls }}<|end|>{%")
    stops = Stops(("<|end|>", "<|eot|>"), ())
    with pytest.raises(Refused, match="cut off"):
        views(rules(source, stops), ASK, said("4", tool_calls=[call], finish_reason="length"))
    with pytest.raises(Refused, match=r"'<\|eot\|>' in its text"):
        views(rules(source, stops), ASK, said("So <|eot|>."))


def test_an_answer_without_a_trained_part_is_context() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    source = OPENS.replace("<think>\n", "").replace("<|end|>{%", "{{ m.tool_calls }}<|end|>{%")
    messages = [ASK, said("So <|end|>."), ASK, said("", tool_calls=[call])]
    chat = read_chat({"messages": messages}, Reading())
    assert build_views(chat, rules(source, STOPS), ("tool-calls",)).numbers == [3]


def test_a_whole_prompt_as_the_text_of_a_user_is_refused() -> None:
    rule = rules(OPENS.replace("<think>\n", ""), STOPS)
    prompt = rule.template.render([ASK], [], {}, prompt=True)
    with pytest.raises(Refused, match="a whole prompt"):
        views(rule, {**ASK, "content": prompt}, said("4"))


def test_a_text_with_a_null_character_in_it_that_was_cut_off() -> None:
    made = views(rules(DROPS, STOPS), ASK, said("Fo\0ur", finish_reason="length"))
    assert made.views[0].completion == "Fo\0ur"


def test_content_that_is_not_shown_is_not_checked() -> None:
    with pytest.raises(NotChecked, match="the rendering lacks"):
        views(rules(f"{USER}<|bot|><|end|>{END}<|bot|>{{% endif %}}", STOPS), ASK, said("Four."))


def test_a_call_that_is_not_shown_is_not_checked() -> None:
    source = f"{USER}<|bot|>{{{{ m.tool_calls[0].function.name }}}}<|end|>{END}<|bot|>{{% endif %}}"
    call = {"name": "f", "arguments": {}}
    assert views(rules(source, STOPS), ASK, said("", tool_calls=[call])).views
    with pytest.raises(NotChecked, match="a call"):
        views(rules(source, STOPS), ASK, said("", tool_calls=[call, call]))


def test_a_cut_answer_has_no_stop() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|>{{% endif %}}"
    made = views(rules(source, STOPS), ASK, said("Four and", finish_reason="length"))
    assert (made.views[0].completion, made.stops) == ("Four and", {"none: cut off": 1})
