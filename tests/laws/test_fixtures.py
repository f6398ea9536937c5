"""The fixtures are what they are said to be: each template of its family, the chats as told."""

from __future__ import annotations

import runpy
from importlib.metadata import version

import jinja2
import pytest
from fixture_chats import CALL, CHAT, FIXTURES, chats, texts, tokenizer
from oracle import (
    FAMILIES,
    PrefixError,
    has_reasoning,
    plain_chat,
    trained_messages,
    view_texts,
)

CHATML_START = (
    "<|im_start|>system\nS<|im_end|>\n"
    "<|im_start|>user\nU1<|im_end|>\n"
    "<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nU2<|im_end|>\n"
    "<|im_start|>assistant\n"
)
GOLDEN = {
    "stripped": (
        CHATML_START + "<think>\nR2\n</think>\n\nA2\n"
        '<tool_call>\n{"name": "add", "arguments": {"to": "ü"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nT\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n",
        "<think>\nR3\n</think>\n\nA3<|im_end|>",
    ),
    "thinking_prompt": (
        CHATML_START + "<think>\nR2\n</think>\n\nA2\n"
        '<tool_call>\n{"name": "add", "arguments": {"to": "ü"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\nT<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n",
        "R3\n</think>\n\nA3<|im_end|>",
    ),
    "tool_loop": (
        CHATML_START + "<think>R2</think>\nA2"
        '<tool_call>add {"to": "ü"}</tool_call><|im_end|>\n'
        "<|im_start|>tool\n<tool_response>T</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n",
        "<think>R3</think>\nA3<|im_end|>",
    ),
    "empty_history": (
        (
            "<|im_start|>system\nS<|im_end|>"
            "<|im_start|>user\nU1<|im_end|>"
            "<|im_start|>assistant\n<think></think>\nA1<|im_end|>"
            "<|im_start|>user\nU2<|im_end|>"
            "<|im_start|>assistant\n<think>R2</think>\nA2\n"
            "<tool_call>add\nto: ü\n</tool_call><|im_end|>"
            "<|im_start|>observation\n<tool_response>\nT\n</tool_response><|im_end|>"
            "<|im_start|>assistant"
        ),
        "\n<think>R3</think>\nA3<|im_end|>",
    ),
    "kept": (
        (
            "<|im_start|>system\nS<|im_end|>\n"
            "<|im_start|>user\nU1<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nR1\n</think>\nA1<|im_end|>\n"
            "<|im_start|>user\nU2<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nR2\n</think>\nA2"
            '<tool_call>{"name": "add", "arguments": {"to": "ü"}}</tool_call><|im_end|>\n'
            "<|im_start|>tool\nT<|im_end|>\n"
            "<|im_start|>assistant\n"
        ),
        "<think>\nR3\n</think>\nA3<|im_end|>",
    ),
    "plain": (
        CHATML_START + "A2\n"
        '<tool_call>{"name": "add", "arguments": {"to": "ü"}}</tool_call><|im_end|>\n'
        "<|im_start|>tool\nT<|im_end|>\n"
        "<|im_start|>assistant\n",
        "A3<|im_end|>",
    ),
    "headers": (
        (
            "<|bos|><|turn|>system<|body|>S<|eot|>"
            "<|turn|>user<|body|>U1<|eot|>"
            "<|turn|>model<|body|>A1<|eot|>"
            "<|turn|>user<|body|>U2<|eot|>"
            '<|turn|>model<|body|><|thought|>R2<|/thought|>A2<|call|>add{"to": "ü"}<|eot|>'
            "<|turn|>tool<|body|>T<|eot|>"
            "<|turn|>model<|body|>"
        ),
        "<|thought|>R3<|/thought|>A3<|eot|>",
    ),
}
#: what the prompt of an answer without reasoning adds, and that answer
BARE = {
    "stripped": ("<think>\n\n</think>\n\n", "A3<|im_end|>"),
    "tool_loop": ("", "A3<|im_end|>"),
    "empty_history": ("\n<think></think>", "\nA3<|im_end|>"),
    "kept": ("", "A3<|im_end|>"),
    "plain": ("", "A3<|im_end|>"),
    "headers": ("<|thought|><|/thought|>", "A3<|eot|>"),
}


def test_each_template_is_a_family() -> None:
    names = {path.stem for path in (FIXTURES / "templates").glob("*.jinja")}
    assert names == set(FAMILIES) == set(GOLDEN)
    assert set(BARE) == {name for name, family in FAMILIES.items() if family.takes_bare_answers}
    assert {name for name in FAMILIES if not FAMILIES[name].shows_reasoning} == {"plain"}


