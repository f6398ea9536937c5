"""The manifest, which describes a finished dataset.

A directory without a manifest is an unfinished run, and every reader refuses it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from reasonpack.choices import Layout
from reasonpack.datasets.options import Options, Positive
from reasonpack.datasets.receipt import Counts, Natural, Sha256, Shard
from reasonpack.errors import FormatError
from reasonpack.rows.schema import check_format_version
from reasonpack.storage.place import Place, join, public_name
from reasonpack.storage.read import read_bytes
from reasonpack.templates.stop import Stop

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
SAMPLES = "samples.html"
BY_CONTENT = {"tokenizer", "revision", "chat_template"}
"""Options that only say where something is; the plan has the hashes of its content."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input file, as the user named it."""

    path: str
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An argument that names inputs, and how much of them is packed.

    Attributes:
        path: the file or directory, as the user named it.
        files: how many of the manifest's `inputs` it names; they are consecutive.
        repeat: how many times each of its conversations is packed; for a fraction, some once more.
        conversations: how many of its conversations are packed; None if `repeat` decides.
    """

    path: str
    files: Natural = 1
    repeat: float = 1.0
    conversations: Natural | None = None

    @property
    def is_whole(self) -> bool:
        """Whether each conversation is packed once."""
        return self.conversations is None and self.repeat == 1.0


@dataclass(frozen=True, slots=True)
class Origin:
    """A dataset that was packed again, as the user named it, and the SHA-256 of its manifest."""

    path: str
    manifest_sha256: Sha256


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of a template: fields of `Behaviour`, as plan and manifest have them.

    `template` is its name, `template_sha256` the hash of its source. `thinking` and `not_thinking`
    are template variables, as JSON objects in text.
    """

    template: str
    template_sha256: Sha256
    thinking: str
    not_thinking: str
    prompt_opener: str
    opener: str
    closer: str
    answer_stop: Stop
    call_stop: Stop

    def __post_init__(self) -> None:
        """Refuse variables that are not JSON objects."""
        for text in (self.thinking, self.not_thinking):
            _check_object(text)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a finished dataset; `schemas/manifest.schema.json` explains the fields.

    `columns` are the optional columns, `sources` the datasets that it was repacked from. `blend`
    has all arguments that named inputs, if one of them says how much of it is packed. `unit_bytes`
    is the approximate size of a unit; 0 if the `sources` have different ones.
    """

    format_version: str
    library_version: str
    layout: Layout
    options: Options
    max_position: Positive | None
    tokenizer_sha256: Sha256
    template_sha256: Sha256
    plan_sha256: Sha256
    content_hash: Sha256
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    shards: list[Shard]
    counts: Counts
    templates: list[Learned] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    sources: list[Origin] = field(default_factory=list)
    blend: list[Share] = field(default_factory=list)
    unit_bytes: Natural = 0

    def __post_init__(self) -> None:
        """Refuse options that no run can have had, because readers parse them."""
        options = self.options
        if options.layout != self.layout:
            raise ValueError(f"layout {self.layout}, and {options.layout} in the options")
        for text in (options.chat_template_kwargs, options.template_behaviour):
            _check_object(text)
        if options.date is not None:
            datetime.date.fromisoformat(options.date)
        for pair in (*options.field, *options.role, *options.split):
            if not re.fullmatch(r"[^=]+=[^=]+", pair):
                raise ValueError(f"{pair!r} in the options is no name, = and value")
        for share in (each.partition("=")[2] for each in options.split):
            if not 0 < float(share) < 1:
                raise ValueError(f"the share {share} in the options is not between 0 and 1")


def _check_object(text: str) -> None:
    """Refuse a text that is not a JSON object."""
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{text[:80]!r} is no JSON object as text")


def read_manifest(directory: Place) -> Manifest:
    """Read the manifest of a finished dataset.

    Raises:
        FormatError: there is none, it is damaged, or of an unknown major version.
    """
    place = join(directory, MANIFEST)
    name = public_name(place)
    content = read_bytes(place)
    if content is None:
        raise FormatError(
            name, "no such file", "a finished dataset", "check the path, or run pack to its end"
        )
    try:
        head = msgspec.json.decode(content)
        check_format_version(head.get("format_version"), name)
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(name, error, "a manifest", "pack again with --overwrite") from error


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Return `plan_sha256`: the hash of those parts of a plan that a resumed run must share."""

    def without(value: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
        return {name: each for name, each in value.items() if name not in names}

    content = without(plan, {"sha256"}) | {"options": without(plan["options"], BY_CONTENT)}
    for name, left_out in ("inputs", "stamp"), ("templates", "template"):
        if name in plan:
            content[name] = [without(each, {left_out}) for each in plan[name]]
    return json_hash(content)


def json_hash(value: Any) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
