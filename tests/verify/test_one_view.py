"""Views by the rule of `verify`: prompt, completion, the stop and where it comes from."""

from __future__ import annotations

import pytest
from text_views import ASK, END, STOPS, USER, rules, said, views

from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.one_view import OneView
from reasonpack.verify.reader import read_chat
from reasonpack.verify.stop import Stops
from reasonpack.verify.template import WHITE
from reasonpack.verify.views import build_views

DROPS = f"{USER}<|bot|>{{{{ m.content.split('</think>')[-1] }}}}<|end|>{END}<|bot|>{{% endif %}}"
OPENS = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><think>\n{{% endif %}}"


def test_a_completion_that_the_template_drops_reasoning_from_is_composed() -> None:
    rule = rules(DROPS, STOPS, "<think>\n", "\n</think>\n\n")
    made = views(rule, ASK, said("Four.", reasoning_content=" Two. "))
    assert made.views[0].completion == "<think>\n Two. \n</think>\n\nFour.<|end|>"
    assert made.views[0].reasoning_end == (
        len("<think>\n Two. \n</think>"),
        len("<think>\n Two. \n</think>\n\n"),
    )
    with pytest.raises(NotChecked, match="no delimiters"):
        views(rules(DROPS, STOPS), ASK, said("Four.", reasoning_content="Two."))


@pytest.mark.parametrize(
    ("filters", "strips", "shown"),
    [
        ("", ("", ""), "\n \u00a0Two \n"),
        (".strip('\\n')", ("\n", "\n"), " \u00a0Two "),
        (" | trim", (WHITE, WHITE), "Two"),
    ],
)
def test_reasoning_is_stripped_as_the_template_does(
    filters: str, strips: tuple[str | None, str | None], shown: str
) -> None:
    """Only behind a user's message this template shows reasoning; elsewhere it is composed."""
    think = f"<think>{{{{ m.thinking{filters} }}}}</think>" + "{{ m.content }}"
    source = f"{USER}<|bot|>{{% if messages|length == 2 %}}{think}{{% else %}}{{{{ m.content }}}}"
    source += f"{{% endif %}}<|end|>{END}<|bot|>{{% endif %}}"
    rule = rules(source, STOPS, "<think>", "</think>")
    assert rule.forms.strips == strips
    made = views(rule, ASK, ASK, said("4", thinking="\n \u00a0Two \n"))
    assert made.views[0].completion == f"<think>{shown}</think>4<|end|>"


def test_reasoning_alone_that_is_not_shown_is_composed() -> None:
    rule = rules(DROPS, STOPS, "<think>\n", "\n</think>\n\n")
    made = views(rule, ASK, said("", reasoning_content="Two and"))
    assert (made.views[0].completion, made.stops) == ("<think>\nTwo and", {"none: cut off": 1})


def test_reasoning_alone_in_the_content_is_as_the_record_has_it() -> None:
    rule = rules(
        DROPS.replace("<|bot|>{% endif %}", "<|bot|><think>{% endif %}"),
        STOPS,
        "<think>",
        "</think>",
    )
    made = views(rule, ASK, said("<think>\nTwo \n</think>"))
    assert made.views[0].completion == "\nTwo "


@pytest.mark.parametrize("white", ["", "\n", "\n \n ", " "])
def test_reasoning_in_a_message_before_that_of_the_calls(white: str) -> None:
    """As Nemotron Nano 2 writes it; white space after the reasoning is no text of the answer."""
    shown = "{% if m.content.strip() %}<|bot|><think>{{ m.content.strip() }}<|end|>{% endif %}"
    shown += "{% if m.tool_calls %}<|bot|>{{ m.tool_calls[0].function.name }}<|end|>{% endif %}"
    source = f"{USER}{shown}{END}<|bot|><think>\n{{% endif %}}"
    rule = rules(source, STOPS, "<think>\n", "\n</think>\n\n")
    call = {"type": "function", "id": "c", "function": {"name": "look_up", "arguments": {}}}
    (made,) = views(rule, ASK, said(f"<think>Two</think>{white}", tool_calls=[call])).views
    assert made.completion.startswith("Two</think>")
    assert made.completion.endswith("look_up<|end|>")


@pytest.mark.parametrize(
    ("text", "is_prompt"),
    [
        ("<|user|>2+2?<|im_start|>bot\n", True),
        ("<|user|>2+2?<|im_start|>bot\n<think>\n", True),
        ("user\n2+2?\nbot\n", True),
        ("user\n2+2? A bot", False),
        ("Ask the\nbot", False),
    ],
)
def test_a_prompt_that_a_template_wrote_is_no_text_of_a_user(text: str, is_prompt: bool) -> None:
    shown = f"{{{{ m.content }}}}<|end|>{END}<|im_start|>bot\n{{% endif %}}"
    rule = rules(f"{USER}<|im_start|>bot\n{shown}", STOPS)
    if is_prompt:
        with pytest.raises(Refused, match="a whole prompt"):
            views(rule, {"role": "user", "content": text}, said("Four."))
    else:
        assert views(rule, {"role": "user", "content": text}, said("Four.")).views


