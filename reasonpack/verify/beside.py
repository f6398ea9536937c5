"""What lies beside the shards → whether it agrees with the manifest, and with each other."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec
import yaml

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt, place_of, receipt_path
from reasonpack.errors import StorageError
from reasonpack.rows.content_hash import combined_hash
from reasonpack.storage.place import child_names, file_names, is_url, join
from reasonpack.storage.read import digest, read_bytes
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.manifest import Dataset, read_rejects, unreadable

SHARD_SUFFIXES = (".parquet", ".arrow")
STOP = re.compile(r"""(answers|tool calls) end with `("(?:[^"\\]|\\.)*")`""", re.IGNORECASE)
"""What the dataset card says of a stop token."""
TOP = {
    *("manifest.json", "README.md", "plan.json", "groups.index"),
    *("rejects.jsonl", "samples.html"),
}


@dataclass(frozen=True, slots=True)
class _Unit:
    input: int
    name: str


@dataclass(frozen=True, slots=True)
class _PlannedInput:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was to be done, as far as the manifest says it too."""

    options: Options
    inputs: list[_PlannedInput]
    units: list[_Unit]
    sha256: str
    columns: list[str] = field(default_factory=list)


def check_beside(dataset: Dataset, findings: Findings) -> None:
    """Check everything in a dataset but the shards.

    Raises:
        StorageError: something is there and cannot be read.
    """
    _check_names(dataset, findings)
    _check_links(dataset, findings)
    _check_card(dataset, findings)
    _check_plan(dataset, findings)
    _check_sums(dataset, findings)
    _check_rejects(dataset, findings)


def _known(dataset: Dataset) -> set[str]:
    """Name the files of a dataset, those that may be missing among them."""
    receipts = [receipt_path(unit) for unit in dataset.units]
    rejects = [name.replace(".json", ".rejects.jsonl") for name in receipts]
    return {*TOP, *(shard.path for shard in dataset.manifest.shards), *receipts, *rejects}


def _check_names(dataset: Dataset, findings: Findings) -> None:
    """Look for files that the manifest does not know, and temporary ones."""
    directory, known = dataset.directory, _known(dataset)
    names = {folder: child_names(join(directory, folder)) for folder in ("data", "receipts")}
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
            what = "is of no shard in the manifest, expected no such file"
            findings.add(Finding(code, name, what))


def _check_links(dataset: Dataset, findings: Findings) -> None:
    """Look for links to what lies outside the directory: a copy of it would lack that.

    Files of the dataset may be such links, as in the cache of a hub: their bytes are checked.
    """
    if is_url(dataset.directory):
        return
    home, known, own = os.path.realpath(dataset.directory), _known(dataset), 0
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 (as os.walk gives them)
            target = os.path.realpath(path)
            if not os.path.islink(path) or os.path.commonpath([home, target]) == home:  # noqa: PTH114
                continue
            relative = os.path.relpath(path, home)
            own += relative in known
            if relative not in known:
                what = "a link that leads out of the dataset, expected the file itself"
                findings.add(Finding("RP020", relative, what))
    if own:
        findings.warnings.append(f"{own:,} files are links: copy what they lead to as well.")


