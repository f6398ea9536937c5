"""Views by the rule of `verify`: prompt, completion, the stop and where it comes from."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from packed_twice import TOKENIZER, Json
from tokenizers import AddedToken, Tokenizer

from reasonpack.templates.stop import Stop
from reasonpack.tokens.tokenizer import load_tokenizer
from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.reader import read_chat
from reasonpack.verify.rules import Rules
from reasonpack.verify.stop import Stops, ending_token, read_stops
from reasonpack.verify.template import WHITE, Forms, Template, learn_forms
from reasonpack.verify.views import TextViews, build_views

USER = "{% for m in messages %}{% if m.role != 'assistant' %}<|user|>{{ m.content }}{% else %}"
END = "{% endif %}{% endfor %}{% if add_generation_prompt %}"
ASK = {"role": "user", "content": "And?"}


def template(source: str) -> Template:
    return Template.compile("test", source, variables={}, date=None)


def rules(source: str, stops: Stops, opener: str = "", closer: str = "", **more: Any) -> Rules:
    made = template(source)
    values: dict[str, Any] = {
        "template": made,
        "forms": learn_forms(made, {}, opener),
        "stops": stops,
        "ending": ending_token(made, {}, stops),
        "given": {},
        "thinking": ({}, {}),
        "opener": opener,
        "closer": closer,
        "stated": ("", ""),
        "claimed": (Stop("", "x"), Stop("", "x")),
        "missing_reasoning": "skip-loss",
        "train_empty": False,
        "keep_as_context": False,
    }
    return Rules(**{**values, **more})


def views(rule: Rules, *messages: Json) -> TextViews:
    return build_views(read_chat({"messages": list(messages)}, Reading()), rule)


def said(content: str, **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


# --- the stop ------------------------------------------------------------------------------------


def test_the_stop_is_the_first_listed_token_behind_the_answer() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>\n<|user|>{END}<|bot|>{{% endif %}}"
    listed = Stops(listed=("<|user|>", "<|end|>"), special=())
    made = views(rules(source, listed), ASK, said("Four."))
    assert [view.completion for view in made.views] == ["Four.<|end|>"]
    assert made.stops == {"files": 1}


def test_the_stop_that_only_the_next_message_shows() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}{END}<|bot|>{{% endif %}}"
    listed = Stops(listed=("<|user|>", "<|observation|>"), special=())
    made = views(rules(source, listed), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|user|>", {"files, next role": 1})


def test_the_stop_that_no_file_lists() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>\n{END}<|bot|>{{% endif %}}"
    made = views(rules(source, Stops((), ("<|end|>", "<|bot|>"))), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"rendering": 1})
    nothing = Stops((), ())
    made = views(
        rules(source, nothing, claimed=(Stop("<|end|>", "x"), Stop("", "x"))), ASK, said("Four.")
    )
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"manifest": 1})
    with pytest.raises(NotChecked, match="no stop token"):
        views(rules(source, nothing), ASK, said("Four."))


def test_several_tokens_behind_an_answer_are_no_stop_by_themselves() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|text|><|end|>{END}<|bot|>{{% endif %}}"
    rule = rules(
        source, Stops((), ("<|text|>", "<|end|>")), claimed=(Stop("<|end|>", "x"), Stop("", "x"))
    )
    assert (rule.ending, views(rule, ASK, said("Four.")).stops) == ("", {"manifest": 1})


def test_a_stop_inside_an_answer_is_refused() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|>{{% endif %}}"
    with pytest.raises(Refused, match="stop token"):
        views(rules(source, Stops(("<|end|>",), ())), ASK, said("It ends <|end|> so."))


def test_stops_are_read_from_every_file_and_are_no_white_space(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("\n", special=False), AddedToken("<|a|>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    ids = [tokenizer.token_to_id("\n"), tokenizer.token_to_id("<|a|>"), 10**6]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    (tmp_path / "config.json").write_text("[")
    stops = read_stops(load_tokenizer(tmp_path))
    assert stops.listed == ("<|im_end|>", "<|a|>")
    assert "\n" not in stops.special


# --- completions ---------------------------------------------------------------------------------

DROPS = f"{USER}<|bot|>{{{{ m.content.split('</think>')[-1] }}}}<|end|>{END}<|bot|>{{% endif %}}"
OPENS = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><think>\n{{% endif %}}"
STOPS = Stops(("<|end|>",), ())


def test_a_completion_that_the_template_drops_reasoning_from_is_composed() -> None:
    rule = rules(DROPS, STOPS, "<think>\n", "\n</think>\n\n")
    made = views(rule, ASK, said("Four.", reasoning_content=" Two. "))
    assert made.views[0].completion == "<think>\n Two. \n</think>\n\nFour.<|end|>"
    assert made.views[0].thought == (
        len("<think>\n Two. \n</think>"),
        len("<think>\n Two. \n</think>\n\n"),
    )
    with pytest.raises(NotChecked, match="no delimiters"):
        views(rules(DROPS, STOPS), ASK, said("Four.", reasoning_content="Two."))


@pytest.mark.parametrize(
    ("filters", "strips", "shown"),
    [
        ("", ("", ""), "\n Two \n"),
        (".strip('\\n')", ("\n", "\n"), " Two "),
        (" | trim", (WHITE, WHITE), "Two"),
    ],
)
def test_reasoning_is_stripped_as_the_template_does(
    filters: str, strips: tuple[str, str], shown: str
) -> None:
    """Only behind a user's message this template shows reasoning; elsewhere it is composed."""
    think = f"<think>{{{{ m.thinking{filters} }}}}</think>" + "{{ m.content }}"
    source = f"{USER}<|bot|>{{% if messages|length == 2 %}}{think}{{% else %}}{{{{ m.content }}}}"
    source += f"{{% endif %}}<|end|>{END}<|bot|>{{% endif %}}"
    rule = rules(source, STOPS, "<think>", "</think>")
    assert rule.forms.strips == strips
    made = views(rule, ASK, ASK, said("4", thinking="\n Two \n"))
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


