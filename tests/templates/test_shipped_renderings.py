"""Our views beside the prompts that others' encoders write, message for message.

    conversation ─┬→ template → behaviour → view       → prompt, completion ─┐
                  └→ another's encoder, from a package → prompt, completion ─┴→ equal

Three kinds. DeepSeek publishes no chat template for V3.2 and V4 but an encoder in Python, which
a server package carries; the templates that llama.cpp ships for them are retellings. OpenAI
publishes the renderer of harmony. For further families there are Python renderers by a second
hand. Where a template departs from the encoder, the departure is listed here with its reason;
everything else must agree, and a departure from a vendor that no longer occurs fails too.
"""

from __future__ import annotations

import base64
import functools
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import assets
import pytest
from matrix import DATE, SHAPES, TOOL, answer, ask, call, compiled, result

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views
from tests.changed import replace

pytestmark = pytest.mark.network

ENCODERS = {
    "llama.cpp/deepseek-ai-DeepSeek-V3.2": "encoding_dsv32",
    "llama.cpp/deepseek-ai-DeepSeek-V4": "encoding_dsv4",
    "llama.cpp/deepseek-ai-DeepSeek-V4-Flash-0731": "encoding_dsv4",
}
HARMONY = ("trl/gptoss", "llama.cpp/openai-gpt-oss-120b")
DEEPSEEK_TOKENS = {
    "bos_token": "<｜begin▁of▁sentence｜>",
    "eos_token": "<｜end▁of▁sentence｜>",
}

TYPED = ToolCall(
    "look_up",
    {"key": 'a "b" <c> é\n', "count": 3, "exact": True, "nested": {"x": [1, None, "ü"]}},
    None,
    "call00009",
)
BOTH = Message(
    "assistant",
    None,
    "Think 1.",
    tuple(ToolCall("look_up", {"key": f"value {n}"}, None, f"call0000{n}") for n in (1, 2)),
)
MORE_SHAPES: dict[str, tuple[Message, ...]] = {
    "arguments of every type": (ask(), replace(call(), tool_calls=(TYPED,))),
    "both results, then an answer": (ask(), BOTH, result(1), result(2), answer(2)),
    "three turns": (ask(), answer(), ask(2), answer(2), ask(3), answer(3)),
    "reasoned, then bare, then reasoned": (
        *(ask(), answer(), ask(2), answer(2, bare=True)),
        *(ask(3), answer(3)),
    ),
    "a loop of three": (
        *(ask(), call(), result(), call(2), result(2)),
        *(call(3), result(3), answer(4)),
    ),
    "text in several lines": (
        ask(),
        Message("assistant", "One.\n\n* two\n", "First,\nthen.\n\nLast."),
    ),
    "code and markup": (
        Message("user", "Why <b>&amp;</b> {{x}}?"),
        Message("assistant", "`a < b && c`", "Is {% raw %} é 𝛼?"),
    ),
}
ALL_SHAPES = SHAPES | MORE_SHAPES


@dataclass(frozen=True, slots=True)
class Departure:
    """A text that the template writes where the vendor's encoder writes another."""

    template: str
    encoder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation whose last message is to be compared."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None


@pytest.fixture(scope="module", autouse=True)
def _restored() -> Iterator[None]:
    """Take what these tests import from off the path again, for the tests that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("TIKTOKEN_ENCODINGS_BASE", "")
        yield


def cases() -> dict[str, Case]:
    """Give every shape with and without a system message and, where they are optional, tools."""
    found = {}
    for shape, story in ALL_SHAPES.items():
        calls = any(message.tool_calls for message in story)
        for system in (None, "Be brief."):
            for tools in ((TOOL,),) if calls else (None, (TOOL,)):
                name = f"{shape}, {'system' if system else 'bare'}, {'tools' if tools else 'plain'}"
                head = (Message("system", system),) if system else ()
                found[name] = Case((*head, *story), tools)
    return found


CASES = cases()


@functools.lru_cache
def rendering(name: str) -> Rendering:
    """Learn a template; DeepSeek's with the special tokens of its tokenizer."""
    template, known = compiled(name)
    if name in ENCODERS:
        template = ChatTemplate.compile(
            template.source, name=template.name, special_tokens=DEEPSEEK_TOKENS, date=DATE
        )
    behaviour: Behaviour = learn(template, known)
    return Rendering(template, behaviour, {})


def our_texts(name: str, case: Case) -> tuple[str, str]:
    """Give the prompt and the completion of the last message."""
    *before, last = case.messages
    messages = (*(replace(message, train=False) for message in before), last)
    conversation = Conversation("case", messages, case.tools)
    (view,) = build_views(conversation, rendering(name))
    return view.prompt, view.completion


