"""What the process that plans and counts costs beside 64 that pack; print a Markdown table.

    python tests/benchmarks/scale.py --tokenizer DIR --workers 64 --units 640

One unit of the default size is packed and measured. Then so many processes sleep for its CPU time
where they would pack, unit after unit, and answer with its receipt. What the parent does is real:
it plans files, looks for receipts of an earlier run, hands out units, takes receipts, and writes
the manifest. Its CPU time is that of this process; the sleepers' is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}

from msgspec.structs import replace
from run import write_corpus

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt
from reasonpack.records.plan import UNIT_BYTES, plan
from reasonpack.records.unit import Unit
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Run, Watch, each_files
from reasonpack.run.finish import finish
from reasonpack.run.output_directory import begin
from reasonpack.run.pack import opened
from reasonpack.run.plan_file import Plan, read_plan, sealed_plan
from reasonpack.run.pool import run_pool
from reasonpack.run.receipts import done_before
from reasonpack.run.unit import Job, process

TERABYTES = 10
FILES = 64
"""How many files are planned; what that takes is counted for as many as there are units."""
Spent = dict[str, float]


def sleep(unit: Unit, *, job: Job, receipt: Receipt, seconds: float) -> Receipt:
    """Take the time of a unit, and answer as if it were packed."""
    assert job
    time.sleep(seconds)
    path = f"data/train-{unit.number:05d}-of-99999.parquet"
    return dataclasses.replace(
        receipt, unit=unit, shards=[dataclasses.replace(receipt.shards[0], path=path)]
    )


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@contextmanager
def timed(spent: Spent, what: str) -> Iterator[None]:
    before = cpu()
    yield
    spent[what] = cpu() - before


def measured_unit(source: Path, out: Path, tokenizer: str) -> tuple[Plan, Job, Receipt, float]:
    """Pack the only unit of a file, the second time for its CPU seconds."""
    options = Options(tokenizer=tokenizer, max_position=10**8)
    loaded = Loaded(options)
    with opened([str(source)], out, loaded, run=Run()) as (known, small):
        (unit,), job = known.units, replace(small, input_bytes=10**9)
        process(unit, loaded, job)
        before = cpu()
        receipt = process(unit, loaded, job)
        return known, job, receipt, cpu() - before


def planned_files(source: Path, spent: Spent, workers: int, units: int) -> float:
    """Plan some files as a run of so many workers does; return the CPU seconds that these take."""
    files = [(source.with_name(f"{number}.jsonl"), f"{number}.jsonl") for number in range(FILES)]
    for place, _ in files:
        place.symlink_to(source)
    before = cpu(resource.RUSAGE_CHILDREN)
    with timed(spent, "files into units"):
        each = partial(each_files, run=Run(num_proc=workers))
        plan(files, weighted=True, each=each)
    spent["files into units"] *= units / FILES
    return (cpu(resource.RUSAGE_CHILDREN) - before) / FILES


def main() -> None:
    """Measure, and print what it comes to for a large input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True, help="directory")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--units", type=int, default=640)
    arguments = parser.parse_args()
    spent: Spent = {}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "chats.jsonl"), Path(folder, "out")
        write_corpus(source, UNIT_BYTES / 1.26e6)  # JSON has a quarter more bytes than its text
        planning = planned_files(source, spent, arguments.workers, arguments.units)
        known, job, receipt, seconds = measured_unit(
            source, Path(folder, "one"), arguments.tokenizer
        )
        (unit,) = known.units
        units = [dataclasses.replace(unit, number=number) for number in range(arguments.units)]
        large = sealed_plan(dataclasses.replace(known, units=units))
        out.mkdir()
        with timed(spent, "plan.json, written and read"):
            begin(out, large, None)
            read_plan(out)
        with timed(spent, "look for receipts"):
            _, todo = done_before(out, large, units, Watch())
        do = partial(sleep, job=job, receipt=receipt, seconds=seconds)
        with timed(spent, "units out, receipts in"):
            receipts = [each for _, each in run_pool(todo, do, workers=arguments.workers)]
        with timed(spent, "manifest"):
            finish(out, large, sorted(receipts, key=lambda each: each.unit.number))
        size, manifest = source.stat().st_size, (out / "manifest.json").stat().st_size
    many, workers = TERABYTES * 1e12 / size, arguments.workers
    print(f"{arguments.units} units of {size / 1e6:.1f} MB, {workers} workers\n")
    print(f"| parent | ms a unit | share | {TERABYTES} TB |\n|---|--:|--:|--:|")
    for what, taken in [*spent.items(), ("together", sum(spent.values()))]:
        each = taken / arguments.units
        print(f"| {what} | {each * 1e3:.2f} | {each / seconds:.3%} | {each * many / 60:.1f} min |")
    for what, each in (("planning", planning), ("packing", seconds)):
        hours = each * many / 3600
        print(
            f"| workers: {what} | {each * 1e3:,.0f} | | {hours:.1f} h, {hours / workers:.1f} each |"
        )
    print(f"\nmanifest.json of {TERABYTES} TB: {manifest / arguments.units * many / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
