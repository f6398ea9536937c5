"""The receipts of all units → the files of a dataset other than shards, the manifest last.

    receipts/*.rejects.jsonl ─→ rejects.jsonl, joined      counts ─→ README.md, manifest.json

If nothing was packed, only the rejects are written: a directory without a manifest is an
unfinished run, and every reader here refuses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from reasonpack.datasets.manifest import MANIFEST, REJECTS, Input, Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts, Receipt, RejectFile, as_json, place_of
from reasonpack.errors import FormatError, NothingPackedError
from reasonpack.records.plan import InputFile
from reasonpack.rows.content_hash import combined_hash
from reasonpack.run.plan_file import Plan
from reasonpack.show.summary import note_lines
from reasonpack.storage.place import Place, file_names, join, public_name, remove, stamp
from reasonpack.storage.publish import publish, publish_once
from reasonpack.storage.read import digest, open_file
from reasonpack.wording import count, listed, nearest

Show = Callable[[Manifest], object]
CARD = "README.md"
HEADING = "# Reasoning chats, packed by reasonpack"
BLOCK = 1 << 20


def finish(
    output: Place, plan: Plan, receipts: Sequence[Receipt], show: Show | None = None
) -> Manifest:
    """Write the files of a dataset other than shards; those that are there and right are kept.

    `receipts` are of all units, in order; `show` writes a page of rows.

    Raises:
        FormatError: `data` contains a file that is no shard of the run.
    """
    manifest = _manifest(plan, receipts)
    refuse_foreign_files(output, {shard.path for shard in manifest.shards})
    _write_rejects(output, receipts)
    publish_once(join(output, CARD), _card(manifest).encode())
    if show:
        show(manifest)
    publish_once(join(output, MANIFEST), as_json(manifest).encode())
    return manifest


def refuse_foreign_files(output: Place, shards: AbstractSet[str]) -> None:
    """Check that `data` contains no file but `shards`: readers take every file there for one.

    Raises:
        FormatError: it contains another file.
    """
    paths = {f"data/{name}" for name in file_names(join(output, "data")) if name[0] != "."}
    if foreign := sorted(paths - shards):
        what = f"{foreign[0]} is no shard of this run"
        expected = f"only its {count(len(shards), 'shard')} in data"
        raise FormatError(public_name(output), what, expected, "remove it, then repeat the command")


def _manifest(plan: Plan, receipts: Sequence[Receipt]) -> Manifest:
    shards = [shard for receipt in receipts for shard in receipt.shards]
    return Manifest(
        format_version=plan.format_version,
        library_version=plan.library_version,
        layout=plan.options.layout,
        options=plan.options,
        max_position=plan.max_position,
        tokenizer_sha256=plan.hashes["tokenizer"],
        template_sha256=plan.hashes["template"],
        plan_sha256=plan.sha256,
        content_hash=combined_hash(shard.content_hash for shard in shards),
        inputs=[Input(input_.name, input_.bytes, input_.sha256) for input_ in plan.inputs],
        shards=shards,
        counts=summed(receipts),
        templates=plan.templates,
        columns=plan.columns,
        sources=plan.sources,
        blend=plan.blend,
        unit_bytes=plan.unit_bytes,
    )


def summed(receipts: Sequence[Receipt]) -> Counts:
    """Return the sum of the counts of receipts."""
    counts = Counts()
    for receipt in receipts:
        counts.add(receipt.counts)
    return counts


def _write_rejects(output: Place, receipts: Sequence[Receipt]) -> None:
    """Write the rejects of all units to one file, or remove it if there are none."""
    place, parts = join(output, REJECTS), [each.rejects for each in receipts if each.rejects]
    if not parts:
        remove(place)
        return
    whole = hashlib.sha256()
    for block in _blocks(output, parts):
        whole.update(block)
    if stamp(place) and digest(place)[1] == whole.hexdigest():
        return
    with publish(place) as file:
        for block in _blocks(output, parts):
            file.write(block)


def _blocks(output: Place, parts: Sequence[RejectFile]) -> Iterator[bytes]:
    for part in parts:
        with open_file(place_of(output, part.path)) as file:
            while block := file.read(BLOCK):
                yield block


def _card(manifest: Manifest) -> str:
    counts, what = manifest.counts, "group" if "call_id" in manifest.columns else "conversation"
    return f"""---
configs:
- config_name: default
  data_files:
{_data_files(manifest)}
---
{HEADING} {manifest.library_version}

{count(counts.packed, what)} in {count(counts.rows, "row")}, {count(counts.tokens, "token")} in all,
{counts.trained_tokens:,} of them trained. Layout `{manifest.layout}`, format version
{manifest.format_version}: each conversation stands here once, and
`segment_start` and `segment_visible_until` say which token may attend to which. A trainer
that ignores them trains the wrong thing. {_stops(manifest)}
`manifest.json` says how this was made.

