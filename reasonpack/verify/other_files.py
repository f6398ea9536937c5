"""The files of a dataset other than its shards → findings where they contradict the manifest."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import msgspec
from msgspec import Struct, field

from reasonpack.datasets.manifest import Learned, Origin, Share, plan_hash
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt, place_of, receipt_path
from reasonpack.errors import StorageError
from reasonpack.rows.content_hash import combined_hash
from reasonpack.storage.place import file_names, is_url, join
from reasonpack.storage.read import digest, open_file, read_bytes
from reasonpack.verify.card import check_card
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import MINOR, Dataset, parse_version, read_rejects, unreadable
from reasonpack.wording import count

SHARD_SUFFIXES = (".parquet", ".arrow")
BLOCK = 1 << 20
SIZES = ("rows", "tokens")
TOP = {
    *("manifest.json", "README.md", "plan.json", "groups.index", "copies.index"),
    *("rejects.jsonl", "samples.html"),
}


class _Unit(Struct, frozen=True):
    input: int
    name: str


class _PlannedInput(Struct, frozen=True):
    name: str
    bytes: int
    sha256: str


class _Plan(Struct, frozen=True):
    """The fields of plan.json that the manifest repeats."""

    library_version: str
    options: Options
    max_position: int | None
    hashes: dict[str, str]
    inputs: list[_PlannedInput]
    units: list[_Unit]
    sha256: str
    columns: list[str] = field(default_factory=list)
    templates: list[Learned] = field(default_factory=list)
    sources: list[Origin] = field(default_factory=list)
    blend: list[Share] = field(default_factory=list)
    unit_bytes: int = 0


def check_other_files(dataset: Dataset, findings: Findings) -> None:
    """Check file names, links, card, plan, counts and rejects: all but the shards."""
    _check_names(dataset, findings)
    _check_links(dataset, findings)
    check_card(dataset, findings)
    _check_plan(dataset, findings)
    _check_sums(dataset, findings)
    _check_rejects(dataset, findings)


def _known(dataset: Dataset) -> set[str]:
    """Return the paths of all files that a dataset may have, optional ones included."""
    receipts = [receipt_path(unit) for unit in dataset.units]
    rejects = [name.replace(".json", ".rejects.jsonl") for name in receipts]
    return {*TOP, *(shard.path for shard in dataset.manifest.shards), *receipts, *rejects}


def _check_names(dataset: Dataset, findings: Findings) -> None:
    """Find files that are not part of the dataset, and temporary files of a killed run."""
    directory, known = dataset.directory, _known(dataset)
    names = {
        folder: file_names(join(directory, folder), folders=True) for folder in ("data", "receipts")
    }
    everything = file_names(directory) + [f"{each}/{n}" for each in names for n in names[each]]
    for name in everything:
        folder, _, own = name.rpartition("/")
        if own.startswith(".") and own.endswith(".tmp"):
            findings.warnings.append(f"{name}: left by a run that was stopped. Fix: remove it.")
        elif name in known or own.startswith("."):
            continue
        elif not folder:
            findings.warnings.append(f"{name}: no file of the dataset.")
        else:
            code = "RP005" if own.endswith(SHARD_SUFFIXES) else "RP019"
            code = "RP011" if folder == "receipts" and own.endswith(".json") else code
            findings.report(code, name, "is of no shard in the manifest, expected no such file")


def _check_links(dataset: Dataset, findings: Findings) -> None:
    """Find links to targets outside of the directory, which a copy of the dataset would lack.

    If every file of the dataset is such a link, as in a hub's cache, that is only a warning.
    """
    if is_url(dataset.directory):
        return
    home, known = os.path.realpath(dataset.directory), _known(dataset)
    out: list[str] = []
    there = 0
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 (as os.walk gives them)
            relative, target = os.path.relpath(path, home), os.path.realpath(path)
            there += relative in known
            if os.path.islink(path) and os.path.commonpath([home, target]) != home:  # noqa: PTH114
                out.append(relative)
    own = known.intersection(out)
    if own and len(own) == there:
        what = f"each of {count(there, 'file')} is a link: copy what it leads to as well."
        findings.warnings.append(what)
        out = [each for each in out if each not in own]
    for relative in out:
        what = "a link that leads out of the dataset, expected the file itself"
        findings.report("RP020", relative, what)


def _check_plan(dataset: Dataset, findings: Findings) -> None:
    """Check that plan.json agrees with the manifest and with the units of the receipts."""
    name, manifest = "plan.json", dataset.manifest
    content = read_bytes(join(dataset.directory, name))
    try:
        plan = msgspec.json.decode(content or b"", type=_Plan)
        sealed = msgspec.json.decode(content or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        findings.report("RP022", name, unreadable(content, error, "the dataset's plan"))
        return
    inputs = [(each.path, each.bytes, each.sha256) for each in manifest.inputs]
    known = dict(enumerate(each.name for each in plan.inputs))
    names = [known.get(unit.input, "") for unit in plan.units]
    units = [
        unit if receipt is None else msgspec.to_builtins(receipt.unit)
        for unit, receipt in zip(sealed["units"], dataset.receipts, strict=False)
    ]
    newer = parse_version(manifest.format_version)[1] > MINOR  # its hash may cover other fields
    hashes = [plan.hashes.get(each) for each in ("tokenizer", "template")]
    for what, found, expected in (
        ("sha256", plan.sha256, manifest.plan_sha256),
        ("content of hash", plan.sha256 if newer else plan_hash(sealed), plan.sha256),
        ("library_version", plan.library_version, manifest.library_version),
        ("max_position", plan.max_position, manifest.max_position),
        ("unit_bytes", manifest.unit_bytes and plan.unit_bytes, manifest.unit_bytes),
        ("hashes", hashes, [manifest.tokenizer_sha256, manifest.template_sha256]),
        ("templates", plan.templates if manifest.templates else [], manifest.templates),
        ("units of receipts", units, sealed["units"][: len(units)]),
        *(
            (f"option {name}", getattr(plan.options, name), getattr(manifest.options, name))
            for name in (each.name for each in fields(Options))
        ),
        ("inputs", [(each.name, each.bytes, each.sha256) for each in plan.inputs], inputs),
        ("columns", plan.columns, manifest.columns),
        ("sources", plan.sources, manifest.sources),
        ("blend", plan.blend, manifest.blend),
        ("number of units", len(plan.units), len(dataset.units)),
        ("names of units", [unit.name for unit in plan.units], names),
    ):
        findings.compare("RP022", name, what, found, expected, "as in the manifest")


def _check_sums(dataset: Dataset, findings: Findings) -> None:
    """Check that the manifest's counts agree with each other and with those of the receipts."""
    manifest, counts = dataset.manifest, dataset.manifest.counts
    found, name = counts.flat(), "manifest.json"
    receipts = [receipt for receipt in dataset.receipts if receipt is not None]
    if len(receipts) < len(dataset.units):
        sums = {each: sum(getattr(shard, each) for shard in manifest.shards) for each in SIZES}
        by = "as in the shards"
    else:
        summed, noted = Counter[str](), Counter[str]()
        for receipt in receipts:
            summed.update(receipt.counts.flat())
            noted.update(receipt.counts.notes)
        sums, by = {each: summed[each] for each in sorted({*summed, *found})}, "as in the receipts"
        notes = Counter(counts.notes)
        if "more" in notes:  # the manifest has no more of them one by one
            notes, noted = (Counter({"all": each.total()}) for each in (notes, noted))
        findings.compare("RP014", name, "counts.notes", notes, noted, by)
        examples: dict[str, str] = {}
        for kind, said in (each for one in receipts for each in one.counts.examples.items()):
            examples[kind] = min(said, examples.get(kind, said))
        findings.compare("RP014", name, "counts.examples", counts.examples, examples, by)
    for each, number in sums.items():
        findings.compare("RP014", name, f"counts.{each}", found[each], number, by)
    both = found["conversations"], found["packed"] + found["rejected"]
    findings.compare("RP014", name, "counts.conversations", *both, "as packed and rejected")
    if not found["extra_samples"]:
        both = found["divided"] + found["extra_tokens"], 0
        findings.compare("RP014", name, "counts of divided", *both, "without extra_samples")
    if manifest.options.shuffle and manifest.layout == "onepass":
        both = found["packed"], found["samples"] - found["extra_samples"]
        findings.compare("RP014", name, "counts.packed", *both, "by the samples")
    expected = combined_hash(shard.content_hash for shard in manifest.shards)
    found_hash = manifest.content_hash
    findings.compare("RP017", name, "content_hash", found_hash, expected, "by those of the shards")


