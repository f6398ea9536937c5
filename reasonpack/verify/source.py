"""The source of a dataset, read again: records → views in tokens, as the manifest says.

    chats.jsonl ─→ Record ─→ Conversation ─→ views in text ─→ each prompt and completion,
                                                   whole, through the tokenizer ─→ Rebuilt

Nothing is cut at special tokens, shared between views or encoded in batches.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonpack.behaviour import learn, override
from reasonpack.errors import RecordError, TokenizerError
from reasonpack.records.conversation import (
    Conversation,
    parse_line,
    parse_record,
    renamed_fields,
)
from reasonpack.records.reading import Reading
from reasonpack.run.plan import Record, Unit, plan, read_records
from reasonpack.storage import Place, expand_inputs, public_name
from reasonpack.template import ChatTemplate, load_template
from reasonpack.tokenizer import Tokenizer, load_tokenizer
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.manifest import Manifest
from reasonpack.verify.paths import U64, Paths, Print, distinct, fingerprint, view_paths
from reasonpack.views import Rendering, View, build_views

__all__ = [
    "Rebuilt",
    "Source",
    "TokenView",
    "load_source",
    "parse",
    "rebuild",
    "records",
    "why_rejected",
]


LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""Characters that a view may have whatever the limits, or for each token of `max_position`."""


@dataclass(frozen=True, slots=True)
class Source:
    """The input files, and what the manifest says was done with them."""

    places: list[Place]
    units: list[Unit]
    manifest: Manifest
    tokenizer: Tokenizer
    without_tools: Rendering
    with_tools: Rendering


