"""Checks the dataset card: its configs name all shards, and its text repeats the manifest."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase

import yaml

from reasonpack.storage.place import file_names, join
from reasonpack.storage.read import read_bytes
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import Dataset

STOP = re.compile(
    r"""(answers|tool calls) end with `("(?:[^"\\]|\\.)*")` \(([^)]*)\)""", re.IGNORECASE
)
"""How the card names a stop token and the source of it."""
CLAIMS = {
    r"packed by reasonpack (\S+)": ("library_version",),
    r"([\d,]+) (?:conversation|group)s? in ([\d,]+) rows?(?: of|,) ([\d,]+) tokens?"
    r"(?:, of which| in all,)\s+([\d,]+)": ("packed", "rows", "tokens", "trained_tokens"),
    r"Layout `(\w+)`, format version\s+(\d+\.\d+)": ("layout", "format_version"),
}
"""Sentences of the card, as patterns, with the fields of the manifest or its counts in them."""
CONFIG = "default"
"""The config of the card that libraries load."""


def check_card(dataset: Dataset, findings: Findings) -> None:
    """Check that the card's `data_files` match all shards and no other file, then its text."""
    name = "README.md"
    content = read_bytes(join(dataset.directory, name))
    try:
        head = (content or b"").decode().split("---\n")[1]
        configs = yaml.safe_load(head)["configs"]
        loaded = [each["config_name"] for each in configs]
        entries = [each for config in configs for each in config["data_files"]]
        patterns = [
            (each["split"], one)
            for each in entries
            for one in ([each["path"]] if isinstance(each["path"], str) else each["path"])
        ]
        folders = ("data", "receipts")
        held = [f"{at}/{own}" for at in folders for own in file_names(join(dataset.directory, at))]
        named = {
            (s, each) for each in held for s, pattern in patterns if fnmatchcase(each, pattern)
        }
    except (UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        found = "no such file" if content is None else "no YAML head that names them"
        what = f"{found}, expected the data_files of configs between two lines of ---. "
        fix = "Fix: copy it again from where it was packed."
        findings.report("RP021", name, what + fix)
        return
    if CONFIG not in loaded:
        findings.report("RP021", name, f"configs {', '.join(map(str, loaded))}, expected {CONFIG}")
    _check_claims((content or b"").decode(), dataset, findings)
    _check_stops(content or b"", dataset, findings)
    shards = {(shard.split, shard.path) for shard in dataset.manifest.shards}
    for split, path in sorted(each for each in shards - named if each[1] in held):
        findings.report("RP021", name, f"data_files of split {split} leave out {path}, expected it")
    for split, path in sorted(named - shards):
        said = f"data_files of split {split} take in {path}, expected its shards alone"
        if path.startswith("receipts/") or path in {each for _, each in shards}:
            findings.report("RP021", name, said)


def _check_stops(card: bytes, dataset: Dataset, findings: Findings) -> None:
    """Check that the card names only stop tokens of the manifest."""
    named = {(what.lower(), f"{token} ({why})") for what, token, why in STOP.findall(card.decode())}
    known = {
        (what, f"{json.dumps(stop.token, ensure_ascii=False)} ({stop.source})")
        for learned in dataset.manifest.templates
        for what, stop in (("answers", learned.answer_stop), ("tool calls", learned.call_stop))
        if stop.token
    }
    for what, token in sorted(named - known) if dataset.manifest.templates else ():
        expected = " or ".join(sorted(one for which, one in known if which == what)) or "none"
        said = f"{what} end with {token}, expected {expected} as in the manifest"
        findings.report("RP023", "README.md", said)


def _check_claims(card: str, dataset: Dataset, findings: Findings) -> None:
    """Check that the values in the sentences of `CLAIMS` are those of the manifest."""
    manifest = dataset.manifest
    for claim, names in CLAIMS.items():
        values = (getattr(manifest.counts, name, getattr(manifest, name, "")) for name in names)
        expected = tuple(f"{each:,}" if isinstance(each, int) else each for each in values)
        found = re.search(claim, card)
        if found and found.groups() != expected:
            said = f"says {found[0]!r}, expected {', '.join(expected)} as in the manifest"
            findings.report("RP023", "README.md", said)
