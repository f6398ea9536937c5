"""Kinds of segments are named alike in code, schemas and prose."""

from __future__ import annotations

from described import FORMAT, schema

from reasonpack.rows.kind import Kind


def test_kinds_in_schemas_and_prose() -> None:
    kinds = [(kind.value, kind.label) for kind in Kind]
    listed = schema("row")["properties"]["segment_kind"]
    assert listed["items"]["enum"] == [number for number, _ in kinds]
    assert all(f"{number} {label}" in listed["description"] for number, label in kinds)
    assert ", ".join(f"{number} `{label}`" for number, label in kinds) in FORMAT
    counted = schema("manifest")["properties"]["counts"]["properties"]["tokens_by_kind"]
    assert sorted(counted["properties"]) == sorted(label for _, label in kinds)
