"""The source of a dataset, read again: records → views in tokens, as the manifest says.

    chats.jsonl ─→ Record ─→ Chat ─→ views in text ─→ each prompt and completion, whole,
                                                           through the tokenizer ─→ Rebuilt

Shared with what packs: finding and decoding the files of the input, of the tokenizer and of the
template. Reading messages, the stop token, views and their tokens are this check's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.datasets.manifest import Manifest
from reasonpack.errors import RecordError, TokenizerError
from reasonpack.records.plan import plan
from reasonpack.records.strict_json import decode
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, public_name
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer
from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.fields import renamed
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.match import Thoughts
from reasonpack.verify.names import OF_A_RECORD
from reasonpack.verify.one_view import TextView
from reasonpack.verify.paths import U64, Paths, Print, distinct, fingerprint, view_paths
from reasonpack.verify.reader import read_chat
from reasonpack.verify.rules import Rules, load_rules
from reasonpack.verify.views import build_views

LONGEST_TEXT, CHARACTERS_OF_A_TOKEN = 1 << 24, 16
"""Characters that a view may have whatever the limits, or for each token of `max_position`."""


@dataclass(frozen=True, slots=True)
class Source:
    """The input files, and what the manifest says was done with them.

    `rules` are those of conversations without tools, and of those with tools.
    """

    places: list[Place]
    units: list[Unit]
    manifest: Manifest
    tokenizer: Tokenizer
    reading: Reading
    rules: tuple[Rules, Rules]


@dataclass(frozen=True, slots=True)
class TokenView:
    """A view of L tokens.

    Attributes:
        message: index of the message that it is the view of.
        ids: i32[L], prompt and then completion.
        prompt_length: how many of them are the prompt.
        paths: of the tokens.
        thought: how many tokens of the completion are reasoning: at least, at most.
    """

    message: int
    ids: NDArray[np.int32]
    prompt_length: int
    paths: Paths
    thought: tuple[int, int] = (0, 0)

    @property
    def trained(self) -> U64:
        """The paths of the completion."""
        return self.paths.seen[self.prompt_length :]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The views of a conversation, or the reason for which there are none.

    Attributes:
        views: one for each trained message.
        untrained: how many messages lack the reasoning that their prompt opens.
        reason: why it must have been refused; `error` says it in words.
        unknown: why it could not be checked; then nothing is known of its views.
        doubt: why a message was left out that the run may have trained, in words.
        stops: where the stop tokens of its views come from, counted.
        contradictions: stop tokens of which the manifest says something else, in words.
    """

    views: tuple[TokenView, ...] = ()
    untrained: int = 0
    reason: str = ""
    error: str = ""
    unknown: str = ""
    doubt: str = ""
    stops: dict[str, int] = field(default_factory=dict)
    contradictions: Sequence[str] = ()

    def fingerprint(self) -> Print:
        """Stand for the leaves of the views and for what they train, each once."""
        trained = np.concatenate([view.trained for view in self.views])
        return fingerprint(_leaves(self.views), distinct(trained))

    def thoughts(self) -> Thoughts:
        """Count trained tokens by message, each once: reasoning at least and at most, and all."""
        counted: Thoughts = {}
        known: set[bytes] = set()
        shared = len(distinct(np.concatenate([view.trained for view in self.views])))
        all_apart = shared == sum(len(view.trained) for view in self.views)
        for view in self.views:
            new = np.ones(len(view.trained), bool)
            if not all_apart:
                paths = [path.tobytes() for path in view.trained]
                new = np.array([path not in known for path in paths], bool)
                known.update(paths)
            least, most = (int(new[:end].sum()) for end in view.thought)
            counted[view.message] = (least, most, int(new.sum()))
        return {message: numbers for message, numbers in counted.items() if numbers[2]}


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
    template, rules = load_rules(manifest, loaded)
    if (found := template.sha256) != manifest.template_sha256:
        what = f"SHA-256 {found}, expected {manifest.template_sha256}"
        findings.add(Finding("RP302", template.name, what))
    if findings.total > before:
        return None
    read, units = plan(files)
    known = {(each.path, each.sha256) for each in manifest.inputs}
    for each in read:
        if (each.name, each.sha256) not in known:
            findings.warnings.append(f"{each.name}: not the bytes that were packed.")
    reading = _reading(manifest, template)
    return Source([place for place, _ in files], units, manifest, loaded, reading, rules)


def taken(source: Source) -> list[str]:
    """Name what of the views is as the manifest says, and not found out here."""
    options, rules = source.manifest.options, source.rules
    named = {
        "the thinking switch": any(each.thinking != ({}, {}) for each in rules),
        "the delimiters of reasoning": any(each.opener or each.closer for each in rules),
        "stated stop tokens": any(any(each.stated) for each in rules),
        "the template's variables": options.chat_template_kwargs != "{}",
        "train_on": options.train_on != "all",
        "missing_reasoning": options.missing_reasoning != "skip-loss",
        "train_empty_think": options.train_empty_think,
        "on_message_error": options.on_message_error != "reject",
        "ignored or renamed fields": bool(options.ignore_fields or options.field),
        "stray_closing_tag": options.stray_closing_tag != "refuse",
        "null_arguments": options.null_arguments != "refuse",
    }
    return [name for name, is_so in named.items() if is_so]


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
        raise TokenizerError(
            error.where,
            error.what,
            error.expected,
            f"{error.fix}; if it has moved, pass --tokenizer",
        ) from error


