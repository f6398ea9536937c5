"""The plan of a run, `plan.json`, written before its first unit.

    options, hashes of tokenizer and templates, hashes of inputs, library version, units
                                 └──────────── SHA-256 ────────────┘

A run that finds a plan in its output directory goes on with it if its own plan has the same
hash, and otherwise says what differs. Files are compared by content: a copy of an input on
another machine is the same input, a file of the same size with other chats is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.datasets.manifest import BY_CONTENT, Learned, Origin, Share, plan_hash
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import shard_path
from reasonpack.errors import FormatError
from reasonpack.records.group_index import Grouped, Grouping
from reasonpack.records.groups import read_entries
from reasonpack.records.plan import InputFile, vouches
from reasonpack.records.unit import Unit, content_kind
from reasonpack.rows.schema import FORMAT_VERSION, planned
from reasonpack.run.call_plan import INDEX, PlannedCalls
from reasonpack.run.copies import Copies
from reasonpack.storage.place import Place, full_stamp, join, public_name, stamp
from reasonpack.storage.publish import publish_text
from reasonpack.storage.read import digest, read_bytes
from reasonpack.wording import shown

PLAN = "plan.json"


class Plan(Struct, frozen=True):
    """Everything that the bytes of a dataset depend on, and its work units.

    Attributes:
        options: as given, but without passwords in URLs.
        max_position: longest view allowed, wherever the limit came from.
        hashes: SHA-256 of tokenizer, template and the like, by their names.
        templates: what was learned about the chat template, and the one for tools if it differs.
        columns: optional columns that every shard has, whatever is in its rows.
        grouping: how calls are grouped; None for chats.
        inputs: the files, in order.
        units: the units that the inputs are cut into.
        sha256: hash of all fields, without paths of tokenizer and template, and times of inputs.
        sources: datasets that are packed again, to which `inputs` then belong.
        blend: share of each input; empty if each conversation is packed once.
        copies: how often each record is packed; None for once.
        grouped_by: for calls that are packed again, the field that grouped each input's records.
    """

    format_version: str
    library_version: str
    options: Options
    unit_bytes: int
    max_position: int | None
    hashes: dict[str, str]
    templates: list[Learned]
    columns: list[str]
    grouping: Grouping | None
    inputs: list[InputFile]
    units: list[Unit]
    sha256: str
    sources: list[Origin] = field(default_factory=list)
    blend: list[Share] = field(default_factory=list)
    copies: Copies | None = None
    grouped_by: list[str] = field(default_factory=list)

    def shard_paths(self, unit: Unit) -> list[str]:
        """Return the paths of the shards that a unit may have, that of `train` first."""
        count, suffix = len(self.units), self.options.format
        return [
            shard_path(unit.number, units=count, suffix=suffix, split=split)
            for split in self.options.splits
        ]


def new_plan(options: Options, **fields_: Any) -> Plan:
    """Make a plan with these fields, the version of this package, and its own hash."""
    template = options.chat_template
    public = dataclasses.replace(  # without user, password and query in URLs
        options,
        tokenizer=public_name(options.tokenizer),
        chat_template=None if template is None else public_name(template),
    )
    found = Plan(FORMAT_VERSION, version("reasonpack"), options=public, sha256="", **fields_)
    return sealed_plan(found)


def planned_columns(options: Options, inputs: Sequence[InputFile] = ()) -> tuple[str, ...]:
    """Return the optional columns of a run of chats, in the order of a shard.

    They depend on options and on all inputs, which are searched for weights while they are hashed,
    never on the records of a unit.
    """
    found = ["loss_weights"] if any(input_.weighted for input_ in inputs) else []
    return planned([*options.columns, *(found if options.loss_weights == "auto" else ())])


GROUPED_BY = (
    *("input_format", "group_by", "max_group_bytes", "call_columns", "field", "ignore_fields"),
)
"""Options that say how calls are grouped, and which columns they need."""


def known_calls(
    known: Plan | None,
    files: Sequence[tuple[Place, str]],
    options: Options,
    *,
    unit_bytes: int,
    output: Place,
) -> PlannedCalls | None:
    """Return the calls of an earlier plan; None if options, files or index have changed."""
    if known is None or known.grouping is None or known.unit_bytes != unit_bytes:
        return None
    alike = all(getattr(known.options, name) == getattr(options, name) for name in GROUPED_BY)
    if not alike or [name for _, name in files] != [input_.name for input_ in known.inputs]:
        return None
    for (place, name), input_ in zip(files, known.inputs, strict=True):
        now = full_stamp(place)
        if now is None or not vouches(input_.stamp, now):
            return None
        if content_kind(place, name) not in {"plain", "array"}:
            return None  # its unpacked copy is gone
    index = join(output, INDEX)
    if stamp(index) is None or digest(index)[1] != known.grouping.sha256:
        return None
    entries = read_entries(index, 0, known.grouping.records)
    places = [place for place, _ in files]
    size = sum(unit.input_bytes for unit in known.units)
    columns = {*known.columns}
    grouped = Grouped(known.inputs, places, entries, known.units, known.grouping, size, columns)
    return grouped, tuple(known.columns)


def known_inputs(known: Plan | None, unit_bytes: int) -> dict[str, tuple[InputFile, list[Unit]]]:
    """Return the inputs of a plan by name, each with its units; none for calls or other units."""
    if known is None or known.unit_bytes != unit_bytes or known.grouping is not None:
        return {}
    units: dict[int, list[Unit]] = {}
    for unit in known.units:
        units.setdefault(unit.input, []).append(unit)
    return {each.name: (each, units.get(at, [])) for at, each in enumerate(known.inputs)}


def sealed_plan(plan_: Plan) -> Plan:
    """Return a plan with its own hash in `sha256`."""
    return replace(plan_, sha256=plan_hash(msgspec.to_builtins(plan_)))


def differences(there: Plan, here: Plan) -> list[str]:
    """Return how two plans differ, in a few words each; nothing if their hashes are equal."""
    if there.sha256 == here.sha256:
        return []
    found = [*_option_differences(there, here), *_input_differences(there.inputs, here.inputs)]
    return found or ["the input is cut into other units"]


def _option_differences(there: Plan, here: Plan) -> Iterator[str]:
    if there.library_version != here.library_version:
        yield f"reasonpack {there.library_version} there, {here.library_version} here"
    if there.format_version != here.format_version:
        yield f"format version {there.format_version} there, {here.format_version} here"
    for name in (each.name for each in dataclasses.fields(Options)):
        old, new = getattr(there.options, name), getattr(here.options, name)
        if old != new and name not in BY_CONTENT:
            yield f"--{name.replace('_', '-')} {shown(old)} there, {shown(new)} here"
    if there.unit_bytes != here.unit_bytes:
        yield f"--unit-size {there.unit_bytes} there, {here.unit_bytes} here"
    if there.max_position != here.max_position:
        yield f"longest view {shown(there.max_position)} there, {shown(here.max_position)} here"
    for what in sorted(there.hashes.keys() | here.hashes.keys()):
        if there.hashes.get(what) != here.hashes.get(what):
            yield f"another {what}"
    if there.columns != here.columns:
        yield f"optional columns {shown(there.columns)} there, {shown(here.columns)} here"
    for name, what in (
        ("grouping", "the records are grouped otherwise"),
        ("blend", "other shares of the inputs"),
        ("sources", "other datasets are packed again"),
        ("templates", "something else was learned of the chat template"),
    ):
        if getattr(there, name) != getattr(here, name):
            yield what


def _input_differences(there: Sequence[InputFile], here: Sequence[InputFile]) -> Iterator[str]:
    old = {input_.name: input_.sha256 for input_ in there}
    new = {input_.name: input_.sha256 for input_ in here}
    yield from (f"{name} is no input here" for name in old if name not in new)
    yield from (f"{name} is no input there" for name in new if name not in old)
    yield from (f"{name} has changed" for name in old if new.get(name, old[name]) != old[name])
    if old == new and list(old) != list(new):
        yield "the inputs are in another order"


def write_plan(output: Place, plan_: Plan) -> None:
    """Write the plan of a run to its output directory."""
    text = msgspec.json.format(msgspec.json.encode(plan_)).decode() + "\n"
    publish_text(join(output, PLAN), text)


def read_plan(output: Place) -> Plan | None:
    """Read the plan in an output directory; None if there is none.

    Raises:
        FormatError: it was altered, cut off, or written by another version.
    """
    place = join(output, PLAN)
    content = read_bytes(place)
    if content is None:
        return None
    writer = None
    try:
        writer = msgspec.json.decode(content).get("library_version")
        found = msgspec.json.decode(content, type=Plan)
        if found.sha256 == plan_hash(msgspec.to_builtins(found)):
            return found
        reason = "its content does not have the hash that it gives"
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
    if writer not in {None, version("reasonpack")}:
        reason = f"it was written by reasonpack {writer}, this is {version('reasonpack')}"
    fix = "use the version that began the run, or pack again with --overwrite"
    raise FormatError(public_name(place), reason, "the plan of a run of this version", fix)
