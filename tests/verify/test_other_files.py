"""Every field of every file beside the shards: none can be another without a word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from damages import REJECTS, move_out
from packed_twice import Packed


def test_a_dataset_of_links_alone_is_a_cache(packed: Packed) -> None:
    """Hubs keep the files of a snapshot so: what they lead to is checked."""
    for path in sorted(packed.directory.rglob("*.*")):
        if path.is_file():
            move_out(str(path.relative_to(packed.directory)))(packed)
    findings = packed.verify()
    assert (findings.total, len(findings.warnings)) == (0, 1), findings.listed
    assert "is a link: copy what it leads to as well" in findings.warnings[0]


FREE = {
    r"plan.json \.inputs\[\d+\]\.stamp.*": "when an input was written, for a run that goes on",
    r"receipts.*\.(backend|backend_fault)": "what encoded: no byte of a shard depends on it",
    r"receipts.*\.sha256": "mended here, as by whoever changes the rest on purpose",
}
"""What may be anything, by file and path, and why."""


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    digits = {"0": "1", "1": "0"}
    if isinstance(value, str):
        return (
            digits.get(value[:1], "0" if re.fullmatch("[0-9a-f]{64}", value) else "x") + value[1:]
        )
    return "x" if value is None else None


def altered(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a JSON value with each of its leaves changed, one at a time, and where that is."""
    if not isinstance(value, dict | list) or not value:
        yield path, other(value)
        return
    for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
        for below, changed in altered(
            each, f"{path}.{key}" if isinstance(key, str) else f"{path}[{key}]"
        ):
            copy = value.copy()
            copy[key] = changed
            yield below, copy


NAMES = ("manifest.json", "plan.json", "receipts/00000.json")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_file_is_checked(packed: Packed, name: str) -> None:
    path = packed.directory / name
    before = path.read_text()
    value, found = json.loads(before), {}
    assert json.dumps(value, indent=2, ensure_ascii=False) + "\n" == before
    for where, changed in altered(value):
        packed.write(name, changed)  # a receipt gets its hash
        found[f"{name} {where}"] = packed.verify().total
    missed = {each for each, total in found.items() if not total}
    assert {each for each in missed if not any(re.fullmatch(one, each) for one in FREE)} == set()
    assert len(found) > 35


@pytest.mark.long
def test_every_byte_of_the_rejects_is_checked(packed: Packed) -> None:
    for name in ("rejects.jsonl", REJECTS):
        path = packed.directory / name
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert packed.verify().total, (name, at)
        path.write_bytes(content)
