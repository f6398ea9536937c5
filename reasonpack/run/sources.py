"""Datasets to pack again → the options of the new dataset, if they can be one.

old manifests ─→ same tokenizer, template, layout, columns ─→ options of the new one
                          else: what differs                  limits as given, else the old ones
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from reasonpack.datasets.manifest import MANIFEST, Manifest, Origin, Share, read_manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt, Shard, read_receipt
from reasonpack.datasets.shares import read_share
from reasonpack.errors import FormatError, UsageError
from reasonpack.run.context import check_rows
from reasonpack.storage.place import Place, is_url, join, public_name, stamp
from reasonpack.storage.read import digest
from reasonpack.wording import shown

GIVEN = (
    *("max_length", "max_position", "packing", "max_cost", "format", "compression"),
    *("shuffle", "seed", "loss_weights", "split"),
)
"""Options that may be given anew; one that is not given must be the same in all sources."""
OF_NO_EFFECT = ("tokenizer", "revision", "chat_template", "overlong", "on_error")
"""Options that may differ: the first three name files, the others say what was rejected."""


class Source(Struct, frozen=True):
    """A finished dataset that is packed again.

    Attributes:
        sha256: hash of its manifest.
        units: its receipts, in order.
        share: the share of it that is packed.
    """

    directory: Place
    sha256: str
    manifest: Manifest
    units: list[Receipt]
    share: Share

    @property
    def name(self) -> str:
        """The source's name in messages."""
        return public_name(self.directory)

    @property
    def is_drawn(self) -> bool:
        """Whether it is drawn how often each of its conversations is packed."""
        return self.share.conversations is not None or self.share.repeat % 1 > 0

    @property
    def times(self) -> int:
        """How often each of its conversations is packed; 1 if that is drawn."""
        return 1 if self.is_drawn else int(self.share.repeat)

    @property
    def origin(self) -> Origin:
        """The source's entry in the new manifest."""
        return Origin(self.name, self.sha256)


def read_sources(directories: Sequence[Place]) -> list[Source]:
    """Read datasets, and check that they can become one.

    Raises:
        FormatError: one is not finished, or its receipts do not match its manifest.
        UsageError: they differ in tokenizer, template, columns or options that decide on tokens.
    """
    sources = [_read(directory) for directory in directories]
    _refuse_choices(sources)
    first = sources[0]
    for other in sources[1:]:
        for what, one, two in _compared(first.manifest, other.manifest):
            if one == two:
                continue
            raise UsageError(
                other.name,
                f"{what} {shown(two)}, and {shown(one)} in {first.name}",
                "datasets of one tokenizer, template, layout, columns and reading of messages",
                "pack both the same way, or pack each again by itself",
            )
    return sources


def _refuse_choices(sources: Sequence[Source]) -> None:
    """Refuse to join datasets of --dedup or --sample, and shares of samples or of shares."""
    for source in sources:
        options, name = source.manifest.options, source.name
        if len(sources) > 1 and (options.dedup != "none" or options.sample):
            asked = "--dedup exact" if options.dedup != "none" else f"--sample {options.sample}"
            what = f"packed with {asked}, which chose among the records of its own inputs"
            fix = "pack the inputs of all together, or pack it again by itself"
            raise UsageError(name, what, "datasets of all their records", fix)
        if not source.share.is_whole and (source.manifest.blend or options.sample):
            what = "a share of a dataset with shares of inputs, or a sample of them"
            fix = "pack its inputs with the shares that they are to have"
            raise UsageError(name, what, "a dataset that has each conversation once", fix)


def blend_of(sources: Sequence[Source]) -> list[Share]:
    """Return the share of each input; empty if each conversation is packed once."""
    shares: list[Share] = []
    for source in sources:
        whole = [replace(source.share, path=each.path) for each in source.manifest.inputs]
        shares += source.manifest.blend or whole
    return [] if all(share.is_whole for share in shares) else shares