@pytest.mark.parametrize("name", GOLDEN)
def test_rendering_is_that_of_the_family(name: str) -> None:
    assert texts(name, CHAT, 6) == GOLDEN[name]


@pytest.mark.parametrize("name", BARE)
def test_answer_without_reasoning(name: str) -> None:
    bare = [*CHAT[:6], {"role": "assistant", "content": "A3"}]
    added, completion = BARE[name]
    assert texts(name, bare, 6) == (GOLDEN[name][0] + added, completion)


def test_answer_without_reasoning_does_not_continue_a_thinking_prompt() -> None:
    bare = [*CHAT[:6], {"role": "assistant", "content": "A3"}]
    with pytest.raises(PrefixError, match=r"messages\[6\]: the prompt is no prefix"):
        texts("thinking_prompt", bare, 6)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("stripped", ""),
        ("tool_loop", ""),
        ("empty_history", "<think></think>"),
        ("kept", ""),
        ("headers", "<|thought|><|/thought|>"),
    ],
)
def test_call_without_reasoning_in_the_open_tool_loop(name: str, block: str) -> None:
    bare = {key: value for key, value in CHAT[4].items() if key != "reasoning_content"}
    prompt, _ = texts(name, [*CHAT[:4], bare, *CHAT[5:]], 6)
    shown = {
        "stripped": "<think>\nR2\n</think>\n\n",
        "tool_loop": "<think>R2</think>\n",
        "empty_history": "<think>R2</think>",
        "kept": "<think>\nR2\n</think>\n",
        "headers": "<|thought|>R2<|/thought|>",
    }
    assert shown[name] in GOLDEN[name][0]
    assert prompt == GOLDEN[name][0].replace(shown[name], block)


@pytest.mark.parametrize("name", FAMILIES)
def test_tool_descriptions_are_shown_once(name: str) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "description": "«ü»"}}
    for messages in (CHAT, CHAT[1:]):
        prompt, _ = texts(name, messages, len(messages) - 1, tools=[tool])
        assert prompt.count('"description": "«ü»"') == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_parallel_calls_and_results(name: str) -> None:
    second = {**CALL, "function": {"name": "sub", "arguments": {}}}
    loop = [
        *CHAT[:4],
        {"role": "assistant", "reasoning_content": "R2", "tool_calls": [CALL, second]},
        {"role": "tool", "content": "T1"},
        {"role": "tool", "content": "T2"},
        CHAT[6],
    ]
    prompt, _ = texts(name, loop, 7)
    order = [prompt.index(text) for text in ("U2", "add", "sub", "T1", "T2")]
    assert order == sorted(order)
    assert "None" not in prompt


@pytest.mark.parametrize(
    ("name", "last", "history"),
    [
        ("stripped", "<think>\n R \n</think>\n\n A \n<|im_end|>", "\n A \n<|im_end|>"),
        ("thinking_prompt", " R \n</think>\n\n A \n<|im_end|>", " A \n<|im_end|>"),
        ("tool_loop", "<think>\n R \n</think>\n\n A \n<|im_end|>", "\n A \n<|im_end|>"),
        ("empty_history", "\n<think>R</think>\nA<|im_end|>", "\n<think></think>\nA<|im_end|>"),
        ("headers", "<|thought|>\n R \n<|/thought|>\n A \n<|eot|>", "\n A \n<|eot|>"),
    ],
)
def test_white_space_at_the_edges(name: str, last: str, history: str) -> None:
    answer = {"role": "assistant", "reasoning_content": "\n R \n", "content": "\n A \n"}
    prompt, completion = texts(name, [CHAT[1], answer], 1)
    later, _ = texts(name, [CHAT[1], answer, CHAT[3], CHAT[6]], 3)
    assert completion == last
    assert later.startswith(prompt.removesuffix("<think>\n") + history)


def test_stripped_reads_inline_thinking_and_skips_wrapped_results() -> None:
    inline = {"role": "assistant", "content": "<think>\nR3\n</think>\n\nA3"}
    assert (
        texts("stripped", [*CHAT[:6], inline], 6, kwargs={"enable_thinking": True})
        == (GOLDEN["stripped"])
    )
    wrapped = {"role": "user", "content": "<tool_response>\nT\n</tool_response>"}
    assert texts("stripped", [*CHAT[:5], wrapped, CHAT[6]], 6) == GOLDEN["stripped"]


def test_tool_loop_refuses_a_result_without_a_call() -> None:
    with pytest.raises(jinja2.TemplateError, match="must follow a tool call"):
        texts("tool_loop", [CHAT[1], CHAT[5], CHAT[6]], 2)


# --- the tokenizer, the text, the chats ----------------------------------------------------------


