"""What is trained, read back by the parsers of a server: reasoning, content and calls return.

    record → view → completion without its stop ── reasoning parser ─→ reasoning, rest
                                            rest ── tool parser ─────→ content, calls

A server does this with what the model writes. The parsers are those of a server package, loaded
without the server: of its own modules they need two, and of these only names. gpt-oss is read by
OpenAI's own library, from tokens. Parsers strip white space, so it is not compared.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import assets
import pytest
from matrix import SHAPES, TOOL, answer, ask, call, learned

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message, parse_line
from reasonpack.records.tool_calls import ToolCall
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views
from tests.changed import replace
from tests.templates.test_shipped_renderings import SERVER, harmony, harmony_encoding

pytestmark = pytest.mark.network

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[2] / "fixtures" / "chats.jsonl"


class Parsers(NamedTuple):
    """Names under which the server knows the parsers of a family."""

    reasoning: str
    tools: str | None


FAMILIES = {
    "trl/qwen3": Parsers("qwen3", "hermes"),
    "xinference/Qwen3-Next-Thinking": Parsers("qwen3", "qwen25"),
    "trl/qwen3_5_think": Parsers("qwen3", "qwen3_coder"),
    "trl/qwen3_8": Parsers("qwen3", "qwen3_coder"),
    "trl/glm4moe": Parsers("glm45", "glm45"),
    "xinference/glm-4.5v": Parsers("glm45", "glm45"),
    "llama.cpp/GLM-4.7-Flash": Parsers("glm45", "glm47"),
    "xinference/glm-5.2": Parsers("glm45", "glm47"),
    "llama.cpp/llama-cpp-deepseek-r1": Parsers("deepseek-r1", None),
    "trl/deepseek_r1_distill": Parsers("deepseek-r1", None),
    "trl/deepseekv3": Parsers("deepseek-r1", "deepseekv3"),
    "llama.cpp/deepseek-ai-DeepSeek-V3.1": Parsers("deepseek-v3", "deepseekv31"),
    "llama.cpp/deepseek-ai-DeepSeek-V3.2": Parsers("deepseek-v3", "deepseekv32"),
    "llama.cpp/deepseek-ai-DeepSeek-V4": Parsers("deepseek-v4", "deepseekv4"),
    "llama.cpp/Kimi-K2-Thinking": Parsers("kimi_k2", "kimi_k2"),
    "llama.cpp/MiniMax-M2": Parsers("qwen3", "minimax-m2"),
    "trl/nemotron_3_nano": Parsers("nemotron_3", "qwen3_coder"),
    "llama.cpp/StepFun3.5-Flash": Parsers("step3p5", "step3p5"),
    "llama.cpp/google-gemma-4-31B-it": Parsers("gemma4", "gemma4"),
    "llama.cpp/poolside-Laguna-XS.2": Parsers("poolside_v1", "poolside_v1"),
    "llama.cpp/mistralai-Ministral-3-14B-Reasoning-2512": Parsers("mistral", "mistral"),
    "llama.cpp/google-gemma-4-31B-it-interleaved": Parsers("gemma4", "gemma4"),
    "llama.cpp/poolside-Laguna-S-2.1": Parsers("poolside_v1", "poolside_v1"),
    "xinference/Kimi-K2.5": Parsers("kimi_k2", "kimi_k2"),
    "xinference/glm-5.3": Parsers("glm45", "glm47"),
    "trl/qwen3_6": Parsers("qwen3", "qwen3_coder"),
    "trl/nemotron_3_ultra": Parsers("nemotron_3", "qwen3_coder"),
}
# These parsers take everything for reasoning up to its end, whether it was opened or not.
ALWAYS_REASON = {"deepseek-r1", "step3p5"}
HARMONY = ("trl/gptoss", "llama.cpp/openai-gpt-oss-120b")


# --- the server's parsers ------------------------------------------------------------------------


class Anything(ModuleType):
    """A module in which every name stands for a class without anything in it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """Put the parsers on the path, with stand-ins for the rest of the server."""
    folders = [
        assets.modules(SERVER, "sglang/srt/function_call/", "sglang/srt/parser/"),
        assets.installed(
            "partial-json-parser==0.2.1.1.post6", "orjson==3.13.0", "pydantic==2.14.4"
        ),
    ]
    environ = ModuleType("sglang.srt.environ")
    off = SimpleNamespace(get=lambda: 0)
    environ.envs = SimpleNamespace(SGLANG_TOOL_STRICT_LEVEL=off, SGLANG_FORWARD_UNKNOWN_TOOLS=off)  # type: ignore[attr-defined]
    environ.ToolStrictLevel = SimpleNamespace(PARAMETER=2, FUNCTION=1)  # type: ignore[attr-defined]
    protocol = Anything("sglang.srt.entrypoints.openai.protocol")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, *map(str, folders)])
        patch.setenv("TIKTOKEN_ENCODINGS_BASE", "")
        for module in (environ, protocol):
            patch.setitem(sys.modules, module.__name__, module)
        yield


