"""What a run still has to write → a warning if less disk is free, and the error if it is full.

receipts ─→ units that are done, bytes of their shards ─→ bytes per input byte ─→ bytes of the rest
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from reasonpack.datasets.options import Options
from reasonpack.errors import DiskFullError
from reasonpack.records.unit import Unit
from reasonpack.run.buckets import UNSHUFFLED
from reasonpack.storage.place import Place, file_names, free_bytes, is_url, join, public_name
from reasonpack.wording import count

WRITTEN_TIMES = {"parquet": 1.2, "arrow": 6, "kept": 1.5}
UNPACKED_TIMES = 5
"""About how many bytes of a shard a byte of input becomes, and a compressed byte of input has.

Rows that are `kept` until they are shuffled are compressed Arrow.
"""


class _Stage(Struct, frozen=True):
    """A stage of a run: units done, bytes of their shards, bytes the others need, about."""

    done: int
    kept: int
    need: float


def disk_advice(output: Place, options: Options, units: Sequence[Unit]) -> str | None:
    """Return a warning if the disk has less room than the units may still need; None otherwise."""
    free = free_bytes(output)
    if free is None or free > (need := sum(each.need for each in _stages(output, options, units))):
        return None
    return (
        f"{public_name(output)}: {_megabytes(free)} are free, and the shards may take about "
        f"{_megabytes(need)}; --dry-run measures it on a sample"
    )


def when_full(
    error: DiskFullError, output: Place, options: Options, units: Sequence[Unit]
) -> DiskFullError:
    """Return `error` with a fix: how much to free, and which shards of the run to keep."""
    if is_url(output) or not Path(error.where).is_relative_to(output):
        fix = f"{error.fix}; or name a folder on another disk, by TMPDIR or --temp-dir"
        return DiskFullError(error.where, error.what, error.expected, fix)
    stages = list(_stages(output, options, units))
    need, free = sum(each.need for each in stages), free_bytes(output)
    left = "" if free is None else f", where {free:,} bytes are left"
    kept = [
        f"{_megabytes(each.kept)} of {each.done:,} of {count(len(units), 'unit')}{where}"
        for each, where in zip(stages[::-1], ("", f" in {UNSHUFFLED}"), strict=False)
        if each.done
    ]
    stays = f" ({' and '.join(kept)}, which have to stay)" if kept else ""
    fix = (
        f"free about {_megabytes(need)} on the disk of {public_name(output)}{left}, and repeat the "
        f"command: what is done is kept{stays}; or choose an --output on another disk"
    )
    return DiskFullError(error.where, error.what, error.expected, fix)


def _stages(output: Place, options: Options, units: Sequence[Unit]) -> Iterator[_Stage]:
    """Yield the stages of a run in their order: two with --shuffle, else one."""
    for home in [join(output, UNSHUFFLED), output] if options.shuffle else [output]:
        numbers = {unit.number for unit in units} & _done(home)
        paths = () if is_url(home) else Path(home, "data").glob("*-of-*")
        shards = [path for path in paths if int(path.name.split("-")[1]) in numbers]
        kept = sum(path.stat().st_size for path in shards)
        read = sum(unit.input_bytes for unit in units if unit.number in numbers)
        todo = [unit for unit in units if unit.number not in numbers]
        need = (
            sum(map(unpacked_bytes, todo))
            * WRITTEN_TIMES[options.format if home == output else "kept"]
        )
        if read:
            need = kept / read * sum(unit.input_bytes for unit in todo)
        yield _Stage(len(numbers), kept, need)


def _done(home: Place) -> set[int]:
    names = file_names(join(home, "receipts"))
    return {int(found[1]) for name in names if (found := re.fullmatch(r"(\d+)\.json", name))}


def unpacked_bytes(unit: Unit) -> int:
    """Return about how many bytes a unit's input has, decompressed."""
    return unit.input_bytes * (UNPACKED_TIMES if unit.container in {"gzip", "zstd"} else 1)


def _megabytes(number: float) -> str:
    return f"{number / 1e6:,.1f} MB"
