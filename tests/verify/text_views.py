"""Templates, rules and the views of messages that follow from them."""

from __future__ import annotations

from typing import Any

from packed_twice import Json

from reasonpack.templates.stop import Stop
from reasonpack.verify.chat import Reading
from reasonpack.verify.reader import read_chat
from reasonpack.verify.stop import Stops, ending_token
from reasonpack.verify.template import Template, learn_forms
from reasonpack.verify.view_rules import Rules
from reasonpack.verify.views import TextViews, build_views

USER = "{% for m in messages %}{% if m.role != 'assistant' %}<|user|>{{ m.content }}{% else %}"
END = "{% endif %}{% endfor %}{% if add_generation_prompt %}"
ASK = {"role": "user", "content": "And?"}
STOPS = Stops(("<|end|>",), ())


def template(source: str) -> Template:
    return Template("test", source, {})


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