# --- DeepSeek ---------------------------------------------------------------------------

SERVER = [
    *("--only-binary", ":all:", "--python-version", "3.11", "--platform", "manylinux_2_34_x86_64"),
    "sglang==0.5.12",
]
NO_HEADER = (
    "an answer straight after an answer: the encoder opens the assistant's turn after user "
    "and tool messages only, so it has no prompt for a second answer"
)
TOOLS_FIRST = "without a system message the encoder needs an empty one to hold the tools"
DEPARTURES = {
    "llama.cpp/deepseek-ai-DeepSeek-V3.2": (
        *(
            Departure(text, text.replace("\n\n", "\n"), "the template sets its tool rules wider")
            for text in (
                "## Tools\n\nYou have",
                "function_calls>\n\nString",
                "objects).\n\nIf the",
                "example:\n\n<",
                "function_calls>\n\n<function_results>\n...",
                "</function_results>\n\n<think>...",
                "results</think>\n\nHere",
            )
        ),
        Departure("<｜begin▁of▁sentence｜>## T", "<｜begin▁of▁sentence｜>\n\n## T", TOOLS_FIRST),
        Departure(
            "<think></think>",
            "</think>",
            "switched off, the template's prompt shows an empty block, the encoder's only its end",
        ),
    ),
    "llama.cpp/deepseek-ai-DeepSeek-V4": (
        Departure("<｜begin▁of▁sentence｜>## T", "<｜begin▁of▁sentence｜>\n\n## T", TOOLS_FIRST),
    ),
    "llama.cpp/deepseek-ai-DeepSeek-V4-Flash-0731": (
        Departure("<｜begin▁of▁sentence｜>## T", "<｜begin▁of▁sentence｜>\n\n## T", TOOLS_FIRST),
    ),
}


@functools.lru_cache
def encoder(module: str) -> ModuleType:
    path = assets.member(SERVER, f"sglang/srt/entrypoints/openai/{module}.py")
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def deepseek_texts(name: str, case: Case) -> tuple[str, str]:
    """Give what DeepSeek's encoder writes before the last message, and what that adds."""
    dumped = [_openai(message) for message in case.messages]
    if case.tools:
        if dumped[0]["role"] != "system":
            dumped.insert(0, {"role": "system", "content": ""})
        dumped[0]["tools"] = list(case.tools)
    mode = "thinking" if case.messages[-1].reasoning else "chat"
    encode = encoder(ENCODERS[name]).encode_messages
    prompt, full = encode(dumped[:-1], mode), encode(dumped, mode)
    assert full.startswith(prompt)
    return prompt, full.removeprefix(prompt)


def _openai(message: Message) -> dict[str, Any]:
    dumped: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.reasoning:
        dumped["reasoning_content"] = message.reasoning
    if message.tool_calls:
        dumped["tool_calls"] = [
            {
                "id": each.id,
                "type": "function",
                "function": {
                    "name": each.name,
                    "arguments": json.dumps(each.arguments, ensure_ascii=False),
                },
            }
            for each in message.tool_calls
        ]
    if message.role == "tool":
        dumped["tool_call_id"] = message.extra["tool_call_id"]
    return dumped


def _departed(departures: tuple[Departure, ...], text: str) -> str:
    """Write what the encoder would have where the template is known to depart from it."""
    for each in departures:
        text = text.replace(each.template, each.encoder)
    return text


def _after_an_answer(case: Case) -> bool:
    return case.messages[-2].role == "assistant"


@pytest.mark.parametrize("case", [c for c in CASES if not _after_an_answer(CASES[c])])
@pytest.mark.parametrize("name", ENCODERS)
def test_view_is_what_deepseek_encodes(name: str, case: str) -> None:
    prompt, completion = our_texts(name, CASES[case])
    expected = deepseek_texts(name, CASES[case])
    assert (_departed(DEPARTURES[name], prompt), completion) == expected


@pytest.mark.parametrize("case", [c for c in CASES if _after_an_answer(CASES[c])])
@pytest.mark.parametrize("name", ENCODERS)
def test_deepseek_has_no_prompt_for_an_answer_after_an_answer(name: str, case: str) -> None:
    dumped = [_openai(message) for message in CASES[case].messages[:-1]]
    prompt = encoder(ENCODERS[name]).encode_messages(dumped, "chat")
    assert prompt.endswith(DEEPSEEK_TOKENS["eos_token"]), NO_HEADER