def _read(named: Place) -> Source:
    share = read_share(str(named))
    directory: Place = share.path if is_url(share.path) else Path(share.path)
    manifest = read_manifest(directory)
    _, sha256 = digest(join(directory, MANIFEST))
    shards: dict[int, list[Shard]] = {}
    for shard in manifest.shards:
        shards.setdefault(shard.unit, []).append(shard)
    receipts = [read_receipt(directory, number) for number in sorted(shards)]
    for receipt in receipts:
        own = shards.get(receipt.unit.number, [])
        if (receipt.plan_sha256, receipt.shards) != (manifest.plan_sha256, own):
            raise FormatError(
                public_name(directory),
                f"the receipt of unit {receipt.unit.number} is not that of its manifest",
                "a sound dataset",
                "copy it again from where it was packed",
            )
    source = Source(directory, sha256, manifest, receipts, share)
    fix = "pack the inputs with that share"
    if source.is_drawn and "call_id" in manifest.columns:
        what = "a share of calls, which are drawn as groups"
        raise UsageError(str(named), what, "a whole number of times, as in DIR:2", fix)
    if share.conversations is not None and len(manifest.inputs) > 1:
        what = f"a number of conversations of {len(manifest.inputs):,} inputs"
        raise UsageError(str(named), what, "a dataset of one input, or a fraction", fix)
    return source


def _compared(one: Manifest, two: Manifest) -> Iterator[tuple[str, object, object]]:
    """Yield the name and both values of all that two datasets must have in common."""
    for name in ("tokenizer_sha256", "template_sha256", "layout", "columns"):
        yield name, getattr(one, name), getattr(two, name)
    for name in (field.name for field in fields(Options)):
        if name not in (*GIVEN, *OF_NO_EFFECT):
            option = "--" + name.replace("_", "-")
            yield option, getattr(one.options, name), getattr(two.options, name)
    yield "what was learned of the template,", _learned(one), _learned(two)


def _learned(manifest: Manifest) -> list[object]:
    return [replace(each, template="") for each in manifest.templates]


# --- options ---------------------------------------------------------------------------


def options_for(sources: Sequence[Source], given: Mapping[str, Any]) -> Options:
    """Return the options with which packing the inputs of all sources afresh gives the same.

    `given` are options of `GIVEN`, with new values.

    Raises:
        UsageError: the sources differ in an option that is not given; a limit that left something
            out would be raised; rows lack what an option needs; or rows to be packed lack a length.
    """
    if any(source.manifest.options.shuffle for source in sources):
        given = {"shuffle": True, **given}  # shuffled datasets stay shuffled
    values = {name: _value(name, sources, given) for name in GIVEN}
    values["split"] = tuple(values["split"])
    if values["format"] != sources[0].manifest.options.format and "compression" not in given:
        values["compression"] = None
    first = sources[0].manifest.options
    on_error = {source.manifest.options.on_error for source in sources}
    options = replace(
        first,
        **values,
        overlong=_overlong(sources),
        on_error="skip" if "skip" in on_error else "stop",
    )
    check_rows(options)
    for source in sources:
        _check_weights(source, options)
        _check_limits(source, options)
        old, scheme = source.manifest.options, options.loss_weights
        by_messages = {
            "--split": options.split != old.split,
            "--loss-weights turn": scheme == "turn" != old.loss_weights,
            "a share": any(each.is_drawn for each in sources),
        }
        if asked := [option for option, is_asked in by_messages.items() if is_asked]:
            _check_inputs(source, asked[0])
    return options


def _check_inputs(source: Source, option: str) -> None:
    """Check that the messages that an option depends on can be read from the inputs.

    Raises:
        UsageError: an input is missing or was altered, or the rows of a unit are shuffled.
    """
    manifest, again = source.manifest, f"pack the inputs again with {option}"
    if manifest.options.shuffle:
        found = f"{source.name} is shuffled, so that its rows are not in the order of its records"
        raise UsageError(option, found, "a dataset that is not shuffled", again)
    for each in manifest.inputs if "call_id" not in manifest.columns else ():
        place: Place = each.path if is_url(each.path) else Path(each.path)
        if stamp(place) is None or digest(place)[1] != each.sha256:
            found = f"{each.path} is missing, or was altered since {source.name} was packed from it"
            expected = f"it as it was, because {option} depends on messages, which rows do not hold"
            raise UsageError(option, found, expected, f"put it there as it was, or {again}")