To look at the rows, where DIR is the directory of this file:

```python
{_read_by(manifest)}
```
"""


def _read_by(manifest: Manifest) -> str:
    """Return lines of Python that read the rows, each by another library."""
    lines = ["datasets.load_dataset(DIR)"]
    if manifest.options.format == "parquet":
        lines += [
            'pandas.read_parquet(f"{DIR}/data")',
            "duckdb.sql(f\"SELECT sample_id, length FROM '{DIR}/data/*.parquet'\")",
            'polars.read_parquet(f"{DIR}/data/*.parquet")',
        ]
    return "\n".join(lines)


def _data_files(manifest: Manifest) -> str:
    """Return the lines of YAML that name the files of each split."""
    return "\n".join(
        f"  - split: {split}\n    path: data/{split}-*.{manifest.options.format}"
        for split in dict.fromkeys(shard.split for shard in manifest.shards)
    )


def _stops(manifest: Manifest) -> str:
    """Return a sentence that names the stop tokens of answers and tool calls."""
    stops = {
        f"{what} end with `{json.dumps(stop.token, ensure_ascii=False)}` ({stop.source})"
        for learned in manifest.templates
        for what, stop in (("Answers", learned.answer_stop), ("tool calls", learned.call_stop))
        if stop.token
    }
    return f"{', '.join(sorted(stops))}."


def end(
    output: Place,
    plan: Plan,
    receipts: Sequence[Receipt],
    on_note: Callable[[str], object],
    show: Show | None = None,
) -> Manifest:
    """Write the files of a dataset other than shards, unless nothing was packed.

    `on_note` gets a line for inputs without a record, and for each option without effect; if
    nothing was packed, the notes on the records instead.

    Raises:
        NothingPackedError: no record was packed; there is no manifest then.
    """
    counts = summed(receipts)
    if counts.packed:
        records = [0] * len(plan.inputs)
        for receipt in receipts:
            records[receipt.unit.input] += receipt.counts.records
        of_calls = plan.grouping is not None or bool(plan.grouped_by)  # units mix inputs
        named = zip(plan.inputs, records, strict=True)
        empty = (each.name for each, n in named if not n and not (of_calls and each.bytes))
        if names := listed(empty):
            on_note(f"{names}: no record in it")
        for note in _without_effect(plan.options, counts.notes):
            on_note(note)
        return finish(output, plan, receipts, show)
    for line in note_lines(counts.notes, counts.examples):
        on_note(line)
    _write_rejects(output, receipts)
    raise _nothing(output, plan, counts)


def _without_effect(options: Options, notes: Mapping[str, int]) -> Iterator[str]:
    """Yield a note for each field that an option names and no packed record has."""
    unread = [note.removeprefix("unread ") for note in notes if note.startswith("unread ")]
    given = [("--ignore-fields", f"left-out {name}") for name in options.ignore_fields]
    given += [("--field", f"renamed {pair.rpartition('=')[0]}") for pair in options.field]
    for option, note in given if "more" not in notes else ():
        if note not in notes:
            name = note.partition(" ")[2]
            like = f"; there is {near}" if (near := nearest(name, unread)) else ""
            yield f"{option} {name}: made no difference to any record that was packed{like}"


def _nothing(output: Place, plan: Plan, counts: Counts) -> NothingPackedError:
    untrained = counts.notes.get("untrained-call", 0)
    untrained += sum(n for note, n in counts.notes.items() if note.startswith("kept "))
    if counts.rejected:
        rejects = public_name(join(output, REJECTS))
        rejected, expected = count(counts.rejected, "record"), "some that can be packed"
        what = f"nothing was packed: {rejected} rejected"
        if untrained:
            what += f", {count(untrained, 'call')} not to be trained"
        fix = f"{rejects} says why of each, and what to do; then pack again with --overwrite"
    elif untrained:
        what, expected = f"no call to train among {untrained:,}", "at least one with an answer"
        fix = "see above why; log the answers, then pack again with --overwrite"
    elif counts.not_taken:
        what = f"the shares of the inputs take none of {counts.not_taken:,}"
        expected, fix = "at least one", "raise a share, then pack again with --overwrite"
    else:
        inputs = listed([input_.name for input_ in plan.inputs])
        what, expected = f"no record in {inputs}", "at least one conversation"
        fix = "check that these are the right files, then pack again with --overwrite"
    return NothingPackedError(public_name(output), what, expected, fix, counts.rejects)


def same_files(inputs: Sequence[InputFile]) -> Iterator[str]:
    """Yield a note for each set of inputs with the same bytes, such as a file named twice."""
    by_content: dict[str, list[str]] = {}
    for input_ in inputs:
        if input_.bytes:
            by_content.setdefault(input_.sha256, []).append(input_.name)
    for names in by_content.values():
        if len(names) > 1:
            yield f"{listed(names)}: the same bytes, packed {len(names)} times"