@pytest.mark.parametrize("name", ENCODERS)
def test_each_departure_still_occurs(name: str) -> None:
    prompts = [
        (our_texts(name, case)[0], deepseek_texts(name, case)[0])
        for case in CASES.values()
        if not _after_an_answer(case)
    ]
    for each in DEPARTURES[name]:
        assert any(each.template in ours and each.template not in its for ours, its in prompts)


def test_a_fault_in_a_view_is_noticed() -> None:
    name = "llama.cpp/deepseek-ai-DeepSeek-V4"
    forgetful = replace(ask(2), content="Ask 1.")
    case = Case((ask(), answer(), ask(2), answer(2)), None)
    wrong = replace(case, messages=(*case.messages[:2], forgetful, case.messages[3]))
    assert our_texts(name, case) == deepseek_texts(name, case)
    assert our_texts(name, case) != deepseek_texts(name, wrong)


# --- harmony ----------------------------------------------------------------------------


@functools.lru_cache
def harmony() -> Any:
    """Load OpenAI's renderer, with its vocabulary rebuilt from the tokenizer of gpt-oss."""
    folder = assets.installed("openai-harmony==0.0.8")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    vocabulary = folder / "o200k_base.tiktoken"
    if not vocabulary.exists():
        staged = folder / f"vocabulary.{os.getpid()}"
        staged.write_bytes(_ranks(assets.tokenizer_dir("gptoss") / "tokenizer.json"))
        staged.replace(vocabulary)
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(folder)
    return importlib.import_module("openai_harmony")


def _ranks(path: Path) -> bytes:
    """Write a byte-level BPE's tokens by rank, in the form that tiktoken reads."""
    content = json.loads(path.read_text(encoding="utf-8"))
    added = {token["content"] for token in content["added_tokens"]}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + index): byte for index, byte in enumerate(others)}
    lines = [
        base64.b64encode(bytes(byte_of[char] for char in token)) + f" {rank}\n".encode()
        for token, rank in sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
        if token not in added
    ]
    return b"".join(lines)


@functools.lru_cache
def harmony_encoding() -> Any:
    library = harmony()
    return library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)


def harmony_texts(case: Case) -> tuple[str, str]:
    """Give the prompt that harmony renders, and its rendering of the last message alone.

    Where a conversation ends, harmony drops the reasoning of its last answer from what is
    to be trained; it is asked to keep it, as the model wrote it.
    """
    library, encoding = harmony(), harmony_encoding()
    *before, last = case.messages
    head = [_harmony_system(), *_harmony_developer(case)]
    rest = [each for message in before if message.role != "system" for each in _harmony(message)]
    conversation = library.Conversation.from_messages(head + rest)
    prompt = encoding.render_conversation_for_completion(conversation, library.Role.ASSISTANT)
    keep = library.RenderConversationConfig(auto_drop_analysis=False)
    written = encoding.render_conversation_for_training(
        library.Conversation.from_messages(_harmony(last)), config=keep
    )
    opening = "<|start|>assistant"
    text = encoding.decode(written)
    assert text.startswith(opening)
    return encoding.decode(prompt), text.removeprefix(opening)


def _harmony_system() -> Any:
    library = harmony()
    content = library.SystemContent.new().with_conversation_start_date(DATE.isoformat())
    return library.Message.from_role_and_content(library.Role.SYSTEM, content)


def _harmony_developer(case: Case) -> list[Any]:
    library = harmony()
    content = library.DeveloperContent.new()
    first = case.messages[0]
    if first.role == "system":
        content = content.with_instructions(first.content)
    if case.tools:
        functions = [tool["function"] for tool in case.tools]
        content = content.with_function_tools(
            [
                library.ToolDescription.new(each["name"], each["description"], each["parameters"])
                for each in functions
            ]
        )
    if first.role != "system" and not case.tools:
        return []
    return [library.Message.from_role_and_content(library.Role.DEVELOPER, content)]


def _harmony(message: Message) -> list[Any]:
    """Give the harmony messages of one message; each channel is one of its own."""
    library = harmony()
    if message.role == "user":
        return [library.Message.from_role_and_content(library.Role.USER, message.content)]
    if message.role == "tool":
        author = library.Author.new(library.Role.TOOL, "functions.look_up")
        # OpenAI's template writes a result as JSON, a text in quotes.
        text = json.dumps(message.content, ensure_ascii=False)
        made = library.Message.from_author_and_content(author, text)
        return [made.with_channel("commentary").with_recipient("assistant")]

    def said(channel: str, text: str) -> Any:
        made = library.Message.from_role_and_content(library.Role.ASSISTANT, text)
        return made.with_channel(channel)

    messages = [said("analysis", message.reasoning)] if message.reasoning else []
    if message.content:
        messages.append(said("commentary" if message.tool_calls else "final", message.content))
    return messages + [
        said("commentary", json.dumps(each.arguments, ensure_ascii=False))
        .with_recipient(f"functions.{each.name}")
        .with_content_type("json")
        for each in message.tool_calls
    ]


