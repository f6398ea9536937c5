"""Options of a run → what it loads into memory: tokenizer, templates, limits."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from reasonpack.datasets.manifest import Learned, json_hash
from reasonpack.datasets.options import TRAIN, Options
from reasonpack.errors import RecordError, UsageError
from reasonpack.records.conversation import Conversation
from reasonpack.records.options import ignored_fields, renamed_fields, renamed_roles
from reasonpack.records.reading import Reading
from reasonpack.rows.model_layers import Architecture
from reasonpack.run.splits import key, read_splits, split_of
from reasonpack.storage.read import fetched
from reasonpack.templates.behaviour import UNKNOWN, Behaviour
from reasonpack.templates.find import LACKING, check_template, load_template
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.fast_backends import AUTO, Choice, Encoder
from reasonpack.tokens.files import TOKENIZER_FILES, read_json
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer
from reasonpack.views.chosen import read_train_on
from reasonpack.views.rendering import Rendering
from reasonpack.wording import one_line


def _learned(rendering: Rendering) -> Learned:
    behaviour = rendering.behaviour
    return Learned(
        template=rendering.template.name,
        template_sha256=rendering.template.sha256,
        thinking=json.dumps(dict(behaviour.thinking), sort_keys=True),
        not_thinking=json.dumps(dict(behaviour.not_thinking), sort_keys=True),
        prompt_opener=behaviour.prompt_opener,
        opener=behaviour.opener,
        closer=behaviour.closer,
        answer_stop=behaviour.answer_stop,
        call_stop=behaviour.call_stop,
    )


class Context(Struct, frozen=True):
    """What the options of a run name, loaded.

    Attributes:
        tokenizer: exact ids for text; it may lack a chat template.
        without_tools: how conversations without tools are rendered.
        with_tools: how conversations with tools are rendered.
        max_position: tokens of the longest view allowed; None for no limit.
        notes: what the user should know about the model.
        reading: how records are read.
        shares: share of the conversations in each split other than `train`.
    """

    tokenizer: Tokenizer
    without_tools: Rendering
    with_tools: Rendering
    max_position: int | None
    notes: tuple[str, ...]
    reading: Reading
    shares: Mapping[str, float]

    @property
    def lacks_template(self) -> bool:
        """Whether there is no chat template, so that only logged token ids can be packed."""
        return self.without_tools.template.source == LACKING

    def check_template(self) -> None:
        """Raise UsageError if there is no chat template."""
        check_template(self.without_tools.template, self.tokenizer.directory)

    @property
    def templates(self) -> list[Learned]:
        """What was learned about each template, for the plan and the manifest."""
        if self.lacks_template:
            return []
        found = [self.without_tools, self.with_tools]
        return [_learned(each) for each in found[: 1 + (found[0] is not found[1])]]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of tokenizer, templates and special tokens, for the plan and the shards."""
        return {
            "tokenizer": self.tokenizer.sha256,
            "template": self.without_tools.template.sha256,
            "template for tools": self.with_tools.template.sha256,
            "special tokens": json_hash(self.tokenizer.special_tokens),
        }

    def rendering(self, conversation: Conversation) -> Rendering:
        """Return how a conversation is rendered.

        Raises:
            RecordError: there is no chat template.
        """
        if self.lacks_template:
            what, expected = "no chat template for them", "one, or ids of prompt and completion"
            fix = "pass --chat-template FILE, NAME or TEXT, or log the ids"
            raise RecordError("template", "messages", what, expected, fix)
        return self.with_tools if conversation.tools else self.without_tools

    def split(self, conversation: Conversation) -> str:
        """Return the split of a conversation."""
        return split_of(key(conversation), self.shares) if self.shares else TRAIN


def check_rows(options: Options) -> None:
    """Check the options for rows of several samples.

    Raises:
        UsageError: --packing without --max-length, or --max-cost without --packing.
    """
    if options.packed and options.max_length is None:
        raise UsageError("--packing", "no row length", "one", "pass --max-length TOKENS")
    if options.max_cost is not None and not options.packed:
        raise UsageError("--max-cost", "rows of one sample", "--packing", "pass --packing best-fit")


def _check_types(options: Options) -> None:
    """Refuse values that an attribute of the options cannot have; the command line has no such."""
    try:
        msgspec.convert(msgspec.to_builtins(options), Options)
    except (msgspec.ValidationError, TypeError) as error:
        fix = "see reasonpack.Options for the values of each"
        raise UsageError("Options", one_line(error), "values of their types", fix) from error


class Loaded:
    """Context and encoder of a run, loaded once in each process that packs.

    Only its attributes are pickled: a process that unpickles them has what `loaded_here` returns,
    while a forked process has what was loaded before.

    Attributes:
        options: of the run.
        choice: which backends encode texts; no byte of a shard depends on it.
    """

    def __init__(self, options: Options, choice: Choice = AUTO) -> None:
        self.options, self.choice = options, choice
        self._encoders: dict[tuple[str, ...], Encoder] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return loaded_here, (self.options, self.choice)

    @cached_property
    def context(self) -> Context:
        """The context of the options; see `load_context`."""
        return load_context(self.options)

    def encoder(self, input_bytes: int) -> Encoder:
        """Return the encoder for a run with `input_bytes` of input."""
        backends = self.choice.backends(input_bytes)
        if backends not in self._encoders:
            encoder = Encoder(self.context.tokenizer, backends, self.choice.check_rate)
            self._encoders = {backends: encoder}
        return self._encoders[backends]

    def load(self, input_bytes: int) -> None:
        """Load context and encoder now, for a run with `input_bytes` of input."""
        self.context.tokenizer.load()
        self.encoder(input_bytes).load()


