"""What a whole run comes to: what is said of its inputs, and its end.

receipts of all units ──→ something packed: manifest
                      └─→ nothing: the rejects are kept, and there is no manifest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reasonpack.datasets.manifest import REJECTS, Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import NothingPackedError
from reasonpack.records.plan import InputFile
from reasonpack.records.unknown import nearest
from reasonpack.run.finish import finish, summed, write_rejects
from reasonpack.run.plan_file import Plan
from reasonpack.storage import Place, join, public_name
from reasonpack.wording import listed

__all__ = ["end", "same_files"]


def end(
    output: Place, plan: Plan, receipts: Sequence[Receipt], on_note: Callable[[str], object]
) -> Manifest:
    """Write what stands beside the shards, or say that there is nothing in them.

    Args:
        output: the dataset.
        plan: of the run.
        receipts: of all of its units, in order.
        on_note: is told which inputs hold no record, and which options made no difference.

    Raises:
        NothingPackedError: no record was packed; there is no manifest then.
        StorageError: something cannot be read or written.
    """
    counts = summed(receipts)
    if counts.packed:
        records = [0] * len(plan.inputs)
        for receipt in receipts:
            records[receipt.unit.input] += receipt.counts.conversations
        named = zip(plan.inputs, records, strict=True)
        if empty := listed(input_.name for input_, number in named if not number):
            on_note(f"{empty}: no record in it")
        for note in _without_effect(plan.options, counts.notes):
            on_note(note)
        return finish(output, plan, receipts)
    write_rejects(output, [receipt.rejects for receipt in receipts if receipt.rejects])
    raise _nothing(output, plan, counts)


def _without_effect(options: Options, notes: Mapping[str, int]) -> Iterator[str]:
    """Yield a note for each field that an option names, and that no packed record has."""
    unread = [note.removeprefix("unread ") for note in notes if note.startswith("unread ")]
    given = [("--ignore-fields", f"left-out {name}") for name in options.ignore_fields]
    given += [("--field", f"renamed {pair.rpartition('=')[0]}") for pair in options.field]
    for option, note in given if "more" not in notes else ():
        if note not in notes:
            name = note.partition(" ")[2]
            like = f"; there is {near}" if (near := nearest(name, unread)) else ""
            yield f"{option} {name}: made no difference to any record that was packed{like}"


def _nothing(output: Place, plan: Plan, counts: Counts) -> NothingPackedError:
    if counts.rejected:
        rejects = public_name(join(output, REJECTS))
        what, expected = f"all {counts.rejected:,} records were rejected", "some to be packed"
        fix = f"{rejects} says why of each, and what to do; then pack again with --overwrite"
    else:
        inputs = listed([input_.name for input_ in plan.inputs])
        what, expected = f"no record in {inputs}", "at least one conversation"
        fix = "check that these are the right files, then pack again with --overwrite"
    return NothingPackedError(public_name(output), what, expected, fix, counts.rejects)


def same_files(inputs: Sequence[InputFile]) -> Iterator[str]:
    """Yield a note for each set of inputs with the same bytes, be it one file named twice."""
    by_content: dict[str, list[str]] = {}
    for input_ in inputs:
        if input_.bytes:
            by_content.setdefault(input_.sha256, []).append(input_.name)
    for names in by_content.values():
        if len(names) > 1:
            yield f"{listed(names)}: the same bytes, packed {len(names)} times"
