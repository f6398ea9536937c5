"""The columns of a row, and what a shard says of itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
from made_samples import plain_sample, plain_table, read_schema, write

from reasonpack.choices import ShardFormat
from reasonpack.rows import schema as schemas
from reasonpack.rows.schema import COLUMNS, FORMAT_VERSION
from reasonpack.rows.table import rows_to_table


def test_columns_and_nullability() -> None:
    made = schemas.schema({"layout": "onepass"})
    assert made.names == [name for name, _ in COLUMNS]
    assert not any(field.nullable for field in made)
    lists = [field.type for field in made if pa.types.is_list(field.type)]
    assert len(lists) == len(COLUMNS) - 1
    assert not any(type_.value_field.nullable for type_ in lists)
    assert plain_table([2, 3]).schema == made


def test_optional_columns_stand_behind_the_others_and_are_required_where_it_matters() -> None:
    made = schemas.schema({}, schemas.planned(["preference_labels", "loss_weights"]))
    names = ["loss_weights", "preference_labels", *schemas.OF_CALLS, "call_role"]
    assert made.names == [name for name, _ in COLUMNS] + names
    assert not any(field.nullable or field.type.value_field.nullable for field in list(made)[10:])
    assert made.metadata[b"reasonpack.requires"] == b"loss_weights,call_role"
    assert b"reasonpack.requires" not in schemas.schema({}, ["segment_call"]).metadata


def test_metadata(format_: ShardFormat, path: Path) -> None:
    given_ = {"layout": "onepass", "tokenizer_sha256": "ab", "template_sha256": "cd"}
    made = [plain_sample(2)]
    write(rows_to_table(made, [[0]], schemas.schema(given_)), path=path, format_=format_)
    assert read_schema(path).metadata == {
        b"reasonpack.format_version": FORMAT_VERSION.encode(),
        b"reasonpack.layout": b"onepass",
        b"reasonpack.tokenizer_sha256": b"ab",
        b"reasonpack.template_sha256": b"cd",
    }
