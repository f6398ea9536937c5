"""The schema of a receipt is that of its class."""

from __future__ import annotations

from described import check_fields, schema

from reasonpack.datasets.receipt import Receipt


def test_a_receipt_is_described() -> None:
    check_fields(schema("receipt"), Receipt)