def read_back(name: str, text: str, tools: tuple[Json, ...] | None, *, opened: bool) -> Message:
    """Parse what a model wrote; `opened` says that the prompt ends within the reasoning."""
    parsers = FAMILIES[name]
    reasoning = importlib.import_module("sglang.srt.parser.reasoning_parser").ReasoningParser(
        parsers.reasoning, force_reasoning=opened
    )
    thought, rest = reasoning.parse_non_stream(text)
    calls: list[Any] = []
    if parsers.tools and tools:
        module = importlib.import_module("sglang.srt.function_call.function_call_parser")
        known = [
            SimpleNamespace(type="function", function=SimpleNamespace(**tool["function"]))
            for tool in tools
        ]
        rest, calls = module.FunctionCallParser(known, parsers.tools).parse_non_stream(rest)
    made = tuple(ToolCall(each.name, json.loads(each.parameters), None, None) for each in calls)
    return Message("assistant", rest, thought, made)


# --- what is parsed ------------------------------------------------------------------------------

TYPED = {"key": 'a "b" <c> é', "count": 3, "exact": True, "nested": {"x": [1, "ü"]}}
PROPERTIES = {
    "key": {"type": "string"},
    "count": {"type": "integer"},
    "exact": {"type": "boolean"},
    "nested": {"type": "object"},
}
TYPED_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": PROPERTIES},
    },
}
MORE: dict[str, tuple[Message, ...]] = {
    "arguments of every type": (
        ask(),
        replace(call(), tool_calls=(ToolCall("look_up", TYPED, None, "call00009"),)),
    ),
    "text in several lines": (
        ask(),
        Message("assistant", "One.\n\n* two", "First,\nthen.\n\nLast."),
    ),
    "code and markup": (ask(), Message("assistant", "`a < b && c` </b>", "Is {% raw %} é 𝛼?")),
    "three turns": (ask(), answer(), ask(2), answer(2), ask(3), answer(3)),
}


@functools.cache
def stories() -> list[Conversation]:
    """Give every shape, and every trained message of the fixtures, the last of each to be read."""
    made = [
        Conversation("shape", story, (TYPED_TOOL if "type" in shape else TOOL,))
        for shape, story in (SHAPES | MORE).items()
    ]
    for line in FIXTURES.read_bytes().splitlines():
        chat = parse_line(line, "fixture")
        made += [
            replace(chat, messages=chat.messages[: index + 1])
            for index, message in enumerate(chat.messages)
            if message.role == "assistant" and message.train
        ]
    return made


@functools.cache
def rendering(name: str) -> Rendering:
    template, behaviour = learned(name)
    return Rendering(template, behaviour, {})


def written(name: str, story: Conversation) -> tuple[str, str] | None:
    """Give the prompt and the completion of the last message; None where the package refuses."""
    *before, last = story.messages
    alone = (*(replace(message, train=False) for message in before), last)
    try:
        (view,) = build_views(replace(story, messages=alone), rendering(name))
    except RecordError:
        return None
    return view.prompt, view.completion


def said(message: Message) -> tuple[str, str, list[tuple[str, Any]]]:
    """Give what has to come back, but for white space at the ends."""
    calls = [(call.name, _stripped(call.arguments)) for call in message.tool_calls]
    return (message.reasoning or "").strip(), (message.content or "").strip(), calls


def _stripped(arguments: Json) -> Json:
    return {
        key: value.strip() if isinstance(value, str) else value for key, value in arguments.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_trained_parses_back(name: str) -> None:
    behaviour = rendering(name).behaviour
    parsed = 0
    for story in stories():
        texts = written(name, story)
        last = story.messages[-1]
        if texts is None or (not last.reasoning and FAMILIES[name].reasoning in ALWAYS_REASON):
            continue
        prompt, completion = texts
        stop = behaviour.stop(last).token
        assert completion.endswith(stop)
        opened = bool(behaviour.prompt_opener) and prompt.endswith(behaviour.prompt_opener)
        back = read_back(name, completion.removesuffix(stop), story.tools, opened=opened)
        assert said(back) == said(last), story
        parsed += 1
    assert parsed >= 45


@pytest.mark.parametrize("name", HARMONY)
def test_what_gpt_oss_is_trained_on_parses_back(name: str) -> None:
    encoding, roles = harmony_encoding(), harmony().Role
    parsed = 0
    for story in stories():
        texts = written(name, story)
        if texts is None:
            continue
        tokens = encoding.encode(texts[1], allowed_special="all")
        messages = encoding.parse_messages_from_completion_tokens(tokens, roles.ASSISTANT)
        last = story.messages[-1]
        if last.tool_calls and last.content:  # the template writes it where reasoning goes
            last = replace(last, content=None, reasoning=last.content)
        assert said(_from_harmony(messages)) == said(last)
        parsed += 1
    assert parsed >= 45


def _from_harmony(messages: list[Any]) -> Message:
    channels: dict[str, str] = {}
    calls = []
    for each in messages:
        text = "".join(part.text for part in each.content)
        if each.recipient:
            calls.append(
                ToolCall(each.recipient.removeprefix("functions."), json.loads(text), None, None)
            )
        else:
            channels[each.channel] = text
    return Message("assistant", channels.get("final"), channels.get("analysis"), tuple(calls))
