"""A finding says where it is, and shows where long values differ."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.ipc
from damages import (
    read,
    seal,
    trained,
    write,
)
from packed_twice import Packed

from reasonpack.verify.findings import Findings


def test_a_long_value_is_shown_where_it_differs() -> None:
    findings = Findings()
    findings.compare("RP022", "plan.json", "units", [*range(500), 7], [*range(500), 8])
    (finding,) = findings.listed
    assert "499, 7], expected …" in finding.what
    assert finding.what.endswith("499, 8]")


def test_a_finding_says_where_it_is(packed: Packed) -> None:
    table = read(packed.shards[1])
    rows = table.to_pylist()
    token = trained(rows[-1])
    rows[-1]["labels"][token] += 1
    write(packed.shards[1], pa.Table.from_pylist(rows, schema=table.schema))
    seal(packed)
    (finding,) = packed.verify().listed
    first_shard = packed.json("manifest.json")["shards"][0]["rows"]
    assert finding.row == first_shard + len(rows) - 1
    assert (finding.sample, finding.token) == (rows[-1]["sample_id"][0], token)
    assert finding.message is not None
    assert rows[-1]["sample_id"][0] in str(finding)