@dataclass(frozen=True, slots=True)
class TokenView:
    """A view of L tokens.

    Attributes:
        message: index of the message that it is the view of.
        ids: i32[L], prompt and then completion.
        prompt_length: how many of them are the prompt.
        paths: of the tokens.
    """

    message: int
    ids: NDArray[np.int32]
    prompt_length: int
    paths: Paths


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The views of a conversation, or the reason for which there are none.

    `untrained` counts messages without the reasoning that their prompt opens.
    """

    views: tuple[TokenView, ...] = ()
    untrained: int = 0
    reason: str = ""
    error: str = ""

    def fingerprint(self) -> Print:
        """Stand for the leaves of the views and for what they train, each once."""
        trained = [view.paths.seen[view.prompt_length :] for view in self.views]
        return fingerprint(_leaves(self.views), distinct(np.concatenate(trained)))


def _leaves(views: Sequence[TokenView]) -> U64:
    """Return the paths that end a view and that no other view goes on from."""
    ends = np.stack([view.paths.seen[-1] for view in views])
    lengths = np.array([len(view.ids) for view in views])
    inner = np.zeros(len(views), bool)
    for view in views:
        shorter = lengths < len(view.ids)
        inner[shorter] |= (view.paths.seen[lengths[shorter] - 1] == ends[shorter]).all(axis=1)
    return distinct(ends[~inner])


# --- what the manifest names -----------------------------------------------------------


def load_source(
    inputs: Sequence[str], manifest: Manifest, tokenizer: str | None, findings: Findings
) -> Source | None:
    """Find the inputs, load tokenizer and templates; None if they are not the dataset's.

    Args:
        inputs: files, directories and URLs.
        manifest: of the dataset.
        tokenizer: where it is, if not where the manifest says.
        findings: gets what is not as it was.

    Raises:
        ReasonpackError: something cannot be loaded.
    """
    before = findings.total
    files = _name_inputs(expand_inputs(list(inputs)), manifest, findings)
    loaded = _load_tokenizer(manifest, tokenizer)
    if loaded.sha256 != manifest.tokenizer_sha256:
        what = f"SHA-256 {loaded.sha256}, expected {manifest.tokenizer_sha256}"
        findings.add(Finding("RP301", loaded.source, what))
    plain, tools = _load_renderings(manifest, loaded)
    if (found := plain.template.sha256) != manifest.template_sha256:
        what = f"SHA-256 {found}, expected {manifest.template_sha256}"
        findings.add(Finding("RP302", plain.template.name, what))
    if findings.total > before:
        return None
    read, units = plan(files)
    known = {(each.path, each.sha256) for each in manifest.inputs}
    for each in read:
        if (each.name, each.sha256) not in known:
            findings.warnings.append(f"{each.name}: not the bytes that were packed.")
    return Source([place for place, _ in files], units, manifest, loaded, plain, tools)


def _name_inputs(
    places: Sequence[Place], manifest: Manifest, findings: Findings
) -> list[tuple[Place, str]]:
    """Give each file the name that it had when it was packed: its own, else by order.

    Ids and rejects are made of these names.
    """
    names = [each.path for each in manifest.inputs]
    if sorted(map(public_name, places)) == sorted(names):
        return [(place, public_name(place)) for place in places]
    if len(places) != len(names):
        more = ", …" if len(names) > 5 else ""
        what = f"{len(places)} files, expected {len(names)}: {', '.join(names[:5])}{more}"
        findings.add(Finding("RP303", "inputs", what))
    return list(zip(places, names, strict=False))


def _load_tokenizer(manifest: Manifest, tokenizer: str | None) -> Tokenizer:
    if tokenizer is not None:
        return load_tokenizer(tokenizer)
    options = manifest.options
    try:
        return load_tokenizer(options.tokenizer, revision=options.revision)
    except TokenizerError as error:
        raise TokenizerError(f"{error} If it has moved, pass --tokenizer.") from error


def _load_renderings(manifest: Manifest, tokenizer: Tokenizer) -> tuple[Rendering, Rendering]:
    options = manifest.options
    variables = json.loads(options.chat_template_kwargs)

    def rendering(template: ChatTemplate) -> Rendering:
        behaviour = learn(template, tokenizer.added_tokens, variables)
        return Rendering(
            template=template,
            behaviour=override(behaviour, json.loads(options.template_behaviour)),
            variables=variables,
            missing_reasoning=options.missing_reasoning,
            train_empty_think=options.train_empty_think,
            remember=False,
        )

    plain, tools = load_template(
        options.chat_template,
        directory=tokenizer.directory,
        config=tokenizer.config,
        special_tokens=tokenizer.special_tokens,
        date=datetime.date.fromisoformat(options.date) if options.date else None,
    )
    without_tools = rendering(plain)
    return without_tools, without_tools if tools is plain else rendering(tools)


# --- records ---------------------------------------------------------------------------


def records(source: Source) -> Iterator[Record]:
    """Read all records, in the order of the inputs."""
    for unit in source.units:
        yield from read_records(unit, source.places[unit.input])


def parse(record: Record, source: Source) -> Conversation:
    """Read a record.

    Raises:
        RecordError: it is no conversation.
    """
    options, renderings = source.manifest.options, (source.without_tools, source.with_tools)
    reading = Reading(
        asked=frozenset().union(*(each.template.words for each in renderings)),
        ignored=frozenset(options.ignore_fields),
        renamed=renamed_fields(options.field),
        stray_closing_tag=options.stray_closing_tag,
        null_arguments=options.null_arguments,
        has_place=any(each.behaviour.closer for each in renderings),
        prompt_opens=all(each.behaviour.prompt_opener for each in renderings),
    )
    if record.row is not None:
        return parse_record(record.row, record.where, null_keys=True, reading=reading)
    return parse_line(record.line, record.where, reading=reading)


def rebuild(source: Source, conversation: Conversation) -> Rebuilt:
    """Build the views of a conversation and encode them, or say why that cannot be."""
    rendering = source.with_tools if conversation.tools else source.without_tools
    try:
        built = build_views(conversation, rendering, train_on=source.manifest.options.train_on)
    except RecordError as error:
        return Rebuilt(reason=error.reason, error=str(error))
    limit, longest = source.manifest.max_position, source.tokenizer.max_token_chars
    characters = max(len(view.prompt) + len(view.completion) for view in built.views)
    bounds = [max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (limit or 0))]
    if limit is not None and longest is not None:
        bounds.append(limit * longest)
    if characters > min(bounds):
        # Overlong whatever its tokens are; such a text can take for ever to encode.
        return Rebuilt(reason="overlong", error=f"a view of {characters:,} characters")
    views = tuple(_encode(view, source.tokenizer) for view in built.views)
    return Rebuilt(views, len(built.untrained))


def _encode(view: View, tokenizer: Tokenizer) -> TokenView:
    prompt, completion = (
        tokenizer.reference.encode(text, add_special_tokens=False).ids
        for text in (view.prompt, view.completion)
    )
    ids = np.array(prompt + completion, np.int32)
    return TokenView(view.message, ids, len(prompt), view_paths(ids, len(prompt)))


# --- rejects ---------------------------------------------------------------------------


def why_rejected(rebuilt: Rebuilt, manifest: Manifest) -> str:
    """Return the reason for which a conversation cannot be packed; empty if it can."""
    if rebuilt.reason:
        return rebuilt.reason
    views, onepass = rebuilt.views, manifest.layout == "onepass"
    if any(view.prompt_length == 0 for view in views):
        return "view"
    if onepass and _two_answers(views):
        return "layout"
    longest = sample = max(len(view.ids) for view in views)
    if onepass:
        sample = len(distinct(np.concatenate([view.paths.seen for view in views])))
    limits = ((manifest.max_position, longest), (manifest.options.max_length, sample))
    too_long = any(limit is not None and length > limit for limit, length in limits)
    return "overlong" if too_long else ""


def _two_answers(views: Sequence[TokenView]) -> bool:
    """Whether a trained token is not the first that follows its prefix, in the views' order.

    Then something else stands between it and the token that is to predict it.
    """
    seen = np.concatenate([view.paths.seen for view in views])
    before = np.concatenate([np.pad(view.paths.seen[:-1], ((1, 0), (0, 0))) for view in views])
    trained = np.concatenate([view.paths.trained for view in views])
    order = np.lexsort((before[:, 1], before[:, 0]))
    seen, before, trained = seen[order], before[order], trained[order]
    new = np.ones(len(before), bool)
    new[1:] = (before[1:] != before[:-1]).any(axis=1)
    first = seen[new][np.cumsum(new) - 1]
    return bool((trained & (seen != first).any(axis=1)).any())