def _check_rejects(dataset: Dataset, findings: Findings) -> None:
    for number, receipt in enumerate(dataset.receipts):
        if receipt is not None:
            _check_reject_file(dataset, number, receipt, findings)
    lines: Counter[tuple[str, str]] = Counter()
    try:
        for reject in read_rejects(dataset.directory):
            kind = "message" if reject.kind == "message" else "record"
            lines[kind, reject.reason] += 1
    except ValueError as error:
        where, _, what = str(error).partition(": ")
        findings.report("RP015", where, what)
        return
    counts = dataset.manifest.counts
    counted = Counter({("record", reason): number for reason, number in counts.rejects.items()})
    counted.update({("message", reason): number for reason, number in counts.left_out.items()})
    name = "rejects.jsonl"
    for kind, reason in sorted({*lines, *counted}):
        both = lines[kind, reason], counted[kind, reason]
        findings.compare("RP016", name, f"lines of kind {kind} and reason {reason!r}", *both)
    records = sum(number for (kind, _), number in lines.items() if kind == "record")
    if records:
        findings.compare("RP016", name, "lines of kind record", records, counts.rejected)
    parts = [receipt.rejects.path for receipt in dataset.receipts if receipt and receipt.rejects]
    if lines and lines == counted and "RP018" not in findings.counts:
        _check_lines(dataset, parts, findings)


def _check_lines(dataset: Dataset, parts: Sequence[str], findings: Findings) -> None:
    """Check that rejects.jsonl is the concatenation of the units' reject files `parts`."""
    whole = hashlib.sha256()
    for part in parts:
        with open_file(place_of(dataset.directory, part)) as file:
            while block := file.read(BLOCK):
                whole.update(block)
    if digest(join(dataset.directory, "rejects.jsonl"))[1] != whole.hexdigest():
        what = "other lines than those beside the receipts, expected the same"
        findings.report("RP016", "rejects.jsonl", what)


def _check_reject_file(dataset: Dataset, number: int, receipt: Receipt, findings: Findings) -> None:
    named = receipt.rejects
    if named is None:
        return
    try:
        size, sha256 = digest(place_of(dataset.directory, named.path))
    except StorageError as error:
        findings.report("RP018", named.path, f"{error.__cause__}, expected the rejects")
        return
    lines = receipt.counts.rejected + sum(receipt.counts.left_out.values())
    by = f"as in {receipt_path(number)}"
    findings.compare("RP018", named.path, "bytes", size, named.bytes, by)
    findings.compare("RP018", named.path, "SHA-256", sha256, named.sha256, by)
    findings.compare("RP018", named.path, "lines", lines, named.lines, by)