@lru_cache(maxsize=1)
def loaded_here(options: Options, choice: Choice = AUTO) -> Loaded:
    """Return what this process has for these options: the tasks of Ray share it, one by one."""
    return Loaded(options, choice)


def load_context(options: Options) -> Context:
    """Load tokenizer and templates, and learn what the templates do.

    Raises:
        TokenizerError: the tokenizer cannot be loaded.
        TemplateError: the template cannot be loaded or trusted.
        UsageError: an option is malformed, or contradicts another one.
    """
    check_rows(options)
    shares = read_splits(options.split)
    read_train_on(options.train_on)
    _check_types(options)
    with (
        fetched(options.tokenizer, TOKENIZER_FILES) as source,
        fetched(options.chat_template or "") as choice,
    ):
        tokenizer = load_tokenizer(source, revision=options.revision)
        plain, tools = load_template(
            choice or None,
            directory=tokenizer.directory,
            config=tokenizer.config,
            special_tokens=tokenizer.special_tokens,
            date=_day(options),
        )
    without = _rendering(plain, tokenizer, options)
    with_tools = without if tools is plain else _rendering(tools, tokenizer, options)
    limit = options.max_position or tokenizer.model_max_length or options.max_length
    notes = (
        *_check_model(tokenizer, options),
        *_note_eos(tokenizer, without.behaviour),
        *_note_variables(without, with_tools),
    )
    reading = _reading(options, without, with_tools)
    return Context(tokenizer, without, with_tools, limit, notes, reading, shares)


def _day(options: Options) -> datetime.date | None:
    """Return the day that templates are to show; None if options name none."""
    try:
        return datetime.date.fromisoformat(options.date) if options.date else None
    except ValueError as error:
        raise UsageError("--date", error, "a day such as 2026-01-31", "write it so") from error


def _reading(options: Options, *renderings: Rendering) -> Reading:
    """Return how records are read for these templates.

    Raises:
        UsageError: options rename a field to an unknown one, or ignore a field that must be read.
    """
    behaviours = [each.behaviour for each in renderings]
    closers = tuple(dict.fromkeys(each.closer.strip() for each in behaviours if each.closer))
    return Reading(
        asked=frozenset().union(*(each.asked for each in behaviours)),
        dumped=frozenset().union(*(each.dumped for each in behaviours)),
        ignored=ignored_fields(options.ignore_fields),
        renamed=renamed_fields(options.field),
        roles=renamed_roles(options.role),
        stray_closing_tag=options.stray_closing_tag,
        null_arguments=options.null_arguments,
        closers=closers,
        empty_block_is_text=not closers
        and not any("</think>" in each.template.source for each in renderings),
        prompt_opens=all(each.closer and each.prompt_opener for each in behaviours),
        opener="".join(each.prompt_opener + each.opener for each in behaviours),
    )


def _note_variables(*renderings: Rendering) -> tuple[str, ...]:
    """Return a note on variables of --chat-template-kwargs that no template reads, if any."""
    read = frozenset().union(*(each.template.variables for each in renderings))
    unknown = sorted(renderings[0].variables.keys() - read)
    named = ", ".join(unknown)
    return (f"--chat-template-kwargs: the template does not read {named}",) if unknown else ()


def _note_eos(tokenizer: Tokenizer, behaviour: Behaviour) -> tuple[str, ...]:
    """Return a note if the model's files do not list the stop token that answers end with."""
    stop = behaviour.answer_stop
    if not tokenizer.eos or behaviour is UNKNOWN or stop.token.strip() in tokenizer.eos:
        return ()
    listed = ", ".join(tokenizer.eos)
    ends = f"answers end with {stop.token!r} ({stop.source})"
    tell = f"tell the server that runs the model to stop at {stop.token!r}"
    return (f"{ends}, and the model's files list {listed}: {tell}",)


def _check_model(tokenizer: Tokenizer, options: Options) -> tuple[str, ...]:
    """Return notes on the model for the onepass layout.

    Raises:
        UsageError: the model has layers that carry state along the row.
    """
    architecture = Architecture.of(read_json(tokenizer.directory / "config.json"))
    if options.layout == "npass":
        return ()
    if architecture.recurrent and not options.force_onepass:
        raise UsageError(
            f"{tokenizer.directory}/config.json",
            architecture.recurrent,
            "attention layers only: others carry state along the row, so that the "
            "branches of a onepass row leak into each other",
            "pass --layout npass, or --force-onepass if you train another model or fork the state "
            "at branches, as tests/trainers/examples/qwen3_5_forked.py does",
        )
    if architecture.sliding_window is None:
        return ()
    window = f"{architecture.sliding_window:,}"
    return (f"the model has a sliding window of {window}: measure it in position_ids",)


def _rendering(template: ChatTemplate, tokenizer: Tokenizer, options: Options) -> Rendering:
    variables: dict[str, Any] = json.loads(options.chat_template_kwargs)
    if template.source == LACKING:
        behaviour = UNKNOWN
    else:
        behaviour = learn(
            template,
            tokenizer.added_tokens,
            variables,
            special=tokenizer.special,
            eos=tokenizer.eos,
            stated=json.loads(options.template_behaviour),
        )
    return Rendering(
        template=template,
        behaviour=behaviour,
        variables=variables,
        missing_reasoning=options.missing_reasoning,
        train_empty_think=options.train_empty_think,
        on_message_error=options.on_message_error,
    )
