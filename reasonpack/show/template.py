r"""What was learned about a chat template → a table, a sentence, and an example.

reads reasoning from   reasoning_content
opener                 '<think>\n'
…
One row per conversation; reasoning stripped at the next user message, kept in tool loops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.rows.forest import lay_out, plant
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE, write
from reasonpack.show.text import marked
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.stop import Stop
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.tokens.view_tokens import Cutter, Pieces
from reasonpack.views.rendering import Rendering
from reasonpack.views.view import build_views
from reasonpack.wording import printable

_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}


def behaviour_lines(rendering: Rendering) -> Iterator[str]:
    """Yield what was learned as lines of a table of names and values."""
    rows = list(_rows(rendering.behaviour))
    width = max(len(name) for name, _ in rows)
    yield f"{'template'.ljust(width)}  {rendering.template.name}"
    for name, value in rows:
        yield f"{name.ljust(width)}  {printable(value)}"


def _rows(behaviour: Behaviour) -> Iterator[tuple[str, str]]:
    forms = behaviour.forms
    fields = ", ".join(forms.reasoning_fields) or ("the content" if forms.inline else "nowhere")
    yield "reads reasoning from", fields
    yield "with reasoning it sets", _variables(behaviour.thinking)
    yield "without it sets", _variables(behaviour.not_thinking)
    yield "header", repr(behaviour.header)
    yield "generation prompt adds", repr(behaviour.prompt_opener)
    yield "opener", repr(behaviour.opener)
    source = "" if behaviour.shows_reasoning or not behaviour.closer else " (by convention)"
    yield "closer", repr(behaviour.closer) + source
    yield "an answer stops at", _stop(behaviour.answer_stop)
    yield "a tool call stops at", _stop(behaviour.call_stop)
    yield "tool arguments as", "JSON text" if forms.arguments_as_text else "objects"


def _variables(variables: Mapping[str, Any]) -> str:
    return json.dumps(dict(variables)) if variables else "nothing"


def _stop(stop: Stop) -> str:
    if not stop.token:
        return "no reliable token"
    added = f", adds {stop.after!r}" if stop.after and stop.shown else ""
    return f"{stop.token!r} ({stop.source}){added}"


def what_packing_does(behaviour: Behaviour, *, layout: str) -> str:
    """Return a sentence that says what packing does with a conversation."""
    what = "One row per conversation" if layout == "onepass" else "One sample per leaf"
    if not behaviour.closer.strip():
        return f"{what}; this template has no place for reasoning."
    if behaviour.kept_after_user:
        return f"{what}; reasoning is always kept, so no response is written twice."
    loop = "stripped in tool loops"
    if behaviour.kept_in_loop:
        loop = "kept in tool loops" + (
            "" if behaviour.kept_after_loop else " until the answer is there"
        )
    return f"{what}; reasoning stripped at the next user message, {loop}."


def shapes(rendering: Rendering) -> list[tuple[str, str]]:
    """Return how each shape of message is packed: `packed`, `untrained: …` or `refused: …`."""
    question, more = Message("user", "Why?"), Message("user", "And then?")
    bare, reasoned = Message("assistant", "So."), Message("assistant", "So.", "Hmm.")
    reasons = bool(rendering.behaviour.closer.strip())
    usual, thought = (reasoned, "Hmm.") if reasons else (bare, None)
    result = Message("tool", "Found.", extra={"tool_call_id": "call00000", "name": "look_up"})
    loop = (question, _call(thought), result)
    stories: dict[str, tuple[Message, ...]] = {
        "an answer with reasoning": (question, reasoned),
        "an answer without": (question, bare),
        "a later answer with reasoning": (question, reasoned, more, reasoned),
        "a tool call with reasoning": (question, _call("Hmm.")),
        "a tool call without": (question, _call(None)),
        "a second call": (*loop, _call(thought)),
        "an answer after the call": (*loop, usual),
        "an answer after an answer": (question, usual, usual),
        "a system message": (Message("system", "Be brief."), question, usual),
    }
    return [(name, _verdict(story, rendering)) for name, story in stories.items()]


def _call(reasoning: str | None) -> Message:
    call = ToolCall("look_up", {"query": "it"}, None, "call00000")
    return Message("assistant", None, reasoning, (call,))


def _verdict(story: tuple[Message, ...], rendering: Rendering) -> str:
    *before, last = story
    kept = [replace(message, train=False) for message in before]
    tools = (_TOOL,) if any(message.tool_calls for message in story) else None
    try:
        build_views(Conversation("example", (*kept, last), tools), rendering)
    except RecordError as error:
        if error.reason == "nothing-to-train":
            return "untrained: the prompt opens reasoning that it does not have"
        return f"refused: {error.what}, expected {error.expected}"
    return "packed"


def example_lines(rendering: Rendering, tokenizer: Tokenizer, *, colour: bool) -> Iterator[str]:
    """Yield the segments of a conversation of two turns, each with its kind and text."""
    story: tuple[Message, ...] = (
        Message("user", "2+2?"),
        Message("assistant", "4", "Easy."),
        Message("user", "3+3?"),
        Message("assistant", "6", "Easy too."),
    )
    reasons = rendering.behaviour.closer.strip()
    if not reasons:
        story = tuple(replace(message, reasoning=None) for message in story)
    try:
        views = build_views(Conversation("example", story), rendering)
        pieces = Pieces(tokenizer.cut, decode=tokenizer.decode)
        cutter = Cutter(pieces)
        cut = [cutter.add(view) for view in views]
        pieces.encode(tokenizer.encode_batch)
        forest = plant(pieces.look_up([cut]))
        (sample,) = write(forest, [("example", lay_out(forest))])
    except RecordError as error:
        yield f"refused: {printable(str(error))}"
        return
    segments = sample.segments
    stops = [*segments.start[1:].tolist(), sample.length]
    for start, stop, number in zip(segments.start.tolist(), stops, segments.kind, strict=True):
        kind = Kind(number).label
        shown = ""
        for trained, run in groupby(
            range(start, stop), lambda token: sample.labels[token] != IGNORE
        ):
            text = tokenizer.decode(sample.input_ids[list(run)])
            shown += marked(text, kind, trained=trained, colour=colour)
        yield f"  {kind.ljust(5)} {shown.replace(chr(10), '↵')}"


def behaviour_json(rendering: Rendering, *, layout: str) -> dict[str, Any]:
    """Return all that was learned as a JSON object."""
    behaviour = msgspec.to_builtins(rendering.behaviour)
    return {
        "template": rendering.template.name,
        "template_sha256": rendering.template.sha256,
        "behaviour": behaviour,
        "packing": what_packing_does(rendering.behaviour, layout=layout),
        "shapes": dict(shapes(rendering)),
    }