def test_no_view_of_a_message_that_may_be_context_is_not_checked() -> None:
    rule = rules(DROPS, STOPS, keep_as_context=True)
    thinks = said("Four.", thinking="Two.")
    with pytest.raises(NotChecked, match="no delimiters"):
        views(rule, ASK, thinks)
    made = views(rule, ASK, said("One."), ASK, thinks)
    assert [view.completion for view in made.views] == ["One.<|end|>"]
    assert "no delimiters" in made.doubt


def test_the_header_of_a_next_message_that_drops_the_answer_is_no_stop() -> None:
    source = f"{USER}<|bot|>{{{{ m.content if loop.last }}}}<|end|>{END}<|bot|>{{% endif %}}"
    made = views(rules(source, Stops(("</s>",), ("<|end|>",))), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"rendering": 1})


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


def test_a_prompt_that_closes_reasoning_is_no_prompt_for_it() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><think></think>{{% endif %}}"
    rule = rules(source, STOPS, "<think>", "</think>")
    with pytest.raises(NotChecked, match="closes the reasoning"):
        views(rule, ASK, said("Four.", reasoning_content="Two."))


def test_content_that_is_not_shown_is_not_checked() -> None:
    with pytest.raises(NotChecked, match="not shown"):
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


# --- the template --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_the_name_of_the_reasoning_is_tried_out(name: str) -> None:
    source = f"{USER}{{{{ m.{name} }}}}{{{{ m.content }}}}{END}{{% endif %}}"
    assert learn_forms(template(source), {}, "<think>").field == name


def test_arguments_as_text() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments + '' }}{% endfor %}{% endfor %}"
    )
    forms = learn_forms(template(source), {}, "")
    assert forms.arguments_as_text
    message = said("", tool_calls=[{"name": "f", "arguments": {"a": "ä"}}])
    given = forms.given(read_chat({"messages": [message]}, Reading()).messages[0], "", "")
    assert given["tool_calls"][0]["function"]["arguments"] == '{"a": "ä"}'


def test_a_template_renders_as_transformers_documents_it() -> None:
    source = (
        "{% generation %}\n{{ {'a': '<ä>'} | tojson }}{% endgeneration %}{{ strftime_now('%Y') }}"
    )
    made = Template.compile("t", source, variables={}, date=datetime.date(2026, 1, 2))
    assert made.render([], [], {}) == '{"a": "<ä>"}2026'
    with pytest.raises(NotChecked, match="no date"):
        template(source).render([], [], {})
    with pytest.raises(NotChecked, match="only users"):
        template("{{ raise_exception('only users') }}").render([], [], {})
    grows = "{% set all = [] %}{% set _ = all.append('x') %}{{ all | length }}"
    assert template(grows).render([ASK], [], {}) == "1"


def test_forms_have_a_default() -> None:
    assert Forms().given(read_chat({"messages": [ASK]}, Reading()).messages[0], "", "") == ASK


@pytest.mark.parametrize(("opener", "writes"), [("<judge>\n", ""), ("<judge>\n<on>\n", "<on>\n")])
def test_a_prompt_that_writes_the_opener_or_the_beginning_of_it(opener: str, writes: str) -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|><judge>\n{{% endif %}}"
    rule = rules(source, Stops(("<|end|>",), ()), opener, "\n</judge>\n")
    made = views(rule, ASK, said("Four.", reasoning="Two."), ASK, said("Bare."))
    (view,) = made.views
    assert view.prompt.endswith("<|bot|><judge>\n")
    assert view.completion == f"{writes}Two.\n</judge>\nFour.<|end|>"
    assert made.untrained == 1
