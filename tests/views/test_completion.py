"""What the model wrote: verbatim, cut off, spaced as the record has it; what no model writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from stories import outcomes

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.rows.kind import Kind
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.tool_calls import are_calls
from reasonpack.views.view import View, build_views
from tests.changed import replace

TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|call|>", "<|args|>", "<|/call|>"),
    "<|endoftext|>",
]
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\nOPEN' }}{% endif %}"
ASK = Message("user", "A")


def chatml(body: str = "{{ m.content }}", opens: str = "") -> str:
    turn = "{{ '<|im_start|>' ~ m.role ~ '\n' }}" + body + "{{ '<|im_end|>\n' }}"
    return "{% for m in messages %}" + turn + "{% endfor %}" + PROMPT.replace("OPEN", opens)


def rendering(source: str, eos: tuple[str, ...] = (), **changes: Any) -> Rendering:
    template = ChatTemplate.compile(source, name="probe")
    return Rendering(template, learn(template, TOKENS, eos=eos), {}, **changes)


def build(chosen: Rendering, *story: Message, sources: tuple[int, ...] = ()) -> tuple[View, ...]:
    return build_views(Conversation("id", story, sources=sources), chosen)


def written(chosen: Rendering, *story: Message) -> tuple[str, str]:
    """Return the end of the last prompt, behind the header, and the completion."""
    view = build(chosen, *story)[-1]
    return view.prompt.rpartition("assistant\n")[2], view.completion


def refusal(chosen: Rendering, *story: Message) -> RecordError:
    with pytest.raises(RecordError) as caught:
        build(chosen, *story)
    return caught.value


# --- reasoning in the content ---------------------------------------------------------------------

INLINE = {
    "<think>A</think>B": "B",
    "<think>\nA\n</think>\n\nB": "B",
    "A</think>B": "B",
    "A \n</think>\nB": "B",
}


@pytest.mark.parametrize("text", INLINE)
@pytest.mark.parametrize("opens", ["", "<think>", "<think>\\n"])
def test_content_that_passes_through_is_trained_as_it_is_written(text: str, opens: str) -> None:
    """Less the tag that the prompt wrote."""
    message = Message("assistant", INLINE[text], "A", verbatim=text)
    prompt, completion = written(rendering(chatml(opens=opens)), ASK, message)
    assert prompt == opens.replace("\\n", "\n")
    whole = text.removeprefix(prompt) if text.startswith(prompt) else text.removeprefix("<think>")
    assert completion == f"{whole}<|im_end|>"


@pytest.mark.parametrize("opens", ["", "<think>"])
def test_reasoning_within_the_content_is_of_its_own_kind(opens: str) -> None:
    message = Message("assistant", "B", "A", verbatim="<think>A</think>\n\nB")
    (view,) = build(rendering(chatml(opens=opens)), ASK, message)
    text = view.prompt + view.completion
    assert text[view.spans[-2].stop :] == "B<|im_end|>"
    assert [span.kind for span in view.spans[-2:]] == [Kind.REASONING, Kind.R_OUT]


@pytest.mark.parametrize(("opens", "rest"), [("", "\n"), ("<think>\\n", "")])
def test_the_line_break_before_a_call_is_of_a_closer_that_has_one(opens: str, rest: str) -> None:
    call = "{{ '\n<tool_call>' ~ c.function | tojson ~ '</tool_call>' }}"
    calls = f"{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}"
    text = "<think>\nA\n</think>"
    message = Message("assistant", "", "A", (ToolCall("f", {}, None, None),), verbatim=text)
    (view,) = build(rendering(chatml("{{ m.content }}" + calls, opens)), ASK, message)
    text = view.prompt + view.completion
    assert text[view.spans[-2].stop :].startswith(f"{rest}<tool_call>")


def test_a_template_that_parses_tags_writes_its_own_form() -> None:
    parsed = (
        "{{ '<think>\n' ~ m.content.split('</think>')[0].split('<think>')[-1].strip() ~ "
        "'\n</think>\n\n' if '</think>' in m.content }}"
        "{{ m.content.split('</think>')[-1].lstrip() }}"
    )
    message = Message("assistant", "B", "A", verbatim="<think>A</think>B")
    _, completion = written(rendering(chatml(parsed)), ASK, message)
    assert completion == "<think>\nA\n</think>\n\nB<|im_end|>"


def test_reasoning_of_a_field_has_a_place_where_the_prompt_opens_one() -> None:
    chosen = rendering(chatml(opens="<think>"))
    prompt, completion = written(chosen, ASK, Message("assistant", "B", "A"))
    assert (prompt, completion) == ("<think>", "A</think>B<|im_end|>")
    story = (ASK, Message("assistant", "B"), ASK, chosen_answer())
    assert outcomes(chosen, *story) == ["missing-reasoning", 3]


def chosen_answer() -> Message:
    return Message("assistant", "B", "A")


def test_an_answer_goes_on_from_what_the_prompt_opens() -> None:
    """As KAT-V1, whose prompt opens a judgement."""
    chosen = rendering(chatml(opens="<judge>\\n"))
    text = "<judge>\nJ\n</judge>\n\n<think>\nT\n</think>\n\nB"
    prompt, completion = written(chosen, ASK, Message("assistant", text))
    assert (prompt, completion) == ("<judge>\n", text.removeprefix("<judge>\n") + "<|im_end|>")
    verbatim = Message("assistant", "B", "A", verbatim="<think>A</think>B")
    for message in (Message("assistant", "B"), chosen_answer(), verbatim):
        assert refusal(chosen, ASK, message).reason == "view"


# --- white space ----------------------------------------------------------------------------------

FORGETS = chatml(
    "{% if m.role == 'assistant' %}{{ '<think>' ~ (SHOWN if m.tool_calls and m.thinking) }}"
    "{{ '</think>' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<|call|>' ~ c.function | tojson }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("shown", "left"),
    [
        ("m.thinking", "  A \n"),
        ("m.thinking.strip()", "A"),
        ("m.thinking | trim", "A"),
        ("m.thinking.strip('\n')", "  A "),
        ("m.thinking.rstrip()", "  A"),
        ("m.thinking.lstrip()", "A \n"),
    ],
)
def test_reasoning_is_spaced_alike_where_it_is_shown_and_where_it_is_composed(
    shown: str, left: str
) -> None:
    """The template forgets the reasoning of answers, and shows it beside calls."""
    chosen = rendering(FORGETS.replace("SHOWN", shown))
    call = ToolCall("look_up", {"key": "it"}, None, "c1")
    _, called = written(chosen, ASK, Message("assistant", "B", "  A \n", (call,)))
    assert called.startswith(f"<think>{left}</think>B<|call|>")
    assert written(chosen, ASK, Message("assistant", "B", "  A \n"))[1] == (
        f"<think>{left}</think>B<|im_end|>"
    )


# --- messages that were cut off -------------------------------------------------------------------

SHOWS = chatml(
    "{{ '<think>\n' ~ m.thinking ~ '\n</think>\n\n' if m.thinking }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<|call|>' ~ c.function | tojson }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("message", "completion"),
    [
        (
            Message("assistant", "I was cut off in the ", "A"),
            "<think>\nA\n</think>\n\nI was cut off in the ",
        ),
        (Message("assistant", "I was cut"), "I was cut"),
        (Message("assistant", "", "I was cut off in the mid"), "<think>\nI was cut off in the mid"),
        (Message("assistant", "", "mid \n"), "<think>\nmid \n"),
        # Texts that stand in what closes them, too.
        (Message("assistant", "", "think"), "<think>\nthink"),
        (Message("assistant", "", "<|im_"), "<think>\n<|im_"),
        (Message("assistant", "end", "A"), "<think>\nA\n</think>\n\nend"),
    ],
)
def test_a_message_that_was_cut_off_has_no_stop(message: Message, completion: str) -> None:
    message = replace(message, finished=False)
    view = build(rendering(SHOWS), ASK, message)[-1]
    assert view.completion == completion
    assert view.spans[-1].stop == len(view.prompt) + len(completion)


def test_a_message_within_content_that_passes_through_is_cut_off_too() -> None:
    message = Message("assistant", "B", "A", verbatim="<think>A</think>B", finished=False)
    assert written(rendering(chatml()), ASK, message)[1] == "<think>A</think>B"
    message = Message("assistant", "", "Two and", verbatim="<think>Two and", finished=False)
    assert written(rendering(chatml()), ASK, message)[1] == "<think>Two and"


def test_a_prompt_without_thinking_that_leaves_the_block_open_leaves_it_to_the_model() -> None:
    """As in Baichuan-M2; without a question the template shows no block."""
    asked = "messages | selectattr('role', 'equalto', 'user') | list"
    block = "{{ '<think>\n' ~ (m.thinking or '') ~ '\n</think>\n\n' if loop.last and ASKED }}"
    block = block.replace("ASKED", f"m.role == 'assistant' and {asked}")
    source = chatml(block + "{{ m.content }}", "<think>\n' ~ ('' if thinking else '\n') ~ '")
    story = (Message("system", "S"), Message("assistant", "B"))
    for question in ((), (ASK,)):
        kept = {"missing_reasoning": "empty-think", "train_empty_think": True}
        prompt, completion = written(rendering(source, **kept), *question, *story)
        assert (prompt, completion) == ("<think>\n\n", "</think>\n\nB<|im_end|>")


def test_a_stop_between_calls_is_seen_though_their_arguments_stand_in_it() -> None:
    calls = [ToolCall("f", {"a": 1}), ToolCall("f", {"a": 1})]
    assert are_calls("f{a: 1} f{a: 1}", calls, ["<call>"])
    assert not are_calls("f{a: 1}<call>user f{a: 1}", calls, ["<call>"])
    assert are_calls(
        "f{a: the <call> token}", [ToolCall("f", {"a": "the <call> token"})], ["<call>"]
    )


def test_a_call_that_was_cut_off_is_refused() -> None:
    call = ToolCall("look_up", {"key": "it"}, None, "c1")
    message = Message("assistant", "", "A", (call,), finished=False)
    assert (
        "cut off" in refusal(rendering(FORGETS.replace("SHOWN", "m.thinking")), ASK, message).what
    )


# --- what no model writes -------------------------------------------------------------------------


def test_the_end_of_other_messages_cannot_stand_inside_either() -> None:
    """As in gpt-oss, whose last answer ends in a token of its own."""
    last = "'<|endoftext|>' if loop.last and m.role == 'assistant' else '<|im_end|>'"
    own = chatml().replace("'<|im_end|>\n'", last)
    chosen = rendering(own)
    assert chosen.behaviour.answer_stop.token == "<|endoftext|>"
    assert refusal(chosen, ASK, Message("assistant", "x<|im_end|>y")).reason == "stop-token"


@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("field", ["content", "reasoning", "arguments"])
def test_a_token_that_ends_a_generation_cannot_stand_inside(token: str, field: str) -> None:
    call = ToolCall("look_up", {"key": f"a {token} b"}, None, "c1")
    message = {
        "content": Message("assistant", f"It ends with {token} always.", "A"),
        "reasoning": Message("assistant", "B", f"It ends with {token}"),
        "arguments": Message("assistant", "B", "A", (call,)),
    }[field]
    chosen = rendering(SHOWS, eos=("<|endoftext|>",))
    error = refusal(chosen, ASK, message)
    assert (error.reason, error.path) == ("stop-token", "messages[1]")
    assert token in error.what
    kept = build(chosen, ASK, replace(message, train=False), ASK, Message("assistant", "B"))
    assert len(kept) == 1  # context may hold what it likes
    assert written(chosen, Message("user", token), Message("assistant", "B"))[1]


# --- what the template takes out of texts ---------------------------------------------------------

SWITCHED = (
    "{% set off = namespace(v=false) %}{% for m in messages %}"
    "{% if '/no_think' in m.content %}{% set off.v = true %}{% endif %}{% endfor %}"
    + chatml(
        "{{ '<think>\n' ~ m.thinking ~ '\n</think>\n\n' if m.thinking }}"
        "{{ m.content.replace('/no_think', '').replace('/think', '') | trim }}"
    ).replace("OPEN' }}", "' ~ ('<think></think>' if off.v) }}")
).replace("assistant\n'", "assistant\n' ~ ('<think></think>\n' if off.v else '')")


@pytest.mark.parametrize("text", ["/no_think", "Be terse. /no_think", "Be /no_think terse."])
@pytest.mark.parametrize("role", ["system", "user"])
def test_a_word_that_the_template_takes_out_is_no_lost_content(text: str, role: str) -> None:
    said = Message(role, text)
    story = (said, ASK) if role == "system" else (said,)
    prompt, completion = written(rendering(SWITCHED), *story, Message("assistant", "B"))
    assert (prompt, completion) == ("<think></think>\n", "B<|im_end|>")
    lost = replace(rendering(SWITCHED), template=ChatTemplate.compile(chatml(), name="other"))
    assert written(lost, *story, Message("assistant", "B"))


def test_content_beside_a_word_that_is_taken_out_has_to_be_there() -> None:
    source = SWITCHED.replace("| trim", "| replace('terse', 'x')")
    chosen = replace(rendering(SWITCHED), template=ChatTemplate.compile(source, name="other"))
    error = refusal(
        chosen, Message("system", "Be terse. /no_think"), ASK, Message("assistant", "B")
    )
    assert error.path == "messages[0]"


def test_reasoning_does_not_follow_a_prompt_that_closes_it() -> None:
    story = (Message("system", "/no_think"), ASK, Message("assistant", "B", "A"))
    assert "<think></think>" in refusal(rendering(SWITCHED), *story).what


# --- calls ----------------------------------------------------------------------------------------

BY_ID = chatml(
    "{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ '<|call|>' ~ c.id ~ '<|args|>' ~ c.function.arguments | tojson ~ '<|/call|>' }}{% endfor %}"
)


def called(id_: str, content: str | None = None) -> Message:
    return Message("assistant", content, None, (ToolCall("look_up", {"key": "it"}, None, id_),))


def test_the_name_of_a_tool_may_stand_in_the_id_of_its_call() -> None:
    """As in Kimi-K2.5."""
    chosen = rendering(BY_ID)
    assert chosen.behaviour.forms.name_in_ids
    _, completion = written(chosen, ASK, called("functions.look_up:0"))
    assert completion == ('<|call|>functions.look_up:0<|args|>{"key": "it"}<|/call|><|im_end|>')
    for other in ("c0", "functions.look_up_all:0", "do-look_up:0"):
        error = refusal(chosen, ASK, called(other))
        assert repr(other) in error.what
    assert "'functions.look_up:0'" in error.fix
    # Following the advice leads out.
    assert written(chosen, ASK, called("functions.look_up:0"))


TEXT_BESIDE = chatml(
    "{{ '<|endoftext|>text:' ~ m.content ~ '<|endoftext|>' if m.content or m.tool_calls }}"
    "{% for c in m.tool_calls or [] %}{{ '<|call|>' ~ c.function | tojson }}{% endfor %}"
)


@pytest.mark.parametrize("content", ["\n\n", "", " ", "Text."])
def test_white_space_alone_beside_a_call_is_packed(content: str) -> None:
    """As in Kimi-K3, which shows it in the place of a text."""
    _, completion = written(rendering(TEXT_BESIDE), ASK, called("c1", content))
    assert completion.startswith(f"<|endoftext|>text:{content}<|endoftext|><|call|>")


# --- one bad message ------------------------------------------------------------------------------


def story_with(bad: Message) -> tuple[Message, ...]:
    return (ASK, Message("assistant", "B"), ASK, bad, ASK, Message("assistant", "C"))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(Message("assistant", "a <|im_end|> b"), "stop-token"), (chosen_answer(), "view")],
)
def test_one_bad_message_may_stay_context(bad: Message, reason: str) -> None:
    chosen = rendering(chatml())
    assert refusal(chosen, *story_with(bad)).path == "messages[3]"
    chosen = replace(chosen, on_message_error="context")
    assert outcomes(chosen, *story_with(bad)) == [1, reason, 5]
    assert str(bad.content) in build(chosen, *story_with(bad))[1].prompt


def test_a_bad_message_that_the_template_does_not_show_is_refused_all_the_same() -> None:
    source = chatml("{{ m.content if 'bad' not in m.content }}")
    chosen = replace(rendering(source), on_message_error="context")
    assert refusal(chosen, *story_with(Message("assistant", "bad"))).path == "messages[3]"


# --- the messages of the record -------------------------------------------------------------------


def test_messages_are_named_as_the_record_counts_them() -> None:
    """The record's message 1 was read as two, so that 3 became 4."""
    sources = (0, 1, 1, 2, 3)
    story = (ASK, Message("tool", "T"), ASK, Message("assistant", "B"), ASK)
    views = build(rendering(chatml()), *story[:4], sources=sources[:4])
    assert views[0].message == 2
    assert [span.message for span in views[0].spans][:3] == [0, 1, 1]
    lacking = (*story, Message("assistant", "B", "A"))
    kept = replace(rendering(chatml()), on_message_error="context")
    assert outcomes(kept, *lacking, sources=(*sources, 4)) == [2, "view"]
    bad: Mapping[str, Any] = {"role": "assistant", "content": "B", "reasoning": "A"}
    conversation = Conversation("id", (*story, Message(**bad)), sources=(*sources, 4))
    with pytest.raises(RecordError) as caught:
        build_views(conversation, rendering(chatml()))
    assert caught.value.path == "messages[4]"


