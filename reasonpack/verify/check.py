"""A dataset, and perhaps its source → everything that is wrong.

verify_dataset(Path("packed")).total                      the files and the rows
verify_dataset(Path("packed"), ["chats.jsonl"]).total     and every view, rebuilt
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reasonpack.storage.place import Place
from reasonpack.verify.beside import check_beside
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import read_dataset
from reasonpack.verify.shards import checked_rows


def verify_dataset(
    directory: Place,
    against: Sequence[str] = (),
    *,
    sample: int | None = None,
    tokenizer: str | None = None,
    on_unit: Callable[[int], object] = lambda _: None,
) -> Findings:
    """Check a finished dataset: its files, its rows and, given its source, every view.

    Args:
        directory: the dataset.
        against: files and directories that it was packed from; none to check it by itself.
        sample: compare that many conversations with the source, and not all.
        tokenizer: where the tokenizer is, if not where it was when the dataset was packed.
        on_unit: called with the number of units, each time that the shards of one are done.

    Raises:
        UsageError: a dataset of calls that was packed again, which is not compared with its source.
        ReasonpackError: the source, the tokenizer or the template cannot be read.
    """
    findings = Findings()
    dataset = read_dataset(directory, findings)
    if dataset is None:
        return findings
    check_beside(dataset, findings)
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
