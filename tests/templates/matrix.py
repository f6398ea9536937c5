"""What each real template makes of each shape of message, as text that a person can review.

    == answer with reasoning, first turn
    sees:   <|im_start|>user↵Ask 1.<|im_end|>↵<|im_start|>assistant↵
    writes: <think>↵Think 1.↵</think>↵↵Answer 1.<|im_end|>

`sees` is the end of the prompt, from the first user message on; `writes` is the completion, every
token of which is trained. Instead there may be `untrained: missing reasoning`, or `refused:` with
the reason.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from pathlib import Path

import assets

from reasonpack.behaviour import Behaviour, learn
from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.conversation import Conversation, Message, ToolCall
from reasonpack.template import ChatTemplate
from reasonpack.views import Rendering, build_views

GOLDEN = Path(__file__).parent / "golden"
FIRST = "Ask 1."
DATE = datetime.date(2026, 1, 2)
TOKENS = re.compile(
    r"<[|｜][^<>\s]{1,40}>|<[^<>\s|｜]{1,40}[|｜]>|</?[A-Za-z_][\w:]{0,30}>|\[/?[A-Z_]+\]|\]~!?b[]\[]|\[e~\["
)
EXTRA_TOKENS = {
    "tencent-Hy3": [f"<｜hy_{name}:opensource｜>" for name in ("eos", "User", "Assistant")],
}

TEMPLATES = [
    "trl/qwen3",
    "trl/qwen3_5_think",
    "trl/qwen3_5_nothink",
    "trl/qwen3_6",
    "trl/qwen3_8",
    "trl/qwen3_instruct_2507",
    "trl/gptoss",
    "trl/glm4moe",
    "trl/nemotron_3_nano",
    "trl/nemotron_3_super",
    "trl/nemotron_3_ultra",
    "trl/nemotron_3_5_lightning",
    "trl/gemma4_v5",
    "trl/gemma4",
    "trl/lfm2_2_5",
    "trl/lfm2_2_5_v2",
    "trl/deepseekv3",
    "trl/deepseek_r1_distill",
    "trl/llama3_2",
    "trl/gemma3",
    "trl/qwen3_training",
    "trl/muse_glimmer",
    "llama.cpp/ByteDance-Seed-OSS",
    "llama.cpp/Kimi-K3",
    "llama.cpp/MiniMax-M3",
    "llama.cpp/HuggingFaceTB-SmolLM3-3B",
    "llama.cpp/ibm-granite-granite-3.3-2B-Instruct",
    "llama.cpp/ibm-granite-granite-4.1",
    "llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "llama.cpp/llama-cpp-deepseek-r1",
    "llama.cpp/deepseek-ai-DeepSeek-V3.1",
    "llama.cpp/deepseek-ai-DeepSeek-V3.2",
    "llama.cpp/deepseek-ai-DeepSeek-V4",
    "llama.cpp/deepseek-ai-DeepSeek-V4-Flash-0731",
    "llama.cpp/openai-gpt-oss-120b",
    "llama.cpp/GLM-4.6",
    "llama.cpp/GLM-4.7-Flash",
    "llama.cpp/Kimi-K2-Thinking",
    "llama.cpp/Kimi-K2-Instruct",
    "llama.cpp/MiniMax-M2",
    "llama.cpp/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "llama.cpp/NVIDIA-Nemotron-Nano-v2",
    "llama.cpp/StepFun3.5-Flash",
    "llama.cpp/upstage-Solar-Open-100B",
    "llama.cpp/LFM2.5-8B-A1B",
    "llama.cpp/LFM2.5-Instruct",
    "llama.cpp/google-gemma-4-31B-it",
    "llama.cpp/google-gemma-4-31B-it-interleaved",
    "llama.cpp/tencent-Hy3",
    "llama.cpp/Qwen-QwQ-32B",
    "llama.cpp/Qwen3.5-4B",
    "llama.cpp/Bielik-11B-v3.0-Instruct",
    "llama.cpp/Cohere2MoE",
    "llama.cpp/Reka-Edge",
    "llama.cpp/Spark2.5",
    "llama.cpp/inclusionai-ling-3.0-flash",
    "llama.cpp/openbmb-MiniCPM5-1B",
    "llama.cpp/poolside-Laguna-S-2.1",
    "llama.cpp/poolside-Laguna-XS.2",
    "llama.cpp/mistralai-Ministral-3-14B-Reasoning-2512",
    "llama.cpp/Apertus-8B-Instruct",
    "llama.cpp/Apriel-1.6-15b-Thinker-fixed",
    "llama.cpp/unsloth-Apriel-1.5",
    "llama.cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "llama.cpp/meta-llama-Llama-3.1-8B-Instruct",
    "llama.cpp/meetkai-functionary-medium-v3.2",
    "llama.cpp/mistralai-Mistral-Nemo-Instruct-2407",
    "llama.cpp/llama-cpp-rwkv-world",
    "llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
]

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string", "description": "what"}},
            "required": ["key"],
        },
    },
}


def ask(number: int = 1) -> Message:
    return Message("user", f"Ask {number}.")


def answer(number: int = 1, *, bare: bool = False) -> Message:
    return Message("assistant", f"Answer {number}.", None if bare else f"Think {number}.")


def call(number: int = 1, *, text: str | None = None, bare: bool = False) -> Message:
    return Message("assistant", text, None if bare else f"Think {number}.", (_call(number),))


def result(number: int = 1) -> Message:
    extra = {"tool_call_id": f"call0000{number}", "name": "look_up"}
    return Message("tool", f"Result {number}.", extra=extra)


def _call(number: int) -> ToolCall:
    return ToolCall("look_up", {"key": f"value {number}"}, None, f"call0000{number}")


BOTH = Message("assistant", None, "Think 1.", (_call(1), _call(2)))
LOOP = (ask(), call(), result())
SHAPES: dict[str, tuple[Message, ...]] = {
    "answer with reasoning, first turn": (ask(), answer()),
    "answer without, first turn": (ask(), answer(bare=True)),
    "answer with reasoning, after history": (ask(), answer(), ask(2), answer(2)),
    "answer without, after history": (ask(), answer(), ask(2), answer(2, bare=True)),
    "call with reasoning": (ask(), call()),
    "call with reasoning and text": (ask(), call(text="Text 1.")),
    "call without reasoning": (ask(), call(bare=True)),
    "call without reasoning, with text": (ask(), call(text="Text 1.", bare=True)),
    "two calls at once": (ask(), BOTH),
    "second call in the loop": (*LOOP, call(2)),
    "second call in the loop, without reasoning": (*LOOP, call(2, bare=True)),
    "answer after the loop": (*LOOP, answer(2)),
    "answer after the loop, without reasoning": (*LOOP, answer(2, bare=True)),
    "answer after the next user message": (*LOOP, answer(2), ask(2), answer(3)),
    "answer after an answer": (ask(), answer(), answer(2)),
    "answer after an answer, both without reasoning": (
        ask(),
        answer(bare=True),
        answer(2, bare=True),
    ),
}


def golden_path(name: str) -> Path:
    return GOLDEN / f"{name.replace('/', '.')}.txt"


def compiled(name: str) -> tuple[ChatTemplate, list[str]]:
    """Give a template, and the tokens in it that its tokenizer has."""
    source = assets.template(name)
    stem = name.partition("/")[2]
    tokens = {"<s>", "</s>", *TOKENS.findall(source), *EXTRA_TOKENS.get(stem, [])}
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    template = ChatTemplate.compile(source, name=stem, special_tokens=special, date=DATE)
    return template, sorted(tokens, key=lambda token: (-len(token), token))


def golden(name: str) -> str:
    """Write what the package makes of every shape."""
    template, tokens = compiled(name)
    try:
        behaviour = learn(template, tokens)
    except TemplateError as error:
        return f"refused: {error}\n"
    lines = [f"with reasoning {dict(behaviour.thinking)}, without {dict(behaviour.not_thinking)}"]
    for shape, story in SHAPES.items():
        lines += ["", f"== {shape}", *_view(story, template, behaviour)]
    return "\n".join(lines) + "\n"


def _view(story: tuple[Message, ...], template: ChatTemplate, behaviour: Behaviour) -> list[str]:
    *before, last = story
    messages = (*(replace(message, train=False) for message in before), last)
    tools = (TOOL,) if any(message.tool_calls for message in story) else None
    conversation = Conversation("golden", "golden", messages, tools)
    try:
        (view,) = build_views(conversation, Rendering(template, behaviour, {})).views
    except RecordError as error:
        if error.reason == "nothing-to-train":
            return ["untrained: missing reasoning"]
        return [f"refused: {error}"]
    tail = view.prompt[view.prompt.index(FIRST) :]
    return [f"sees:   {_one_line(tail)}", f"writes: {_one_line(view.completion)}"]


def _one_line(text: str) -> str:
    return text.replace("\n", "↵")
