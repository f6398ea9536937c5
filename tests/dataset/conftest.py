"""Both formats of a shard, as the tests of rows have them."""

from __future__ import annotations

from tests.rows.conftest import format_, path, small_groups

__all__ = ["format_", "path", "small_groups"]
