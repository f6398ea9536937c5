"""The schema of the manifest is that of its class, and one that drifted is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from described import Json, check_fields, schema

from reasonpack.datasets.manifest import Manifest


def test_the_manifest_is_described() -> None:
    check_fields(schema("manifest"), Manifest)


def without_field(found: Json) -> None:
    del found["properties"]["layout"]


def with_field(found: Json) -> None:
    found["properties"]["colour"] = {"type": "string"}


def in_another_order(found: Json) -> None:
    found["properties"] = dict(reversed(found["properties"].items()))


def not_required(found: Json) -> None:
    found["required"].pop()


def nested_type(found: Json) -> None:
    found["properties"]["shards"]["items"]["properties"]["rows"]["type"] = "string"


def nested_enum(found: Json) -> None:
    found["properties"]["options"]["properties"]["overlong"]["enum"].pop()


@pytest.mark.parametrize(
    "plant",
    [without_field, with_field, in_another_order, not_required, nested_type, nested_enum],
)
def test_a_manifest_schema_that_drifted_is_caught(plant: Callable[[Json], None]) -> None:
    found = schema("manifest")
    plant(found)
    with pytest.raises((AssertionError, KeyError)):
        check_fields(found, Manifest)