def test_a_closing_tag_that_is_text_is_not_taken_for_reasoning() -> None:
    """The template parses tags where no field holds the reasoning, as Qwen3's does."""
    parses = (
        "{% set r = m.reasoning_content %}{% set c = m.content %}"
        "{% if r is not string and '</think>' in c %}"
        "{% set r = c.split('</think>')[0] %}{% set c = c.split('</think>')[1] %}{% endif %}"
        "{{ '<think>' ~ r ~ '</think>' if r }}{{ c }}"
    )
    text = "It writes </think> and then answers."
    assert written(rendering(chatml(parses)), ASK, Message("assistant", text))[1] == (
        f"{text}<|im_end|>"
    )


# As DeepSeek-R1's: the prompt opens reasoning, and what stands before the closing tag is dropped.
DROPS = chatml("{{ m.content.split('</think>')[-1] }}", opens="<think>\\n")


@pytest.mark.parametrize("text", INLINE)
def test_what_a_template_drops_is_as_the_record_has_it(text: str) -> None:
    said = Message("assistant", INLINE[text], "A", verbatim=text)
    first, second = build(rendering(DROPS), ASK, said, ASK, said)
    whole = text.removeprefix("<think>\n").removeprefix("<think>")
    assert first.completion == second.completion == f"{whole}<|im_end|>"
    left = text.rpartition("</think>")[2]  # with its line breaks
    assert f"assistant\n{left}<|im_end|>" in second.prompt
    assert first.spans[-1].kind == Kind.R_OUT
    assert (first.prompt + first.completion)[first.spans[-2].stop :] == "B<|im_end|>"


