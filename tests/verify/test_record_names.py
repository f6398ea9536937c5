"""Names of roles and fields are those of the schema."""

from __future__ import annotations

from reasonpack.records.harmless_fields import HARMLESS
from reasonpack.records.last_answer import CONTINUED, OF_THE_END
from reasonpack.verify import record_names
from tests.verify.test_reader import SCHEMA


def test_roles_are_those_of_the_schema() -> None:
    assert sorted(record_names.ROLES) == sorted(SCHEMA["$defs"]["role"]["enum"])
    answers = {name for name, role in record_names.ROLES.items() if role == "assistant"}
    assert answers == set(SCHEMA["$defs"]["answer"]["anyOf"][1]["properties"]["role"]["enum"])


def test_fields_are_those_of_the_schema() -> None:
    fields = set(SCHEMA["$defs"]["message"]["properties"])
    flags = {name for name in fields if "enum" in SCHEMA["$defs"]["message"]["properties"][name]}
    assert set(record_names.FLAGS) == flags | {*record_names.WEIGHTS}
    assert fields <= record_names.READ | record_names.HARMLESS


def test_harmless_fields_are_those_of_packing() -> None:
    assert (
        HARMLESS - record_names.READ
        <= record_names.HARMLESS
        <= HARMLESS | record_names.READ | {*OF_THE_END, *CONTINUED}
    )