HARMONY_DEPARTURES = (
    Departure("brief.\n\n<|end|>", "brief.<|end|>", "the template leaves room for tools"),
    Departure(
        "<|channel|>analysis<|message|>Text 1.",
        "<|channel|>commentary<|message|>Text 1.",
        "text before a call is a preamble in harmony; the template takes it for reasoning",
    ),
)
REFUSED = {
    "call with reasoning and text": "Cannot pass both content and thinking",
    "two calls at once": "does not show all calls of this message",  # but the first
}
# Stories that harmony renders otherwise, and the story whose rendering the view equals.
TOLD_OTHERWISE: dict[str, tuple[str, tuple[Message, ...]]] = {
    "three turns": (
        "harmony 0.0.8 drops old reasoning up to the first final answer only, the template all",
        (ask(), answer(bare=True), ask(2), answer(2, bare=True), ask(3), answer(3)),
    ),
    "both results, then an answer": (
        "the template shows the first of several calls only, as gpt-oss makes one at a time",
        (ask(), call(), result(1), result(2), answer(2)),
    ),
}


def _shape(case: str) -> str:
    (shape,) = (shape for shape in ALL_SHAPES if case in _names(shape))
    return shape


def _names(shape: str) -> set[str]:
    return {
        f"{shape}, {head}, {tools}" for head in ("bare", "system") for tools in ("plain", "tools")
    }


def _retold(case: str) -> Case:
    told = CASES[case]
    if (shape := _shape(case)) not in TOLD_OTHERWISE:
        return told
    head = told.messages[: len(told.messages) - len(ALL_SHAPES[shape])]
    return replace(told, messages=(*head, *TOLD_OTHERWISE[shape][1]))


@pytest.mark.parametrize("case", [case for case in CASES if _shape(case) not in REFUSED])
@pytest.mark.parametrize("name", HARMONY)
def test_view_is_what_harmony_renders(name: str, case: str) -> None:
    prompt, completion = (
        _departed(HARMONY_DEPARTURES, text) for text in our_texts(name, CASES[case])
    )
    assert (prompt, completion) == harmony_texts(_retold(case))


@pytest.mark.parametrize("case", [case for case in CASES if _shape(case) in REFUSED])
@pytest.mark.parametrize("name", HARMONY)
def test_what_the_template_cannot_show_is_refused(name: str, case: str) -> None:
    with pytest.raises(RecordError, match=REFUSED[_shape(case)]):
        our_texts(name, CASES[case])


@pytest.mark.parametrize("name", HARMONY)
def test_each_departure_from_harmony_still_occurs(name: str) -> None:
    compared = [case for case in CASES if _shape(case) not in REFUSED]
    texts = {
        case: ("".join(our_texts(name, CASES[case])), "".join(harmony_texts(CASES[case])))
        for case in compared
    }
    for each in HARMONY_DEPARTURES:
        assert any(
            each.template in ours and each.template not in its for ours, its in texts.values()
        )
    for case, (ours, its) in texts.items():
        if _shape(case) in TOLD_OTHERWISE:
            assert _departed(HARMONY_DEPARTURES, ours) != its


# --- a second hand's renderers ------------------------------------------------------------

# Python renderers of other people for the same models. Those for Nemotron 3 know no other line
# breaks than the smaller models', so the template of Ultra is not among them.
RENDERERS = {
    "trl/qwen3": "Qwen3RendererConfig",
    "trl/qwen3_5_think": "Qwen35RendererConfig",
    "trl/qwen3_6": "Qwen36RendererConfig",
    "trl/qwen3_8": "Qwen38RendererConfig",
    "trl/glm4moe": "GLM45RendererConfig",
    "llama.cpp/GLM-4.6": "GLM45RendererConfig",
    "llama.cpp/GLM-4.7-Flash": "GLM5RendererConfig",
    "trl/nemotron_3_nano": "Nemotron3RendererConfig",
    "trl/nemotron_3_super": "Nemotron3RendererConfig",
    "llama.cpp/poolside-Laguna-XS.2": "LagunaXS2RendererConfig",
    "llama.cpp/poolside-Laguna-S-2.1": "LagunaS21RendererConfig",
    "trl/gemma4_v5": "Gemma4RendererConfig",
    "llama.cpp/Kimi-K2-Instruct": "KimiK2RendererConfig",
}
RENDERER_DEPARTURES = {
    "trl/gemma4_v5": (Departure("<s>", "<bos>", "these tests call the first token so"),),
    "llama.cpp/Kimi-K2-Instruct": (
        Departure(
            json.dumps([TOOL]),
            json.dumps([TOOL], sort_keys=True, separators=(",", ":")),
            "the template writes the tools as they come, the renderer sorted and without blanks",
        ),
    ),
}