def test_white_space_before_an_answer_is_the_records_where_reasoning_is_dropped() -> None:
    said = Message("assistant", " B", "A", verbatim="A</think> B")
    view = build(rendering(DROPS), ASK, said)[0]
    assert view.completion == "A</think> B<|im_end|>"
    strips = DROPS.replace("split('</think>')[-1]", "split('</think>')[-1].strip()")
    assert build(rendering(strips), ASK, said)[0].completion == "A</think>B<|im_end|>"


def test_a_tag_that_the_template_writes_is_not_handed_over() -> None:
    """It opens the block of the last answer itself, as Nemotron-Nano-v2 does."""
    body = (
        "{% if m.role == 'assistant' %}{{ '<think>\n' if loop.last }}"
        "{{ m.content if loop.last else m.content.split('</think>')[-1] }}"
        "{% else %}{{ m.content }}{% endif %}"
    )
    said = Message("assistant", "B", "A", verbatim="<think>\nA\n</think>\n\nB")
    prompt, completion = written(rendering(chatml(body, opens="<think>\\n")), ASK, said)
    assert (prompt, completion) == ("<think>\n", "A\n</think>\n\nB<|im_end|>")


def test_a_field_and_tags_of_the_same_form_stay_tags() -> None:
    """As LFM2.5: it shows either, and drops either from the history."""
    body = (
        "{% set c = m.content if loop.last else m.content.split('</think>')[-1] %}"
        "{{ '<think>\n' ~ m.thinking ~ '\n</think>\n' if m.thinking and loop.last }}{{ c }}"
    )
    said = Message("assistant", "B", "A", verbatim="<think>A</think>B")
    assert written(rendering(chatml(body)), ASK, said)[1] == "<think>A</think>B<|im_end|>"
    said = Message("assistant", "B", "A")
    assert written(rendering(chatml(body)), ASK, said)[1] == "<think>\nA\n</think>\nB<|im_end|>"
