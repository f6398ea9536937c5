"""Names of roles and fields are those of the schema."""

from __future__ import annotations

from reasonpack.records.harmless import HARMLESS
from reasonpack.records.last_answer import ENDS
from reasonpack.records.unread import CONTINUED
from reasonpack.verify import names
from tests.verify.test_reader import SCHEMA


def test_roles_are_those_of_the_schema() -> None:
    assert sorted(names.ROLES) == sorted(SCHEMA["$defs"]["role"]["enum"])
    answers = {name for name, role in names.ROLES.items() if role == "assistant"}
    assert answers == set(SCHEMA["$defs"]["answer"]["anyOf"][1]["properties"]["role"]["enum"])


def test_fields_are_those_of_the_schema() -> None:
    fields = set(SCHEMA["$defs"]["message"]["properties"])
    flags = {name for name in fields if "enum" in SCHEMA["$defs"]["message"]["properties"][name]}
    assert set(names.FLAGS) == flags | {*names.WEIGHTS}
    assert fields <= names.READ | names.HARMLESS


def test_harmless_fields_are_those_of_packing() -> None:
    assert HARMLESS - names.READ <= names.HARMLESS <= HARMLESS | names.READ | {*ENDS, *CONTINUED}