def test_text_is_what_its_script_writes() -> None:
    made = runpy.run_path(str(FIXTURES / "make_text.py"))["generated"]()
    assert (FIXTURES / "text" / "generated.txt").read_text(encoding="utf-8") == made


def test_tokenizer_is_what_its_script_trains() -> None:
    script = runpy.run_path(str(FIXTURES / "make_tokenizer.py"))
    if not version("tokenizers").startswith(script["MADE_WITH"] + "."):
        pytest.skip(f"the fixture was trained with tokenizers {script['MADE_WITH']}")
    for name, text in script["files"]().items():
        assert (FIXTURES / "tokenizer" / name).read_text(encoding="utf-8") == text, name


def test_tokenizer_has_the_tokens_of_the_templates() -> None:
    added = {token.content: token for token in tokenizer().get_added_tokens_decoder().values()}
    assert tokenizer().get_vocab_size() == 4000
    for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|bos|>", "<|eot|>"):
        assert added[text].special
    for text in ("<think>", "</think>", "<tool_call>", "<tool_response>", "<|thought|>"):
        assert not added[text].special
        assert not added[text].normalized
    text = "Grüße 👩\u200d🔬\r\n\n\t 12 + 34 = 46. 你好，世界 <think>\n"
    encoded = tokenizer().encode(text, add_special_tokens=False)
    assert tokenizer().decode(encoded.ids, skip_special_tokens=False) == text
    assert tokenizer().encode("e\u0301").ids == tokenizer().encode("\u00e9").ids
    assert len(tokenizer().encode("1234").ids) == 4


def test_chats_are_what_the_readme_says() -> None:
    records = chats()
    assert len(records) == 24
    assert len({record["id"] for record in records}) == 24
    assert 60_000 < (FIXTURES / "chats.jsonl").stat().st_size < 120_000
    plain = [plain_chat(record)[0] for record in records]
    assert {message["role"] for chat in plain for message in chat} == {
        "system",
        "user",
        "assistant",
        "tool",
    }
    turns = [sum(message["role"] == "user" for message in chat) for chat in plain]
    assert (min(turns), max(turns)) == (1, 8)
    answers = [message for chat in plain for message in chat if message["role"] == "assistant"]
    assert sum(map(has_reasoning, answers)) > 0.8 * len(answers)
    assert all(isinstance(message.get("content", ""), str) for chat in plain for message in chat)
    assert not any("think>" in message.get("content", "") for chat in plain for message in chat)


def test_chats_come_in_several_dialects() -> None:
    records = chats()
    messages = [m for record in records for m in record.get("messages", [])]
    calls = [call for m in messages for call in m.get("tool_calls", [])]
    assert {"messages", "conversations", "prompt", "completion"} <= {
        key for record in records for key in record
    }
    assert {"reasoning_content", "reasoning", "thinking"} <= {key for m in messages for key in m}
    assert any(m["content"].startswith("<think>") for m in messages if "content" in m)
    assert {type(record["tools"]) for record in records if "tools" in record} == {list, str}
    assert {type(call["function"]["arguments"]) for call in calls} == {dict, str}
    assert max(len(m.get("tool_calls", [])) for m in messages) == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_of_the_chats_continues_its_prompt(name: str) -> None:
    for record in chats():
        messages, tools = plain_chat(record)
        for index in trained_messages(messages):
            if not (has_reasoning(messages[index]) or FAMILIES[name].takes_bare_answers):
                continue
            _, completion = texts(name, messages, index, tools=tools)
            assert messages[index].get("content", "").strip() in completion
            shown = FAMILIES[name].shows_reasoning and has_reasoning(messages[index])
            assert not shown or messages[index]["reasoning_content"].strip() in completion
            for call in messages[index].get("tool_calls", []):
                assert call["function"]["name"] in completion


def test_environment_is_that_of_chat_templates() -> None:
    """Blocks take no lines of their own; loop controls, generation tags and functions are there."""
    template = """{{ strftime_now("%%") }}
    {% for message in messages %}
      {% generation %}
        {% if loop.index == 3 %}{% break %}{% endif %}
{{ message.content | tojson }}
      {% endgeneration %}
    {% endfor %}
{{ "!" if not add_generation_prompt }}"""
    chat = [{"role": role, "content": f"<{role}>"} for role in ("user", "assistant", "user")]
    assert view_texts(chat, template, 1, stop="!") == ('%\n"<user>"\n', '"<assistant>"\n!')
    with pytest.raises(jinja2.TemplateError, match="no, thanks"):
        view_texts(chat, "{{ raise_exception('no, thanks') }}", 1, stop="!")
