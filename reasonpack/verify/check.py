"""A dataset, and optionally its source → findings.

verify_dataset(Path("packed")).total                      the files and the rows
verify_dataset(Path("packed"), ["chats.jsonl"]).total     and every view, rebuilt
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reasonpack.storage.place import Place
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import read_dataset
from reasonpack.verify.other_files import check_other_files
from reasonpack.verify.shards import checked_rows


def verify_dataset(
    directory: Place,
    against: Sequence[str] = (),
    *,
    sample: int | None = None,
    tokenizer: str | None = None,
    on_unit: Callable[[int], object] = lambda _: None,
) -> Findings:
    """Check a finished dataset: its files, its rows and, with its source, every view.

    Args:
        directory: the dataset.
        against: files and directories that it was packed from; without any, only it is checked.
        sample: compare only that many conversations with the source; None compares all.
        tokenizer: where the tokenizer is now, if it was moved after packing.
        on_unit: called with the total number of units after each unit.

    Raises:
        UsageError: the source of a dataset of calls is given, and the plan names no field that
            groups them, as when it was packed again.
        ReasonpackError: the source, the tokenizer or the template cannot be read.
    """
    findings = Findings()
    dataset = read_dataset(directory, findings)
    if dataset is None:
        return findings
    check_other_files(dataset, findings)
    units, source = len(dataset.units), None
    if against:
        from reasonpack.verify.source import load_source  # noqa: PLC0415 (loads a tokenizer)

        source = load_source(against, dataset.manifest, tokenizer, findings)
    if source is not None:
        from reasonpack.verify.against import check_against  # noqa: PLC0415

        check_against(dataset, source, findings, sample=sample, on_unit=lambda: on_unit(units))
        return findings
    for number in range(units):
        for _ in checked_rows(dataset, number, findings):
            pass
        on_unit(units)
    return findings
