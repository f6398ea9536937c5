"""Files of calls, grouped; and the groups that are read of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasonpack.records.group_index import Grouped, plan_groups
from reasonpack.records.groups import Groups
from reasonpack.records.record_places import Source

Json = dict[str, Any]


def sources(grouped: Grouped, paths: Sequence[Path]) -> list[Source]:
    kinds = grouped.grouping.containers
    return [Source(path, path.name, kind) for path, kind in zip(paths, kinds, strict=True)]


def planned(paths: Sequence[Path], *, field: str = "auto", **sizes: int) -> Grouped:
    sizes = {"unit_bytes": 1 << 20, **sizes}
    files = [(path, path.name) for path in paths]
    return plan_groups(files, field=field, folder=paths[0].parent, **sizes)


def read(grouped: Grouped, paths: Sequence[Path]) -> list[list[tuple[str, list[str]]]]:
    """Read the groups of each unit: their ids, and where their records are."""
    found = []
    for unit in grouped.units:
        part = grouped.entries[unit.start : unit.stop]
        groups = Groups(part, sources(grouped, paths), grouped.grouping.field)
        found.append([(each.id, [record.where for record in each.records]) for each in groups])
    return found


def written(path: Path, records: Sequence[Json], *, as_list: bool = False) -> Path:
    lines = [json.dumps(record) for record in records]
    path.write_text("[" + ",\n ".join(lines) + "]" if as_list else "\n\n".join(lines) + "\n")
    return path
