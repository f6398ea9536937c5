"""What each real template makes of each shape of message, as text that a person can review.

    stop: `<|im_end|>` (follows the message); calls: `<|im_end|>` (follows the message)

    == answer with reasoning, first turn
    sees:   <|im_start|>user↵Ask 1.<|im_end|>↵<|im_start|>assistant↵
    writes: <think>↵Think 1.↵</think>↵↵Answer 1.<|im_end|>

`sees` is the end of the prompt, from the first user message on; `writes` is the completion, every
token of which is trained. Instead there may be `untrained: missing reasoning`, or `refused:` with
the reason.
"""

from __future__ import annotations

import datetime
import functools
import re
from pathlib import Path

import assets
from published import eos

from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views
from tests.changed import replace

GOLDEN = Path(__file__).parent / "golden"
FIRST = "Ask 1."
DATE = datetime.date(2026, 1, 2)
TOKENS = re.compile(
    r"<[|｜][^<>\s]{1,40}>|<[^<>\s|｜]{1,40}[|｜]>|</?[A-Za-z_][\w:]{0,30}>|\[/?[A-Z_]+\]|\]~!?b[]\[]|\[e~\["
)
# Added tokens that are not special: they cannot stop a model.
PLAIN = re.compile(r"</?[\w:]*(think|tool|arg)[\w:]*>")
EXTRA_TOKENS = {
    "tencent-Hy3": [f"<｜hy_{name}:opensource｜>" for name in ("eos", "User", "Assistant")],
}

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


@functools.cache
def compiled(name: str) -> tuple[ChatTemplate, list[str]]:
    """Give a template, and the tokens in it that its tokenizer has."""
    source = assets.template(name)
    stem = name.partition("/")[2]
    tokens = {"<s>", "</s>", *TOKENS.findall(source), *EXTRA_TOKENS.get(stem, []), *eos(name)}
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    template = ChatTemplate.compile(source, name=stem, special_tokens=special, date=DATE)
    return template, sorted(tokens, key=lambda token: (-len(token), token))


@functools.cache
def learned(name: str) -> tuple[ChatTemplate, Behaviour]:
    """Learn a template as a tokenizer of its model would have it learned."""
    template, tokens = compiled(name)
    special = frozenset(token for token in tokens if not PLAIN.fullmatch(token))
    return template, learn(template, tokens, special=special, eos=eos(name))


def golden(name: str) -> str:
    """Write what the package makes of every shape."""
    try:
        template, behaviour = learned(name)
    except TemplateError as error:
        return f"refused: {str(error).partition(', expected')[0]}\n"
    lines = [
        f"with reasoning {dict(behaviour.thinking)}, without {dict(behaviour.not_thinking)}",
        f"stop: {_stop(behaviour.answer_stop)}; calls: {_stop(behaviour.call_stop)}",
    ]
    for shape, story in SHAPES.items():
        lines += ["", f"== {shape}", *_view(story, template, behaviour)]
    return "\n".join(lines) + "\n"


def _view(story: tuple[Message, ...], template: ChatTemplate, behaviour: Behaviour) -> list[str]:
    *before, last = story
    messages = (*(replace(message, train=False) for message in before), last)
    tools = (TOOL,) if any(message.tool_calls for message in story) else None
    conversation = Conversation("golden", messages, tools)
    try:
        (view,) = build_views(conversation, Rendering(template, behaviour, {}))
    except RecordError as error:
        if error.reason == "nothing-to-train":
            return ["untrained: missing reasoning"]
        # Neither what was expected nor the fix: the goldens are of views, not of wording.
        return [f"refused: {error.path}: {error.what}"]
    tail = view.prompt[view.prompt.index(FIRST) :]
    return [f"sees:   {_one_line(tail)}", f"writes: {_one_line(view.completion)}"]


def _stop(stop: Stop) -> str:
    return f"`{_one_line(stop.token)}` ({stop.source})" if stop.token else "none"


def _one_line(text: str) -> str:
    return text.replace("\n", "↵")
