"""The source of a dataset → views in tokens, with the options of the manifest.

    chats.jsonl ─→ Record ─→ Chat ─→ views in text ─→ each prompt and completion
                                                           through the tokenizer ─→ Rebuilt

Shared with pack: finding and decoding the files of the input, of the tokenizer and of the template.
Written again here: reading messages, the stop token, views and their tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.shares import STDIN, read_share
from reasonpack.errors import RecordError, TemplateError, TokenizerError, UsageError
from reasonpack.records.plan import plan
from reasonpack.records.strict_json import decode
from reasonpack.records.unit import Record, Unit, read_records
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, public_name
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer
from reasonpack.verify.answer_parts import parts_of
from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.encoding import TokenView, encode, too_long, too_long_text
from reasonpack.verify.fields import is_finite, renamed, without_nulls
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.reader import read_chat
from reasonpack.verify.rebuilt import Rebuilt, not_rebuilt
from reasonpack.verify.record_names import ARGUMENTS, OF_A_RECORD, TOOLS
from reasonpack.verify.view_rules import Rules, load_rules
from reasonpack.verify.views import build_views
from reasonpack.wording import count

LAST = ("last-turn", "last-message")


class Source(Struct, frozen=True):
    """The input files, and how the manifest says that they were read and rendered.

    `files` are places and names; `rules` are for conversations without tools, and with tools.
    """

    files: list[tuple[Place, str]]
    units: list[Unit]
    manifest: Manifest
    tokenizer: Tokenizer
    reading: Reading
    rules: tuple[Rules, Rules]


# --- what the manifest names -----------------------------------------------------------


def load_source(
    inputs: Sequence[str], manifest: Manifest, tokenizer: str | None, findings: Findings
) -> Source | None:
    """Find the inputs, load tokenizer and templates; None if they are not the dataset's.

    Inputs may have the shares they were packed with, or none. Differences go to `findings`.

    Raises:
        ReasonpackError: something cannot be loaded.
    """
    before = findings.total
    places = [_without_share(given, manifest) for given in inputs]
    files = _name_inputs(expand_inputs(places), manifest, findings)
    loaded = _load_tokenizer(manifest, tokenizer)
    hashes = loaded.sha256, manifest.tokenizer_sha256
    findings.compare("RP301", loaded.source, "SHA-256", *hashes)
    template, rules = _load_rules(manifest, loaded)
    hashes = template.sha256, manifest.template_sha256
    findings.compare("RP302", template.name, "SHA-256", *hashes)
    if findings.total > before:
        return None
    read, units = plan(files)
    known = {(each.path, each.sha256) for each in manifest.inputs}
    for each in read:
        if (each.name, each.sha256) not in known:
            findings.warnings.append(f"{each.name}: not the bytes that were packed.")
    reading = _reading(manifest, template)
    return Source(files, units, manifest, loaded, reading, rules)


def taken_from_manifest(source: Source) -> list[str]:
    """Name the settings that are taken from the manifest without a check, for `Findings.taken`."""
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
        "ignored or renamed fields": bool(options.ignore_fields or options.field or options.role),
        "stray_closing_tag": options.stray_closing_tag != "refuse",
        "null_arguments": options.null_arguments != "refuse",
        "loss_weights": options.loss_weights not in ("auto", "none"),
    }
    return [name for name, is_so in named.items() if is_so]


def _without_share(given: str, manifest: Manifest) -> str:
    """Return the path of an input without its share: a.jsonl for a.jsonl:2.0.

    Raises:
        UsageError: it is standard input, or the dataset was packed with other shares.
    """
    share = read_share(given)
    if share.path == STDIN:
        fix = "write it to a file, and name that"
        raise UsageError("--against", "standard input", "files", fix)
    known = {(each.repeat, each.conversations) for each in manifest.blend} or {(1.0, None)}
    if not share.is_whole and (share.repeat, share.conversations) not in known:
        shares = sorted(f"#{number}" if number else f":{repeat:g}" for repeat, number in known)
        what = "a share that DIR was not packed with"
        fix = f"name {public_name(share.path)} without a share: the manifest holds it"
        raise UsageError(f"--against {public_name(given)}", what, ", ".join(shares), fix)
    return share.path


def _name_inputs(
    places: Sequence[Place], manifest: Manifest, findings: Findings
) -> list[tuple[Place, str]]:
    """Return each file with its name in the manifest: found by name, or else by order.

    Ids and rejects contain these names, and their order decides which duplicate is kept.
    """
    names = [each.path for each in manifest.inputs]
    by_name: dict[str, list[Place]] = {}
    for place in places:
        by_name.setdefault(public_name(place), []).append(place)
    if sorted(map(public_name, places)) == sorted(names):
        return [(by_name[name].pop(0), name) for name in names]
    if len(places) != len(names):
        more = ", …" if len(names) > 5 else ""
        what = f"{count(len(places), 'file')}, expected {len(names)}: {', '.join(names[:5])}{more}"
        findings.report("RP303", "inputs", what)
    return list(zip(places, names, strict=False))


def _load_tokenizer(manifest: Manifest, tokenizer: str | None) -> Tokenizer:
    if tokenizer is not None:
        return load_tokenizer(tokenizer)
    options = manifest.options
    try:
        return load_tokenizer(options.tokenizer, revision=options.revision)
    except TokenizerError as error:
        fix = f"{error.fix}; if it has moved, pass --tokenizer"
        raise TokenizerError(error.where, error.what, error.expected, fix) from error


def _load_rules(
    manifest: Manifest, tokenizer: Tokenizer
) -> tuple[ChatTemplate, tuple[Rules, Rules]]:
    try:
        return load_rules(manifest, tokenizer)
    except (UsageError, TemplateError) as error:
        fix = "put the template there that the dataset was packed with"
        raise type(error)(error.where, error.what, error.expected, fix) from error


def _reading(manifest: Manifest, template: ChatTemplate) -> Reading:
    """Return how records are to be read, by the manifest."""
    options = manifest.options
    return Reading(
        ignored=frozenset(options.ignore_fields),
        renamed=dict(each.split("=", 1) for each in options.field),
        roles=dict(each.split("=", 1) for each in options.role),
        stray_tag=options.stray_closing_tag,
        null_arguments=options.null_arguments,
        trained_answers=next((each for each in LAST if each in options.train_on.split(",")), "all"),
        weighs="loss_weights" in manifest.columns and "call_id" not in manifest.columns,
        closers=tuple(each.closer.strip() for each in manifest.templates if each.closer.strip()),
        prompt_opens=all(each.prompt_opener for each in manifest.templates),
        template=template.source,
    )


# --- records ---------------------------------------------------------------------------


def records(source: Source) -> Iterator[Record]:
    """Yield all records, in the order of the inputs."""
    for unit in source.units:
        yield from read_records(unit, source.files[unit.input][0])


def decoded(record: Record, reading: Reading) -> dict[str, Any]:
    """Decode a record's JSON, or take a row of Parquet without nulls, and rename its fields.

    Raises:
        RecordError: it is no JSON object, has a number that JSON has not, or the new name of a
            field has another value already.
    """
    value: Any = decode(record.line) if record.row is None else record.row
    if record.row is not None and not is_finite(value):
        fix = "leave the record out"
        raise RecordError("json", "", "NaN or an infinity", "finite numbers", fix)
    if record.row is not None:
        some = () if reading.null_arguments == "drop" else ARGUMENTS  # which keep their nulls
        kept = {key: () if key in TOOLS else some for key in value if value[key] is not None}
        value = {key: without_nulls(value[key], names) for key, names in kept.items()}
    if not isinstance(value, dict):
        raise RecordError("type", "", f"got {type(value).__name__}", "an object", "write one")
    try:
        return renamed(value, reading.renamed, OF_A_RECORD)
    except Refused as error:
        raise RecordError("conflict", "", str(error), "one", "keep one of the two") from error


def rebuild(source: Source, record: dict[str, Any], *, row: bool = False) -> Rebuilt:
    """Build and encode the views of a decoded record, or return why that cannot be.

    Views that are too long are left out if the run used `--overlong split`.
    """
    manifest, options = source.manifest, source.manifest.options
    if not manifest.templates:
        return Rebuilt(unknown="an older manifest, without the template's switch and delimiters")
    try:
        chat = read_chat(record, replace(source.reading, row=row))
        built = build_views(chat, source.rules[bool(chat.tools)], parts_of(options.train_on))
        if not built.views:
            raise Refused("no message of it is trained")
    except (NotChecked, Refused) as error:
        return not_rebuilt(error)
    divides = options.overlong == "split"
    views, left, long = list[TokenView](), list[LeftOut](), list[TokenView]()
    weights = chat.weights(built.numbers, options.loss_weights)
    for view, (weight, group) in zip(built.views, weights, strict=True):
        if out := too_long_text(view, manifest):
            left.append(out)
            continue
        one = replace(encode(view, source.tokenizer), weight=weight, group=group)
        if divides and (out := too_long(view.message, len(one.ids), manifest)):
            left.append(out)
            long.append(one)
        else:
            views.append(one)
    if left and not (divides and views):
        return Rebuilt(reason="overlong", error=f"a view of {left[0].length:,} {left[0].unit}")
    split = split_of(chat.canonical, options.split)
    return Rebuilt(views, built, left_out=tuple(left), split=split, long=tuple(long))


def split_of(text: bytes, given: Sequence[str]) -> str:
    """Return the split that the hash of a text draws from `given`, entries `NAME=SHARE`.

    The text is `Chat.canonical`, or the id of a group. The split of the rest is `train`.
    """
    drawn = Fraction(int(hashlib.sha256(text).hexdigest()[:16], 16), 1 << 64)
    for name, _, share in (each.partition("=") for each in given):
        if drawn < Fraction(share):
            return name
        drawn -= Fraction(share)
    return "train"