def test_a_text_of_a_user_that_the_end_of_a_prompt_holds_is_not_taken_for_it() -> None:
    begin = "<|im_start|>bot\n<think></think>\n"
    shown = f"{{{{ m.content }}}}<|end|>{END}{begin}{{% endif %}}"
    rule = rules(f"{USER}{begin}{shown}", STOPS, "<think>", "</think>\n")
    asked = [{"role": "user", "content": text} for text in ("Why </think>", "<think>")]
    views(rule, asked[0], said("So."), asked[1], said("Four."))


@pytest.mark.parametrize("thought", ["It is four, surely.", "Two.</think>"])
@pytest.mark.parametrize("content", ["It is four, surely.", ""])
def test_reasoning_that_a_template_drops_is_as_the_record_has_it(
    thought: str, content: str
) -> None:
    """Though the answer says the same, or a tag stands in it."""
    shown = "<think></think>{{ m.content.split('</think>')[-1] }}<|end|>"
    source = f"{USER}<|bot|>{shown}{END}<|bot|><think>{{% endif %}}"
    record = {"messages": [ASK, said(f"<think>{thought}</think>{content}")]}
    chat = read_chat(record, Reading(stray_tag="reasoning"))
    (made,) = build_views(chat, rules(source, STOPS, "<think>", "</think>")).views
    assert made.completion == thought + (f"</think>{content}<|end|>" if content else "")


def test_the_header_of_a_next_message_that_drops_the_answer_is_no_stop() -> None:
    source = f"{USER}<|bot|>{{{{ m.content if loop.last }}}}<|end|>{END}<|bot|>{{% endif %}}"
    made = views(rules(source, Stops(("</s>",), ("<|end|>",))), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"rendering": 1})


@pytest.mark.parametrize("content", ["</thought>It is four.", "</thought>4."])
def test_a_tag_of_the_content_closes_nothing_behind_a_prompt_that_closes_it(content: str) -> None:
    block = "<thought></thought>"
    source = f"{USER}<|bot|>{block}{{{{ m.content }}}}<|end|>{END}<|bot|>{block}{{% endif %}}"
    made = views(rules(source, STOPS, "<thought>", "</thought>"), ASK, said(content))
    assert [view.completion for view in made.views] == [f"{content}<|end|>"]


def test_reasoning_that_says_again_what_stands_behind_it() -> None:
    source = (
        f"{USER}<|bot|>{{{{ '<think>' ~ m.reasoning_content ~ '</think>' if m.reasoning_content"
    )
    source += f" }}}}{{{{ m.content }}}}<|end|>{END}<|bot|>{{% endif %}}"
    chat = read_chat({"messages": [ASK, said("A B", reasoning_content="A")]}, Reading())
    made = build_views(chat, rules(source, STOPS, "<think>", "</think>"), ["response"])
    ((begin, end),) = made.views[0].trained
    assert made.views[0].completion[begin:end] == "A B<|end|>"


def test_reasoning_that_the_answer_holds_is_not_shown_by_it() -> None:
    rule = rules(DROPS, STOPS, "<think>", "</think>")
    made = views(rule, ASK, said("Four.", reasoning_content="Fo"))
    assert made.views[0].completion == "<think>Fo</think>Four.<|end|>"


def test_the_empty_block_of_two_answers_is_that_of_a_prompt_without_thinking() -> None:
    source = (
        f"{USER}<|bot|>{{{{ '\n<think></think>' if loop.last }}}}\n{{{{ m.content }}}}<|end|>{END}"
        "<|bot|>{{ '\n<think></think>' if not think }}{% endif %}"
    )
    switch = ({"think": True}, {"think": False})
    empty = {"missing_reasoning": "empty-think", "thinking": switch, "closer": "</think>\n"}
    rule = rules(source, STOPS, "\n<think>", **empty)
    messages = [ASK, said("4"), said("5")]
    record = {"messages": messages, "chat_template_kwargs": {"think": True}}
    made = build_views(read_chat(record, Reading()), rule)
    assert [view.completion for view in made.views] == ["\n4<|end|>", "\n5<|end|>"]
    assert all(view.prompt.endswith("<|bot|>\n<think></think>") for view in made.views)


def test_an_answer_without_the_reasoning_that_its_prompt_opens() -> None:
    rule = rules(OPENS, STOPS, "<think>\n", "\n</think>\n\n")
    made = views(rule, ASK, said("Four."), ASK, said("Five.", reasoning_content="Count."))
    assert (made.untrained, [view.message for view in made.views]) == (1, [3])
    assert made.views[0].completion == "Count.\n</think>\n\nFive.<|end|>"
    with pytest.raises(Refused, match="no reasoning"):
        views(
            rules(OPENS, STOPS, "<think>\n", "</think>", missing_reasoning="error"), ASK, said("4")
        )