def _check_weights(source: Source, options: Options) -> None:
    """Refuse new loss weights if the rows do not tell enough to compute them."""
    manifest, scheme = source.manifest, options.loss_weights
    if scheme == manifest.options.loss_weights:
        return
    counts = manifest.counts
    lacking = {
        "the messages of its calls": "call_id" in manifest.columns,
        "the weights of its records, before --loss-weights divided them": "loss_weights"
        in manifest.columns,
        "the records that were rejected for their weights": "weight" in counts.rejects,
        "the trained tokens of messages that were left out": scheme != "message"
        and bool(counts.left_out),
    }
    for what, is_lacking in lacking.items():
        if is_lacking:
            option = f"--loss-weights {scheme}"
            found = f"{source.name} does not hold {what}"
            fix = f"pack the inputs again with {option}"
            raise UsageError(option, found, "a dataset that does", fix)


def _value(name: str, sources: Sequence[Source], given: Mapping[str, Any]) -> Any:
    if name in given:
        return given[name]
    first = getattr(sources[0].manifest.options, name)
    for other in sources[1:]:
        if (value := getattr(other.manifest.options, name)) != first:
            option = "--" + name.replace("_", "-")
            found = f"{shown(first)} in {sources[0].name}, {shown(value)} in {other.name}"
            raise UsageError(option, found, "the same in all", f"pass {option}")
    return first


def _overlong(sources: Sequence[Source]) -> Any:
    """Return `split`, the default, unless a source has rejected conversations as too long."""
    rejecting = [each for each in sources if each.manifest.counts.rejects.get("overlong")]
    if not rejecting:
        return "split"
    chosen = rejecting[0].manifest.options.overlong
    for other in sources:
        counts, mine = other.manifest.counts, other.manifest.options.overlong
        did_something = counts.extra_samples or not counts.reasons.isdisjoint(LIMITS)
        if mine != chosen and did_something:
            what = f"packed with --overlong {mine}, and {rejecting[0].name} with {chosen}"
            expected = "the same in both, because some conversations were too long"
            fix = "pack the inputs of one again with the --overlong of the other"
            raise UsageError(other.name, what, expected, fix)
    return chosen


LIMITS = {
    "over-max-length": ("max_length",),
    "over-max-position": ("max_position",),
    "overlong": ("max_length", "max_position"),
}
"""The limits that may have left something out, by the reason that is counted."""


def _check_limits(source: Source, options: Options) -> None:
    """Refuse to raise a limit that left something out of a source: the rows do not have that."""
    manifest = source.manifest
    old = {"max_length": manifest.options.max_length, "max_position": manifest.max_position}
    new = {"max_length": options.max_length, "max_position": longest_view([source], options)}
    counted = {**manifest.counts.rejects, **manifest.counts.left_out}
    for reason in sorted(counted.keys() & LIMITS.keys()):
        for name in LIMITS[reason]:
            before, after = old[name], new[name]
            if before is not None and (after is None or after > before):
                lost = f"what was longer than {before} ({counted[reason]:,} {reason})"
                found = f"{after or 'no limit'}, but {source.name} lacks {lost}"
                expected, fix = f"at most {before}", "pack the inputs again with the longer limit"
                raise UsageError("--" + name.replace("_", "-"), found, expected, fix)


def longest_view(sources: Sequence[Source], options: Options) -> int | None:
    """Return the most tokens of a view, as `pack` does: --max-position, the model's limit, a row.

    Raises:
        UsageError: the limit is not the same for all sources.
    """
    found = {source.name: _longest_view(source.manifest, options) for source in sources}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{shown(limit)} in {name}" for name, limit in found.items())
        raise UsageError("--max-position", said, "the same in all", "pass --max-position")
    return next(iter(found.values()))


def _longest_view(manifest: Manifest, options: Options) -> int | None:
    if options.max_position is not None:
        return options.max_position
    by_row = manifest.options.max_position is None and (
        manifest.max_position == manifest.options.max_length
    )
    return options.max_length if by_row else manifest.max_position
