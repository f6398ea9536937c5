"""The second stage of a run with --shuffle: packed rows of all units → shards in a random order.

units ─ process ─→ unshuffled/data, unshuffled/receipts ─ bucket by bucket ─→ data, receipts

The order is that of random keys, which `buckets` draws. There are as many buckets as units, and
bucket N becomes the shards of unit N. A process holds one bucket, about as large as a unit. A
stopped run goes on in either stage. The files of the first stage are removed when the second is
done, so a run needs twice the disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from reasonpack.datasets.options import TRAIN
from reasonpack.datasets.receipt import Receipt, place_of, read_receipt
from reasonpack.records.unit import Unit
from reasonpack.run.buckets import UNSHUFFLED, read_bucket
from reasonpack.run.engine import Run, Watch
from reasonpack.run.output_directory import clear_unshuffled
from reasonpack.run.plan_file import Plan
from reasonpack.run.receipts import do_others, done_before
from reasonpack.run.unit import Job, publish_receipt, publish_shard
from reasonpack.run.work import counts_of_samples, without_rows
from reasonpack.storage.place import join
from reasonpack.storage.publish import publish
from reasonpack.storage.read import read_bytes


def in_stages(
    plan: Plan, job: Job, run: Run, pack: Callable[[Plan, Job], list[Receipt]]
) -> list[Receipt]:
    """Do all units, in two stages if rows are to be shuffled; return their receipts, in order.

    `pack` is the first stage, and without --shuffle the only one.
    """
    if not plan.options.shuffle:
        return pack(plan, job)
    quiet = replace(run.watch, on_plan=Watch().on_plan)
    done, todo = done_before(job.output, plan, plan.units, quiet)
    if todo:
        first = replace(plan, options=dataclasses.replace(plan.options, format="arrow"))
        pack(first, replace(job, unshuffled=True))
    run.watch.on_plan(plan.units, list(done.values()))
    receipts = do_others(done, todo, partial(shuffled_unit, job=job), run)
    clear_unshuffled(job.output)
    return receipts


def shuffled_unit(unit: Unit, job: Job) -> Receipt:
    """Publish the bucket with a unit's number as its shards, and the rejects of its records."""
    unshuffled = join(job.output, UNSHUFFLED)
    receipt = read_receipt(unshuffled, unit.number)
    counts, shards = without_rows(receipt.counts), []
    for split in job.plan.options.splits:
        samples, rows = read_bucket(unshuffled, split, unit.number, units=job.units)
        counts.rows += len(rows)
        counts.add(counts_of_samples(samples))
        if rows or split == TRAIN:
            shards.append(publish_shard(split, rows, samples, unit=unit, job=job))
    if receipt.rejects is not None:
        content = read_bytes(place_of(unshuffled, receipt.rejects.path)) or b""
        with publish(place_of(job.output, receipt.rejects.path)) as file:
            file.write(content)
    return publish_receipt(dataclasses.replace(receipt, shards=shards, counts=counts), job.output)