def test_an_empty_block_is_context_unless_it_is_to_be_trained() -> None:
    source = (
        f"{USER}<|bot|><think>{{{{ m.reasoning }}}}</think>\n{{{{ m.content }}}}<|end|>{END}"
        "<|bot|>{% endif %}"
    )
    for train, completion in ((False, "Four.<|end|>"), (True, "<think></think>\nFour.<|end|>")):
        empty = {"missing_reasoning": "empty-think", "train_empty": train}
        (view,) = views(
            rules(source, STOPS, "<think>", "</think>\n", **empty), ASK, said("Four.")
        ).views
        assert view.completion == completion
        assert (view.prompt + view.completion).endswith("<|bot|><think></think>\nFour.<|end|>")


def test_an_empty_block_that_no_rendering_shows_is_closed() -> None:
    rule = rules(OPENS, STOPS, "<think>\n", "\n</think>\n\n", missing_reasoning="empty-think")
    (view,) = views(rule, ASK, said("Four.")).views
    assert view.prompt.endswith("<|bot|><think>\n\n</think>\n\n")
    assert view.completion == "Four.<|end|>"


def test_an_empty_block_that_the_rendering_goes_on_with() -> None:
    shown = "<think>\n{{ m.reasoning }}\n</think>\n{{ m.content }}<|end|>"
    source = f"{USER}<|bot|>{shown}{END}<|bot|><think>\n{{% endif %}}"
    rule = rules(source, STOPS, "<think>\n", "\n</think>\n", missing_reasoning="empty-think")
    (view,) = views(rule, ASK, said("Four.")).views
    assert view.prompt.endswith("<|bot|><think>\n\n</think>\n")
    assert view.completion == "Four.<|end|>"


SHOWS = (
    f"{USER}<|bot|>{{{{ '<think>' ~ m.reasoning if m.reasoning }}}}</think>\n"
    f"{{{{ m.content.strip() ~ '\n' if m.content.strip() }}}}<|end|>{END}"
    "<|bot|>{{ '<think>' if think else '</think>' }}{% endif %}"
)
"""As Laguna does: an answer without reasoning closes what no rendering with it opens."""


@pytest.mark.parametrize("thought", ["", "\n"])
@pytest.mark.parametrize(("content", "shown"), [("", ""), ("\n", ""), ("\n4", "4\n")])
def test_an_answer_without_text_or_reasoning_stands_behind_the_block(
    content: str, shown: str, thought: str
) -> None:
    asked = {"missing_reasoning": "empty-think", "thinking": ({"think": True}, {})}
    rule = rules(SHOWS, STOPS, "<think>", "</think>\n", **asked)
    messages = [ASK, said(content, reasoning=thought)] * 2
    on = {"messages": messages, "chat_template_kwargs": {"think": True}}
    for view in build_views(read_chat(on, Reading()), rule).views:
        assert view.prompt.endswith(f"<|bot|><think>{thought}</think>\n")
        assert view.completion == f"{shown}<|end|>"
    for view in views(rule, *messages).views:
        assert view.prompt.endswith("<|bot|></think>")
        assert view.completion == f"\n{shown}<|end|>"


def test_a_prompt_that_closes_reasoning_is_no_prompt_for_it() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><think></think>{{% endif %}}"
    rule = rules(source, STOPS, "<think>", "</think>")
    with pytest.raises(NotChecked, match="closes the reasoning"):
        views(rule, ASK, said("Four.", reasoning_content="Two."))


def test_a_question_that_ends_as_reasoning_does_closes_none() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "A</think>"}, said("Four.")]
    rule = rules(source, Stops((), ()), "<think>", "</think>")
    chat = read_chat({"messages": messages}, Reading())
    one = OneView(chat, messages, 1, rule)
    assert (one.prompt, one.closed()) == ("A</think>", False)


@pytest.mark.parametrize(("opener", "writes"), [("<judge>\n", ""), ("<judge>\n<on>\n", "<on>\n")])
def test_a_prompt_that_writes_the_opener_or_the_beginning_of_it(opener: str, writes: str) -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><judge>\n{{% endif %}}"
    rule = rules(source, Stops(("<|end|>",), ()), opener, "\n</judge>\n")
    made = views(rule, ASK, said("Four.", reasoning="Two."), ASK, said("Bare."))
    (view,) = made.views
    assert view.prompt.endswith("<|bot|><judge>\n")
    assert view.completion == f"{writes}Two.\n</judge>\nFour.<|end|>"
    assert made.untrained == 1
