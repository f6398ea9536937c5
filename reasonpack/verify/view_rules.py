r"""The rules for building views: the template, and what must be known of it before rendering.

manifest     thinking switch, delimiters, options of the run   (taken without a check)
model files  tokens that end an answer
template     the form in which it takes messages               (found by trial renderings)
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.datasets.manifest import Learned, Manifest
from reasonpack.templates.find import load_template
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.chat import Json, Message, NotChecked
from reasonpack.verify.stop import Stops, ending_token, read_stops
from reasonpack.verify.template import Forms, Template, learn_forms

_ASKED = "What the user asked."


class Rules(Struct, frozen=True):
    """How the views of a dataset are built.

    Attributes:
        forms: the form in which the template takes messages.
        stops: tokens that may end an answer, from the model's files.
        ending: the only special token that follows an answer; empty if there are several or none.
        given: template variables that the run set for every record; they override `thinking`.
        thinking: template variables for a message with reasoning, and for one without.
        opener: text before reasoning, written by prompt and model; from the manifest.
        closer: text after reasoning; from the manifest.
        stated: stop tokens of answers and of calls that the user stated; empty without.
        claimed: stop tokens of answers and of calls in the manifest; compared with those of model
            files or rendering, and used if these have none.
        missing_reasoning: what pack did with an answer without reasoning in a prompt that opens it.
        train_empty: empty think blocks are trained.
        keep_as_context: pack kept a message as context if it could not build its view.
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
        """Return a message in the form in which the template takes it."""
        return self.forms.given(message, self.opener, self.closer)

    def after_user(self, message: Message, variables: Mapping[str, Any]) -> str:
        """Return what follows the text of a user in a prompt of this message; '' if unknown.

        The text is another one there, as a short one may be part of what follows it.
        """
        given = self.written(replace(message, content=_ASKED, verbatim=None))
        try:
            prompt = self.template.render([given], (), variables, prompt=True)
        except NotChecked:
            return ""
        return prompt.rpartition(_ASKED)[2]

    @property
    def empty_block(self) -> re.Pattern[str]:
        """Pattern of an empty think block, or of the rest of one that the prompt opens."""
        opener, closer = re.escape(self.opener.strip()), re.escape(self.closer.strip())
        space = self.closer[len(self.closer.rstrip()) :]
        as_much = "".join(f"(?:{re.escape(each)}" for each in space) + ")?" * len(space)
        return re.compile(rf"\s*(?:{opener}\s*)?{closer}{as_much}" if closer else r"(?!)")

    def split_opener(self, prompt: str) -> tuple[str, str]:
        """Split the opener into what a prompt ends with and the rest, which the model writes."""
        bare = prompt.rstrip()
        for end in range(len(self.opener), 0, -1):
            begun = self.opener[:end].rstrip()
            if begun and bare.endswith(begun):
                rest = self.opener[len(begun) :].removeprefix(prompt[len(bare) :])
                return begun, rest if rest.strip() else ""
        return "", self.opener

    def rest_of_block(self, prompt: str) -> str:
        """Return the rest of an empty think block that a prompt opens."""
        block = self.opener.lstrip() + self.closer
        opened = prompt[prompt.rfind(self.split_opener(prompt)[0].lstrip()) :]
        return block[len(opened) :] if block.startswith(opened) else self.closer

    @property
    def last_block(self) -> re.Pattern[str]:
        """Pattern of a think block at the end of a text, closed or not."""
        opener, closer = re.escape(self.opener.strip()), re.escape(self.closer.strip())
        inner = f"(?:(?!{opener}).)*?{closer}" if closer else ""
        return re.compile(rf"{opener}(?:{inner})?\s*\Z" if opener else r"(?!)", re.DOTALL)


def load_rules(
    manifest: Manifest, tokenizer: Tokenizer
) -> tuple[ChatTemplate, tuple[Rules, Rules]]:
    """Load the chat template, and the rules for conversations without and with tools.

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
    """Return what the manifest says of a template; empty fields if it does not name it."""
    for each in manifest.templates:
        if each.template_sha256 == template.sha256:
            return each
    none = Stop(token="", source="none")
    return Learned("", template.sha256, "{}", "{}", "", "", "", none, none)


def _stated(behaviour: dict[str, Any], name: str) -> str:
    """Return the stop token that the user stated under a name; empty without one."""
    said = behaviour.get(name)
    token = said.get("token") if isinstance(said, dict) else said
    return token if isinstance(token, str) else ""
