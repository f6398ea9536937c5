"""Damage that makes a shard unreadable, or its values absent."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from damages import (
    read,
    reshard,
    seal,
    write,
)
from packed_twice import pack_two


def test_a_null_is_found(tmp_path: Path) -> None:
    packed = pack_two(tmp_path, format="arrow", compression=None)
    assert packed.verify().total == 0
    table = read(packed.shards[0])
    type_ = table.schema.field("input_ids").type
    lists = table.column("input_ids").to_pylist()
    values = pa.array(
        [None, *itertools.chain.from_iterable(lists)][: sum(map(len, lists))], "int32"
    )
    offsets = pa.array([0, *itertools.accumulate(map(len, lists))], "int32")
    column = pa.ListArray.from_arrays(offsets, values, type=type_)
    write(packed.shards[0], table.set_column(0, table.schema.field("input_ids"), column))
    seal(packed)
    assert set(packed.verify().counts) == {"RP103"}


def test_a_null_in_place_of_a_list_is_found(tmp_path: Path) -> None:
    packed = pack_two(tmp_path, format="arrow", compression=None)
    table = read(packed.shards[0])
    at = table.schema.get_field_index("segment_message")
    field, lists = table.schema.field(at), table.column(at).to_pylist()
    write(packed.shards[0], table.set_column(at, field, pa.array([None, *lists[1:]], field.type)))
    seal(packed)
    assert set(packed.verify().counts) == {"RP103"}


def test_offsets_out_of_bounds_are_found(tmp_path: Path) -> None:
    """Reading the values of such a batch would end the process."""
    packed = pack_two(tmp_path, format="arrow", compression=None)
    path = packed.shards[0]
    column = read(path).column("segment_start").combine_chunks()
    offsets = np.asarray(column.offsets, np.int32).tobytes()
    data = bytearray(path.read_bytes())
    at = data.index(offsets, data.index(np.asarray(column.values, np.int32).tobytes()) - 200)
    data[at + len(offsets) - 1] = 0x70
    path.write_bytes(data)
    reshard(lambda shard: shard.update(sha256=hashlib.sha256(data).hexdigest()))(packed)
    assert set(packed.verify().counts) == {"RP008"}
