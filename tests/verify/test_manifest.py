"""A manifest of a higher minor version, and options that differ from the plan's."""

from __future__ import annotations

from damages import (
    read,
    rejson,
    relabelled,
    seal,
    write,
)
from packed_twice import Packed


def test_options_that_differ_are_named(packed: Packed) -> None:
    rejson("plan.json", lambda plan: plan["options"].update(seed=9, shuffle=True))(packed)
    found = [finding.what for finding in packed.verify().listed]
    assert "option shuffle True, expected False as in the manifest" in found
    assert "option seed 9, expected 0 as in the manifest" in found


def test_a_newer_minor_version_may_have_more(packed: Packed) -> None:
    for name in ("manifest.json", "plan.json"):
        rejson(name, lambda value: value.update(columns=["step_weights"]))(packed)
    rejson("manifest.json", lambda manifest: manifest.update(format_version="1.7", new=1))(packed)
    for path in packed.shards:
        table = relabelled(read(path), format_version="1.7")
        write(path, table.append_column("step_weights", table.column("length")))
    seal(packed)
    assert packed.verify().total == 0
