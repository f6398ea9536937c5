r"""How views are built: the template, and what is known of it beside its rendering.

manifest     thinking switch, delimiters, what the run was asked for   (taken as it is)
model files  tokens that end an answer
template     in which form it takes messages                           (tried out)
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from msgspec import Struct

from reasonpack.datasets.manifest import Learned, Manifest
from reasonpack.templates.find import load_template
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.chat import Json, Message
from reasonpack.verify.stop import Stops, ending_token, read_stops
from reasonpack.verify.template import Forms, Template, learn_forms


class Rules(Struct, frozen=True):
    """How the views of a dataset are built.

    Attributes:
        forms: in which form it takes messages.
        stops: tokens that may end an answer, by the model's files.
        ending: the one special token that follows an answer; empty where there are several.
        given: what the run set for every record: variables that win over the switch.
        thinking: variables for a message with reasoning, and for one without.
        opener: what stands before reasoning, by the prompt or the model; from the manifest.
        closer: what it writes behind it; from the manifest.
        stated: stop tokens of an answer and of a call, where the user stated them.
        claimed: stop tokens of an answer and of a call by the manifest: compared with those that
            files or rendering have, and taken where they have none.
        missing_reasoning: what was done with an answer without reasoning in a prompt that opens it.
        train_empty: train empty blocks.
        keep_as_context: a message whose view cannot be had was kept as context.
    """

    template: Template
    forms: Forms
    stops: Stops
    ending: str
    given: Json
    thinking: tuple[Json, Json]
    opener: str
    closer: str
    stated: tuple[str, str]
    claimed: tuple[Stop, Stop]
    missing_reasoning: str
    train_empty: bool
    keep_as_context: bool

    def written(self, message: Message) -> Json:
        """Write a message as the template takes it."""
        return self.forms.given(message, self.opener, self.closer)

    @property
    def empty_block(self) -> re.Pattern[str]:
        """An empty think block, or what is left of one that the prompt opened."""
        opener, closer = re.escape(self.opener.strip()), re.escape(self.closer.strip())
        space = self.closer[len(self.closer.rstrip()) :]
        as_much = "".join(f"(?:{re.escape(each)}" for each in space) + ")?" * len(space)
        return re.compile(rf"\s*(?:{opener}\s*)?{closer}{as_much}" if closer else r"(?!)")

    def opener_behind(self, prompt: str) -> tuple[str, str]:
        """Divide the opener: what a prompt ends with, and what the model writes behind it."""
        bare = prompt.rstrip()
        for end in range(len(self.opener), 0, -1):
            begun = self.opener[:end].rstrip()
            if begun and bare.endswith(begun):
                rest = self.opener[len(begun) :].removeprefix(prompt[len(bare) :])
                return begun, rest if rest.strip() else ""
        return "", self.opener

    def rest_of_block(self, prompt: str) -> str:
        """Return what closes the empty block that a prompt opens."""
        block = self.opener.lstrip() + self.closer
        opened = prompt[prompt.rfind(self.opener_behind(prompt)[0].lstrip()) :]
        return block[len(opened) :] if block.startswith(opened) else self.closer

    @property
    def last_block(self) -> re.Pattern[str]:
        """A think block at the end, opened or closed."""
        opener, closer = re.escape(self.opener.strip()), re.escape(self.closer.strip())
        inner = f"(?:(?!{opener}).)*?{closer}" if closer else ""
        return re.compile(rf"{opener}(?:{inner})?\s*\Z" if opener else r"(?!)", re.DOTALL)


def load_rules(
    manifest: Manifest, tokenizer: Tokenizer
) -> tuple[ChatTemplate, tuple[Rules, Rules]]:
    """Read the templates, and the rules by which each makes views: without tools, and with them.

    Raises:
        ReasonpackError: a template cannot be loaded.
    """
    options = manifest.options
    date = datetime.date.fromisoformat(options.date) if options.date else None
    found = load_template(
        options.chat_template,
        directory=tokenizer.directory,
        config=tokenizer.config,
        special_tokens=tokenizer.special_tokens,
        date=date,
    )
    stops = read_stops(tokenizer)
    stated = json.loads(options.template_behaviour)
    given = json.loads(options.chat_template_kwargs)
    rules = []
    for template in found[: 1 + (found[0] is not found[1])]:
        learned = _learned(manifest, template)
        thinking, not_thinking = json.loads(learned.thinking), json.loads(learned.not_thinking)
        plain = Template(template.name, template.source, tokenizer.special_tokens, date)
        opener = learned.prompt_opener + learned.opener if learned.closer else ""
        own = bool(stated.keys() & {"opener", "closer"}) and "forms" not in stated
        forms = learn_forms(plain, {**thinking, **given}, opener, stated=own)
        ending = ending_token(plain, {**thinking, **given}, stops)
        rules.append(
            Rules(
                template=plain,
                forms=forms,
                stops=stops,
                ending=ending,
                given=given,
                thinking=(thinking, not_thinking),
                opener=opener,
                closer=learned.closer,
                stated=(_stated(stated, "answer_stop"), _stated(stated, "call_stop")),
                claimed=(learned.answer_stop, learned.call_stop),
                missing_reasoning=options.missing_reasoning,
                train_empty=options.train_empty_think,
                keep_as_context=options.on_message_error == "context",
            )
        )
    return found[0], (rules[0], rules[-1])


def _learned(manifest: Manifest, template: ChatTemplate) -> Learned:
    """Return what the manifest says of a template; nothing where it has none of it."""
    for each in manifest.templates:
        if each.template_sha256 == template.sha256:
            return each
    none = Stop(token="", source="none")
    return Learned("", template.sha256, "{}", "{}", "", "", "", none, none)


def _stated(behaviour: dict[str, Any], name: str) -> str:
    """Return the stop token that the user stated."""
    said = behaviour.get(name)
    token = said.get("token") if isinstance(said, dict) else said
    return token if isinstance(token, str) else ""