def _check_card(dataset: Dataset, findings: Findings) -> None:
    """Check that what loads the card's `data_files` gets the shards, all and no others."""
    name = "README.md"
    content = read_bytes(join(dataset.directory, name))
    try:
        head = (content or b"").decode().split("---\n")[1]
        configs = yaml.safe_load(head)["configs"]
        entries = [each for config in configs for each in config["data_files"]]
        patterns = [
            (each["split"], one)
            for each in entries
            for one in ([each["path"]] if isinstance(each["path"], str) else each["path"])
        ]
        folders = {each: file_names(join(dataset.directory, each)) for each in ("data", "receipts")}
        held = [f"{each}/{own}" for each in folders for own in folders[each]]
        named = {
            (s, each) for each in held for s, pattern in patterns if fnmatchcase(each, pattern)
        }
    except (UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        found = "no such file" if content is None else "no YAML head that names them"
        what = f"{found}, expected the data_files of configs between two lines of ---. "
        fix = "Fix: copy it again from where it was packed."
        findings.add(Finding("RP021", name, what + fix))
        return
    _check_stops(content or b"", dataset, findings)
    shards = {(shard.split, shard.path) for shard in dataset.manifest.shards}
    for split, path in sorted(each for each in shards - named if each[1] in held):
        said = f"data_files of split {split} leave out {path}, expected it"
        findings.add(Finding("RP021", name, said))
    for split, path in sorted(named - shards):
        said = f"data_files of split {split} take in {path}, expected its shards alone"
        if path.startswith("receipts/") or path in {each for _, each in shards}:
            findings.add(Finding("RP021", name, said))


def _check_stops(card: bytes, dataset: Dataset, findings: Findings) -> None:
    """Check that the stop tokens which a card names are those of the manifest."""
    named = {(what.lower(), token) for what, token in STOP.findall(card.decode())}
    known = {
        (what, json.dumps(stop.token, ensure_ascii=False))
        for learned in dataset.manifest.templates
        for what, stop in (("answers", learned.answer_stop), ("tool calls", learned.call_stop))
        if stop.token
    }
    for what, token in sorted(named - known) if dataset.manifest.templates else ():
        expected = " or ".join(sorted(one for which, one in known if which == what)) or "none"
        said = f"{what} end with {token}, expected {expected} as in the manifest"
        findings.add(Finding("RP023", "README.md", said))


def _check_plan(dataset: Dataset, findings: Findings) -> None:
    """Check that plan.json is the plan that the manifest names, with its inputs and shards."""
    name, manifest = "plan.json", dataset.manifest
    content = read_bytes(join(dataset.directory, name))
    try:
        plan = msgspec.json.decode(content or b"", type=_Plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        findings.add(Finding("RP022", name, unreadable(content, error, "the dataset's plan")))
        return
    inputs = [(each.path, each.bytes, each.sha256) for each in manifest.inputs]
    known = dict(enumerate(each.name for each in plan.inputs))
    names = [known.get(unit.input, "") for unit in plan.units]
    for what, found, expected in (
        ("sha256", plan.sha256, manifest.plan_sha256),
        ("options", plan.options, manifest.options),
        ("inputs", [(each.name, each.bytes, each.sha256) for each in plan.inputs], inputs),
        ("columns", plan.columns, manifest.columns),
        ("number of units", len(plan.units), len(dataset.units)),
        ("names of units", [unit.name for unit in plan.units], names),
    ):
        if found != expected:
            said = f"{what} {found!r}, expected {expected!r} as in the manifest"
            findings.add(Finding("RP022", name, said[:400]))


def _check_sums(dataset: Dataset, findings: Findings) -> None:
    manifest, sums = dataset.manifest, Counter[str]()
    found = manifest.counts.flat()
    receipts = [receipt for receipt in dataset.receipts if receipt is not None]
    if len(receipts) == len(dataset.units):
        for receipt in receipts:
            sums.update(receipt.counts.flat())
        names = {*sums, *found}
    else:
        sums["rows"] = sum(shard.rows for shard in manifest.shards)
        sums["tokens"] = sum(shard.tokens for shard in manifest.shards)
        names = {"rows", "tokens"}
    for name in sorted(names):
        if found[name] != sums[name]:
            what = f"counts.{name} {found[name]:,}, expected {sums[name]:,} as in the shards"
            findings.add(Finding("RP014", "manifest.json", what))
    if found["conversations"] != found["packed"] + found["rejected"]:
        what = "counts.conversations is not the sum of packed and rejected, expected that"
        findings.add(Finding("RP014", "manifest.json", what))
    expected = combined_hash(shard.content_hash for shard in manifest.shards)
    if manifest.content_hash != expected:
        what = f"content_hash {manifest.content_hash}, expected {expected}, that of the shards'"
        findings.add(Finding("RP017", "manifest.json", what))


def _check_rejects(dataset: Dataset, findings: Findings) -> None:
    for number, receipt in enumerate(dataset.receipts):
        if receipt is not None:
            _check_reject_file(dataset, number, receipt, findings)
    lines: Counter[tuple[str, str]] = Counter()
    try:
        for reject in read_rejects(dataset.directory):
            lines[reject.kind, reject.reason] += 1
    except ValueError as error:
        where, _, what = str(error).partition(": ")
        findings.add(Finding("RP015", where, what))
        return
    counts = dataset.manifest.counts
    counted = Counter({("record", reason): number for reason, number in counts.rejects.items()})
    counted.update({("message", reason): number for reason, number in counts.left_out.items()})
    for each in sorted({*lines, *counted}):
        if lines[each] != counted[each]:
            kind, reason = each
            what = f"{lines[each]:,} lines of kind {kind} and reason {reason!r}"
            what += f", expected {counted[each]:,}"
            findings.add(Finding("RP016", "rejects.jsonl", what))
    records = sum(number for (kind, _), number in lines.items() if kind == "record")
    if records and counts.rejected != records:
        what = f"{records:,} lines, expected {counts.rejected:,}"
        findings.add(Finding("RP016", "rejects.jsonl", what))


def _rejected(receipt: Receipt) -> int:
    """Count the records that were rejected, and the messages that were left out."""
    return receipt.counts.rejected + sum(receipt.counts.left_out.values())


def _check_reject_file(dataset: Dataset, number: int, receipt: Receipt, findings: Findings) -> None:
    named = receipt.rejects
    if named is None:
        return
    try:
        size, sha256 = digest(place_of(dataset.directory, named.path))
    except StorageError as error:
        findings.add(Finding("RP018", named.path, f"{error.__cause__}, expected the rejects"))
        return
    for what, found, expected in (
        ("bytes", size, named.bytes),
        ("SHA-256", sha256, named.sha256),
        ("lines", _rejected(receipt), named.lines),
    ):
        if found != expected:
            said = f"{what} {found}, expected {expected} as in {receipt_path(number)}"
            findings.add(Finding("RP018", named.path, said))