def _reading(manifest: Manifest, template: ChatTemplate) -> Reading:
    """Take from the manifest how records are to be read."""
    options = manifest.options
    return Reading(
        ignored=frozenset(options.ignore_fields),
        renamed=dict(each.split("=", 1) for each in options.field),
        stray_tag=options.stray_closing_tag,
        null_arguments=options.null_arguments,
        last_turn=options.train_on == "last-turn",
        closers=tuple(each.closer.strip() for each in manifest.templates if each.closer.strip()),
        prompt_opens=all(each.prompt_opener for each in manifest.templates),
        template=template.source,
    )


# --- records ---------------------------------------------------------------------------


def records(source: Source) -> Iterator[Record]:
    """Read all records, in the order of the inputs."""
    for unit in source.units:
        yield from read_records(unit, source.places[unit.input])


def decoded(record: Record, reading: Reading) -> dict[str, Any]:
    """Decode a record's JSON; a row of Parquet loses the keys that are null.

    Raises:
        RecordError: it is no JSON object, or a field cannot have the name that the run gave it.
    """
    value = _without_nulls(record.row) if record.row is not None else decode(record.line)
    if not isinstance(value, dict):
        raise RecordError("type", "", "expected an object", fix="Write one.")
    try:
        return renamed(value, reading.renamed, OF_A_RECORD)
    except Refused as error:
        raise RecordError("conflict", "", str(error), fix="Keep one of the two.") from error


def _without_nulls(value: Any) -> Any:
    """Leave out keys whose value is null, which Parquet gives to every row; not in arguments."""
    if isinstance(value, dict):
        return {
            key: below if key in ("arguments", "input") else _without_nulls(below)
            for key, below in value.items()
            if below is not None
        }
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def rebuild(source: Source, record: dict[str, Any], *, row: bool = False) -> Rebuilt:
    """Build the views of a decoded record and encode them, or say why that cannot be."""
    if not source.manifest.templates:
        return Rebuilt(unknown="an older manifest, without the template's switch and delimiters")
    try:
        chat = read_chat(record, replace(source.reading, row=row))
        built = build_views(chat, source.rules[bool(chat.tools)])
    except NotChecked as unknown:
        return Rebuilt(unknown=str(unknown))
    except Refused as error:
        cause = error.__cause__  # JSON text within the record
        reason = cause.reason if isinstance(cause, RecordError) else "record"
        return Rebuilt(reason=reason, error=str(error))
    characters = max(len(view.prompt) + len(view.completion) for view in built.views)
    most = max(LONGEST_TEXT, CHARACTERS_OF_A_TOKEN * (source.manifest.max_position or 0))
    if characters > most:
        # Overlong whatever its tokens are; such a text can take for ever to encode.
        return Rebuilt(reason="overlong", error=f"a view of {characters:,} characters")
    views = tuple(_encode(view, source.tokenizer) for view in built.views)
    made = Rebuilt(views, built.untrained, doubt=built.doubt, stops=built.stops)
    return replace(made, contradictions=built.contradictions)


def _encode(view: TextView, tokenizer: Tokenizer) -> TokenView:
    prompt = tokenizer.reference.encode(view.prompt, add_special_tokens=False).ids
    completion = tokenizer.reference.encode(view.completion, add_special_tokens=False)
    least, most = view.thought
    whole = sum(end <= least for _, end in completion.offsets) if most else 0
    touched = sum(begin < most for begin, _ in completion.offsets)
    ids = np.array(prompt + completion.ids, np.int32)
    paths = view_paths(ids, len(prompt))
    return TokenView(view.message, ids, len(prompt), paths, (whole, touched))


# --- rejects ---------------------------------------------------------------------------


def why_rejected(rebuilt: Rebuilt, manifest: Manifest) -> str:
    """Return the reason for which a conversation cannot be packed; empty if it can."""
    if rebuilt.reason:
        return rebuilt.reason
    views, onepass = rebuilt.views, manifest.layout == "onepass"
    if any(view.prompt_length == 0 for view in views):
        return "view"
    longest = sample = max(len(view.ids) for view in views)
    if onepass:
        sample = len(distinct(np.concatenate([view.paths.seen for view in views])))
        sample += _copies(views)
    limits = ((manifest.max_position, longest), (manifest.options.max_length, sample))
    too_long = any(limit is not None and length > limit for limit, length in limits)
    return "overlong" if too_long else ""


def _copies(views: Sequence[TokenView]) -> int:
    """Count how often a onepass sample repeats a token, for a further trained token behind it."""
    seen = np.concatenate([view.paths.seen for view in views])
    before = np.concatenate([np.pad(view.paths.seen[:-1], ((1, 0), (0, 0))) for view in views])
    trained = np.concatenate([view.paths.trained for view in views])
    return len(distinct(seen[trained])) - len(distinct(before[trained]))
