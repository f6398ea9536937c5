"""Each stretch of a view has its kind and its message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_templates import chatml
from stories import answer, call, rendering, result, spans_of, user, views

from reasonpack.records.conversation import Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.message_places import MessagePlaces
from reasonpack.tokens.view_tokens import Cutter, Pieces
from reasonpack.views.rendering import WORTH_A_MEMO
from tests.changed import replace


def test_spans_of_an_ordinary_conversation() -> None:
    story = (Message("system", "S"), user("A"), call("T", "R"), result("F"), answer("B", "Q"))
    *_, view = views(rendering("tool_loop"), *story)
    assert spans_of(view) == [
        ("<|im_start|>system\nS<|im_end|>\n", "h", 0),
        ("<|im_start|>user\nA<|im_end|>\n", "h", 1),
        ("<|im_start|>assistant\n", "h", 2),
        ("<think>R</think>\n", "t", 2),
        ('T<tool_call>look_up {"query": "it"}</tool_call><|im_end|>\n', "r_in", 2),
        ("<|im_start|>tool\n<tool_response>F</tool_response><|im_end|>\n", "h", 3),
        ("<|im_start|>assistant\n", "h", 4),
        ("<think>Q</think>\n", "t", 4),
        ("B<|im_end|>", "r_out", 4),
    ]


def test_opener_in_the_prompt_counts_to_the_reasoning() -> None:
    (view,) = views(rendering("thinking_prompt"), user("A"), answer("B", "R"))
    assert spans_of(view)[-3:] == [
        ("<|im_start|>assistant\n", "h", 1),
        ("<think>\nR\n</think>\n\n", "t", 1),
        ("B<|im_end|>", "r_out", 1),
    ]
    assert view.prompt.endswith("<think>\n")


def test_reasoning_that_history_lacks_is_not_found_in_the_content() -> None:
    history = answer("Pi<think></think>4", "Pi")
    *_, view = views(rendering("tool_loop"), user("A"), history, user("B"), answer("C", "Q"))
    assert spans_of(view)[2:4] == [
        ("Pi<think></think>4<|im_end|>\n", "r_in", 1),
        ("<|im_start|>user\nB<|im_end|>\n", "h", 2),
    ]


def test_spans_tile_a_view_whose_calls_are_not_all_shown() -> None:
    """Of two calls the template shows one; the name of the other is found in a later message."""
    first = "{% for c in (m.tool_calls or [])[:1] %}{{ '<|call|>' ~ c.function | tojson }}"
    chosen = rendering(chatml("{{ m.content }}" + first + "{% endfor %}"))
    find, run = (ToolCall(name, {"query": "it"}, None, "c0") for name in ("find", "run"))
    of = [
        Message("assistant", "", None, each, train=False) for each in [(find, run), (find,), (run,)]
    ]
    story = (user("A"), of[0], result("F"), result("G"), of[1], result("H"), of[2], result("I"))
    story = (*story, answer("Four, so."))
    (view,) = views(chosen, *story)
    stops = [span.stop for span in view.spans]
    assert stops == sorted(stops)
    assert spans_of(view)[-1] == ("Four, so.<|im_end|>", "r_out", 8)
    pieces = Pieces(lambda text: [text])
    cut = Cutter(pieces).add(view)
    pieces.encode(lambda texts: [np.frombuffer(text.encode(), np.uint8) for text in texts])
    encoded = pieces.look_up([[cut]])
    assert encoded.trained.tolist() == [False] * len(view.prompt) + [True] * len(view.completion)


TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
LOOP = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content %}{{ ' ' }}{% endif %}{% endfor %}"
    "<|bos|>{{ ns.system }}{% if tools %}[{{ tools|tojson }}]{% endif %}{% for m in messages %}"
    "{% if m.role != 'system' %}{{ '<|im_start|>' ~ m.role ~ '\n' }}"
    "{% if m.reasoning_content %}{{ '<think>' ~ m.reasoning_content ~ '</think>' }}{% endif %}"
    "{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>' ~ c.function.name ~ c.function.arguments|tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% if loop.last and add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}{% endfor %}"
)
"""Writes the system message before, and the prompt for an answer with the last message."""


def context(source: str, *story: Message, **more: Any) -> list[tuple[str, int]]:
    """Return the texts of a view's prompt, each with its message."""
    *_, view = views(rendering(source), *story, **more)
    text, at, found = view.prompt, 0, []
    for span in view.spans:
        if at < span.stop <= len(text):
            found.append((text[at : span.stop], span.message))
        at = span.stop
    return found