class Characters:
    """A tokenizer with a token per character, beside every special one that it is asked for."""

    name_or_path = "characters"
    unk_token_id = -1
    eos_token_id = 0

    def __init__(self, tokens: list[str]) -> None:
        self.ids = {token: sys.maxunicode + 1 + index for index, token in enumerate(tokens)}
        self.tokens = {index: token for token, index in self.ids.items()}
        self.pattern = re.compile(f"({'|'.join(map(re.escape, tokens))})")

    def encode(self, text: str, **_: Any) -> list[int]:
        """Give the tokens of a text."""
        parts = self.pattern.split(text)
        return [
            index
            for part in parts
            for index in ([self.ids[part]] if part in self.ids else map(ord, part))
        ]

    def decode(self, ids: list[int], **_: Any) -> str:
        """Give the text of tokens."""
        return "".join(self.tokens[index] if index in self.tokens else chr(index) for index in ids)

    def convert_tokens_to_ids(self, token: str) -> int:
        """Give a token's id; a new one to a token that only the renderer names."""
        index = self.ids.setdefault(token, sys.maxunicode + 1 + len(self.ids))
        self.tokens[index] = token
        return index


@functools.lru_cache
def tokens(name: str) -> list[str]:
    return compiled(name)[1]


def renderer_texts(name: str, case: Case) -> tuple[str, str]:
    """Give what the renderer writes before the last message, and the whole conversation."""
    folder = assets.installed("renderers==0.1.12", "httpx==0.28.1")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    config = getattr(importlib.import_module("renderers.configs"), RENDERERS[name])
    tokenizer = Characters(tokens(name))
    renderer = importlib.import_module("renderers.base").create_renderer(
        tokenizer, config(enable_thinking=bool(case.messages[-1].reasoning))
    )
    messages = [_named(name, _openai(message)) for message in case.messages]
    tools = list(case.tools) if case.tools else None
    prompt = renderer.render_ids(messages[:-1], tools=tools, add_generation_prompt=True)
    return tokenizer.decode(prompt), tokenizer.decode(renderer.render_ids(messages, tools=tools))


def _named(name: str, message: dict[str, Any]) -> dict[str, Any]:
    """Name the tool in its result, and the calls as Kimi counts them, where it is Kimi."""
    if message["role"] == "tool":
        message["name"] = "look_up"
    if "Kimi" not in name:
        return message
    counted = re.sub(
        r"call0000(\d)", lambda found: f"functions.look_up:{int(found[1]) - 1}", json.dumps(message)
    )
    named: dict[str, Any] = json.loads(counted)
    return named


# What the template cannot show after its prompt, by shape.
GEMMA_REFUSES = {
    *("call with reasoning and text", "call without reasoning, with text"),
    *("answer after an answer", "answer after an answer, both without reasoning"),
}


def _refused(name: str, case: str) -> str | None:
    """Say why the package refuses what the renderer would write."""
    if "Kimi" in name and CASES[case].messages[-1].reasoning:
        return "no place for reasoning"
    if "gemma" in name and _shape(case) in GEMMA_REFUSES:
        return "does not show exactly this message|does not show the text beside a call"
    return None


def _stop(name: str, last: Message) -> str:
    """GLM's model stops with the token that opens the next role, which no history repeats."""
    if "glm" not in name.lower():
        return ""
    return "<|observation|>" if last.tool_calls else "<|user|>"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the renderers need Python 3.11")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", RENDERERS)
def test_view_is_what_another_hand_renders(name: str, case: str) -> None:
    *_, last = CASES[case].messages
    if why := _refused(name, case):
        with pytest.raises(RecordError, match=why):
            our_texts(name, CASES[case])
        return
    prompt, completion = our_texts(name, CASES[case])
    expected, whole = renderer_texts(name, CASES[case])
    assert _departed(RENDERER_DEPARTURES.get(name, ()), prompt) == expected
    # What a template adds after the stop token is not the model's.
    assert whole.startswith(expected)
    assert whole.removeprefix(expected).rstrip("\n") + _stop(name, last) == completion
