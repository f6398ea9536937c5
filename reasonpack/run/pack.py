"""A whole run: plan → shards and receipts → rejects, dataset card, manifest.

The manifest is written last. A directory without one is an unfinished run, and every
reader here refuses it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from reasonpack.errors import FormatError, StorageError, UsageError
from reasonpack.run.plan import UNIT_BYTES, Unit, plan
from reasonpack.run.unit import (
    Counts,
    Options,
    Receipt,
    Shard,
    as_json,
    load_context,
    process,
)
from reasonpack.shard import FORMAT_VERSION, check_format_version
from reasonpack.storage import expand_inputs, publish, publish_text, unwritable

__all__ = ["Input", "Manifest", "pack_files", "read_manifest"]

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """One input file, as the user named it."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished dataset is; `schemas/manifest.schema.json` describes it."""

    format_version: str
    library_version: str
    layout: str
    options: Options
    max_position: int | None
    tokenizer_sha256: str
    template_sha256: str
    inputs: list[Input]
    shards: list[Shard]
    counts: Counts


def pack_files(
    inputs: Sequence[str],
    output: Path,
    options: Options,
    *,
    overwrite: bool = False,
    unit_bytes: int = UNIT_BYTES,
    on_unit: Callable[[Unit], None] | None = None,
    on_plan: Callable[[list[Unit]], None] | None = None,
) -> Manifest:
    """Pack chat files into a dataset directory.

    Args:
        inputs: files and directories; `-` is standard input.
        output: the directory to write; it must not exist, unless `overwrite`.
        options: what to do.
        overwrite: remove what is in `output` first.
        unit_bytes: input bytes that become one shard, about.
        on_unit: called when a unit is done.
        on_plan: called when the units are known.

    Raises:
        ReasonpackError: what stopped the run; `output` then has no manifest.
    """
    context = load_context(options)
    named = _named(inputs)
    _prepare(output, overwrite=overwrite)
    with _spooled(named, output) as files:
        units = plan(files, unit_bytes=unit_bytes)
        if on_plan:
            on_plan(units)
        receipts: list[Receipt] = []
        for unit in units:
            receipts.append(process(unit, options, output, len(units)))
            if on_unit:
                on_unit(unit)
        sizes = [Input(name, path.stat().st_size) for path, name in files]
    counts = Counts()
    for receipt in receipts:
        counts.add(receipt.counts)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        library_version=version("reasonpack"),
        layout="onepass",
        options=options,
        max_position=context.max_position,
        tokenizer_sha256=context.tokenizer.sha256,
        template_sha256=context.without_tools.template.sha256,
        inputs=sizes,
        shards=[receipt.shard for receipt in receipts],
        counts=counts,
    )
    _finish(output, manifest)
    return manifest


def _prepare(output: Path, *, overwrite: bool) -> None:
    """Make an empty dataset directory.

    Raises:
        UsageError: there is something already.
        StorageError: it cannot be made.
    """
    try:
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            if not overwrite:
                raise UsageError(
                    f"{output}: exists and is not empty, expected a new directory. "
                    "Fix: choose another --output, or pass --overwrite."
                )
            _remove_dataset(output)
        for directory in (output / "data", output / "receipts"):
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(output, error) from error


def _remove_dataset(output: Path) -> None:
    """Remove what a run writes, manifest first, and nothing else."""
    if not (output / "data").is_dir() or not (output / "receipts").is_dir():
        raise UsageError(
            f"{output}: not a dataset of reasonpack's, expected one to overwrite. "
            "Fix: choose another --output, or remove it yourself."
        )
    for name in ("manifest.json", "README.md", "rejects.jsonl"):
        (output / name).unlink(missing_ok=True)
    for name in ("data", "receipts"):
        shutil.rmtree(output / name)


def _named(inputs: Sequence[str]) -> list[tuple[Path, str]]:
    """Name the input files, each with its path; standard input is `-` still."""
    if list(inputs).count(STDIN) > 1:
        raise UsageError("-: standard input twice, expected it once. Fix: name it once.")
    named: list[tuple[Path, str]] = []
    for text in inputs:
        paths = [Path(STDIN)] if text == STDIN else expand_inputs([text])
        named += [(path, "stdin" if text == STDIN else str(path)) for path in paths]
    return named


@contextmanager
def _spooled(named: Sequence[tuple[Path, str]], output: Path) -> Iterator[list[tuple[Path, str]]]:
    """Yield the input files, with a temporary file in place of standard input."""
    with tempfile.TemporaryDirectory(prefix=".spool-", dir=output) as spool:
        copy = Path(spool) / "stdin"
        if any(path == Path(STDIN) for path, _ in named):
            try:
                with copy.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            except OSError as error:
                raise unwritable(copy, error) from error
        yield [(copy if path == Path(STDIN) else path, name) for path, name in named]


def _finish(output: Path, manifest: Manifest) -> None:
    """Write what stands beside the shards, the manifest last."""
    if manifest.counts.rejected:
        with publish(output / "rejects.jsonl") as whole:
            for path in sorted((output / "receipts").glob("*.rejects.jsonl")):
                whole.write(path.read_bytes())
    suffix = manifest.options.format
    publish_text(output / "README.md", _card(manifest, suffix))
    publish_text(output / "manifest.json", as_json(manifest))


def _card(manifest: Manifest, suffix: str) -> str:
    counts = manifest.counts
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.{suffix}
---
# Reasoning chats, packed by reasonpack {manifest.library_version}

{counts.packed:,} conversations in {counts.rows:,} rows of {counts.tokens:,} tokens, of which
{counts.trained_tokens:,} are trained. Layout `{manifest.layout}`, format version
{manifest.format_version}: each conversation stands here once, and
`segment_start` and `segment_visible_until` say which token may attend to which. A trainer
that ignores them trains the wrong thing. `manifest.json` says how this was made.
"""


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a finished dataset.

    Raises:
        FormatError: there is none, it is damaged, or of an unknown major version.
    """
    path = directory / "manifest.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FormatError(
            f"{path}: no such file, expected a finished dataset. "
            "Fix: check the path, or run pack to its end."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror}, expected a readable file. Fix: check its permissions."
        ) from error
    try:
        head = msgspec.json.decode(content)
        check_format_version(head.get("format_version"), str(path))
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: {error}, expected a manifest. Fix: pack again with --overwrite."
        ) from error