def test_what_no_loop_wrote_is_a_message_or_the_templates_own() -> None:
    story = (user("A"), answer("B"), user("C"), answer("D", "R"))
    own = [
        ("<|im_start|>user\nA<|im_end|>\n", 0),
        ("<|im_start|>assistant\n", 1),
        ("B<|im_end|>\n", 1),
        ("<|im_start|>user\nC<|im_end|>\n", 2),
        ("<|im_start|>assistant\n", 3),
    ]
    assert context(LOOP, *story) == [("<|bos|>", -1), *own]
    told = [(text, message + 1) for text, message in own]
    system = Message("system", "S")
    assert context(LOOP, system, *story) == [(" <|bos|>S", 0), *told]
    *_, (head, of), first, _, _, _, _ = context(LOOP, system, *story, tools=TOOLS)
    assert (head[0], head[-1], of, first) == ("[", "]", 0, told[0])


def test_a_message_of_white_space_that_is_not_shown_takes_nothing_of_the_next() -> None:
    source = LOOP.replace("m.role != 'system'", "m.content | trim and m.role != 'system'")
    system, *story = Message("system", "\n "), user("A question to ask."), answer("B")
    shown = context(source.replace("m.role == 'system'", "false"), system, *story)
    assert [of for text, of in shown if "A question" in text] == [1]


def test_a_text_that_stands_in_two_messages_is_of_each() -> None:
    """A search finds the first of them, in the header or in another message."""
    story = (user("assistant"), answer("user", "R"), user("user"), answer("B", "R"))
    assert [message for _, message in context(LOOP, *story)] == [-1, 0, 1, 1, 1, 2, 3]


def test_a_message_within_the_text_of_the_one_before_is_found() -> None:
    """As Gemma 4 writes the results of calls."""
    source = (
        "{% for m in messages %}{% if m.role != 'tool' %}{{ '<|im_start|>' ~ m.role ~ '\n' }}"
        "{% if m.reasoning_content %}{{ '<think>' ~ m.reasoning_content ~ '</think>' }}{% endif %}"
        "{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
        "{{ '<tool_call>' ~ c.function.name ~ c.function.arguments|tojson }}{% endfor %}"
        "{% if not m.tool_calls %}{{ '<|im_end|>\n' }}{% else %}<|eot|>{% if not loop.last %}"
        "{{ '{' ~ messages[loop.index0 + 1].content ~ '}' }}"
        "{% endif %}{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    story = (user("A"), call(), result("Found."), answer("B"), user("C"), answer("D"))
    found = context(source, *story)
    assert [message for _, message in found] == [0, 1, 1, 2, 3, 3, 4, 5]
    call_and_result = [text for text, _ in found[2:4]]
    assert call_and_result == ['<tool_call>look_up{"query": "it"}<|eot|>', "{Found.}"]


def test_a_message_that_is_not_shown_is_not_found_in_a_later_one() -> None:
    shown = "m.role != 'system' and (m.role, m.content) != ('tool', 'D')"
    source = LOOP.replace("m.role != 'system'", shown)
    story = (user("A"), call(), result("D"), user("C"), answer("D"), user("E"), answer("F"))
    found = context(source, *story)
    assert [message for _, message in found if message in {2, 3}] == [3]


def test_a_message_that_is_not_shown_is_not_found_in_what_the_prompt_opens() -> None:
    story = (user("A"), Message("developer", "<think>"), answer("B", "R"))
    (view,) = views(rendering("thinking_prompt"), *story)
    stops = [span.stop for span in view.spans]
    assert stops == sorted(stops)
    assert spans_of(view)[-2:] == [
        ("<think>\nR\n</think>\n\n", "t", 2),
        ("B<|im_end|>", "r_out", 2),
    ]


def test_how_many_answers_there_are_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor whether what was written is written again."""
    story = [user("user"), answer("user", "R")] * (WORTH_A_MEMO + 1)
    chosen = rendering(LOOP)
    all_ = views(chosen, *story)
    with monkeypatch.context() as few_answers:
        few_answers.setattr("reasonpack.views.rendering.WORTH_A_MEMO", 99)
        assert views(chosen, *story) == all_
    few = [replace(each, train=at > 2 * WORTH_A_MEMO) for at, each in enumerate(story)]
    (last,) = views(chosen, *few)
    assert last.spans == all_[-1].spans
    asked = [text for text, _, message in spans_of(last) if message % 2 == 0]
    assert set(asked) == {"<|im_start|>user\nuser<|im_end|>\n"}
    assert views(chosen, *story[:4]) == all_[:2]
    written = MessagePlaces("abcdef", ["a", "bc", "d", "ef"], [(range(2), 1)])
    assert [written.of(message) for message in (1, 0, 2)] == [(3, 4), (1, 3), None]


RUNS = (
    "{% set ns = namespace(out='') %}{% for i in range(messages|length) %}{% set m = messages[i] %}"
    "{% if m.role == 'tool' %}{% set ns.out = ns.out ~ START ~ m.content ~ MIDDLE %}"
    "{% if i + 1 == messages|length or messages[i + 1].role != 'tool' %}"
    "{% set ns.out = ns.out ~ '<|im_end|>' %}{% endif %}{% else %}"
    "{% set ns.out = ns.out ~ '<|im_start|>' ~ m.role ~ '\n' ~ (m.content or '') %}"
    "{% for c in m.tool_calls or [] %}{% set ns.out = ns.out ~ '<tool_call>' ~ c.function.name "
    "~ c.function.arguments|tojson %}{% endfor %}{% set ns.out = ns.out ~ '<|im_end|>' %}"
    "{% endif %}{% endfor %}{{ ns.out }}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes all messages at once, and what ends a run of results behind the last one."""


@pytest.mark.parametrize("first", ["ok", ""])
@pytest.mark.parametrize("second", ["ok", "The second one."])
def test_results_that_stand_together_are_found(first: str, second: str) -> None:
    """As Reka Edge writes them: the first ends otherwise than a result that stands alone."""
    source = RUNS.replace("START", "'\n<tool_response>\n'").replace(
        "MIDDLE", "'\n</tool_response>'"
    )
    story = (user("A"), call(), result(first), result(second), answer("B"), user("C"))
    loop = (call(), result("ok"), answer("D"))
    found = context(source, *story, *loop)
    assert [message for _, message in found] == [0, 1, 1, 2, 3, 4, 4, 5, 6, 6, 7, 8]
    results = ("".join(text for text, of in found if of == message) for message in (2, 3, 7))
    assert [text.split("\n")[2] for text in results] == [first, second, "ok"]


def test_a_result_without_text_is_not_found_behind_the_next_one() -> None:
    """As Cohere writes them: nothing but the last one ends as one that stands alone."""
    source = (
        RUNS.replace("START", "'{'")
        .replace("MIDDLE", "'}, '")
        .replace("'<|im_end|>' %}{% endif", "']<|im_end|>' %}{% endif", 1)
    )
    story = (user("A"), call(), result(""), result("The second one."), answer("B"))
    found = context(source, *story)
    assert [of for text, of in found if "The second one." in text] == [3]


GEMMA = (
    "{% for m in messages %}{% if m.role != 'tool' %}"
    "{% if not (loop.previtem is defined and loop.previtem.role == 'tool') %}"
    "{{ '<|im_start|>' ~ m.role ~ '\n' }}{% endif %}{% if not m.tool_calls %}{{ m.content }}"
    "{% else %}FIRST{% for c in m.tool_calls %}"
    "{{ '<tool_call>' ~ c.function.name ~ c.function.arguments|tojson }}{% endfor %}<|eot|>"
    "{% set ns = namespace(on=true) %}{% for r in messages[loop.index:] %}"
    "{% set ns.on = ns.on and r.role == 'tool' %}"
    "{% if ns.on %}{{ '{<|eot|>' ~ r.content ~ '<|eot|>}' }}{% endif %}{% endfor %}LAST{% endif %}"
    "{% if not m.tool_calls %}<|im_end|>{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'tool' %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes the results of a call with it, and an answer to them without a header, as Gemma 4 does."""
TEXT_FIRST = GEMMA.replace("FIRST", "{{ m.content or '' }}").replace("LAST", "")
TEXT_LAST = GEMMA.replace("FIRST", "").replace("LAST", "{{ m.content or '' }}")


@pytest.mark.parametrize("first", ["", "ok", "ok \n", "A longer result. \n"])
def test_a_result_that_is_written_with_its_call_is_not_of_the_call(first: str) -> None:
    story = (user("A"), call(), result(first), result("The second one."), answer("B"))
    found = context(TEXT_FIRST, *story, user("C"), answer("D"))
    assert [of for text, of in found if "The second one." in text] == [3]
    assert [of for text, of in found if "A longer result." in text] in ([], [2])


def test_a_text_that_is_written_after_the_results_is_of_the_call() -> None:
    story = (
        user("A"),
        replace(call("Let me look it up."), train=False),
        result("Found."),
        result("Again."),
        answer("B"),
    )
    for chosen in (TEXT_FIRST, TEXT_LAST):
        found = context(chosen, *story, user("C"), answer("D"))
        assert [of for text, of in found if "Let me look it up." in text] == [1]
        assert [of for text, of in found if "Found." in text] == [2]
    (view,) = views(rendering(TEXT_LAST), *story[:-1], answer("B"))
    assert ("Let me look it up.", "r_in", 1) in spans_of(view)


def test_calls_behind_a_result_of_white_space_are_found() -> None:
    more = (call(), result("The last one."), answer("B"))
    found = context(TEXT_FIRST, user("A"), call(), result("Found."), result("\n \n"), *more)
    assert [of for text, of in found if "The last one." in text] == [5]
