"""Options that name fields and roles → attributes of `Reading`.

--field cot=reasoning                  {"cot": "reasoning"}
--ignore-fields reasoning              refused: it is read
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from reasonpack.errors import UsageError
from reasonpack.records.conversation import READ
from reasonpack.records.draft import ROLES
from reasonpack.records.last_answer import OF_THE_END
from reasonpack.records.readers.generic import OF_A_CALL
from reasonpack.records.side_fields import SIDE_FIELDS
from reasonpack.records.unread_fields import MESSAGE_FIELDS
from reasonpack.wording import nearest

_KNOWN = READ | MESSAGE_FIELDS | OF_A_CALL


def renamed_fields(pairs: Iterable[str]) -> dict[str, str]:
    """Read the values `NAME=KNOWN` of --field; return the known name for each name.

    Raises:
        UsageError: a value is no such pair, or its KNOWN is no name that is read.

    >>> renamed_fields(["cot=reasoning_content"])
    {'cot': 'reasoning_content'}
    """
    fix = "choose one, or leave the field out with --ignore-fields"
    form = "NAME=KNOWN with one of the names that are read:"
    return _renamed("--field", pairs, sorted(_KNOWN), form, fix)


def renamed_roles(pairs: Iterable[str]) -> dict[str, str]:
    """Read the values `NAME=ROLE` of --role; return the known role for each name.

    Raises:
        UsageError: a value is no such pair, or its ROLE is not known.

    >>> renamed_roles(["Bot=assistant"])
    {'Bot': 'assistant'}
    """
    return _renamed("--role", pairs, ROLES, "NAME=ROLE with one of", "write --role Bot=assistant")


def _renamed(
    option: str, pairs: Iterable[str], known: Collection[str], form: str, fix: str
) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, wanted = pair.rpartition("=")
        if not name or wanted not in known:
            near = nearest(wanted, known) if name else ""
            expected = f"{name}={near}" if near else f"{form} {', '.join(known)}"
            raise UsageError(option, pair, expected, fix)
        found[name] = wanted
    return found


def ignored_fields(names: Iterable[str]) -> frozenset[str]:
    """Check the names of fields that --ignore-fields leaves out, and return them.

    Raises:
        UsageError: one of these fields is read.
    """
    for name in (ignored := frozenset(names)):
        if name in (READ | MESSAGE_FIELDS | SIDE_FIELDS) - OF_THE_END:
            raise UsageError(
                f"--ignore-fields {name}",
                "is read",
                "a field that is not",
                "to pack without it, remove it from the records; where nobody reads it, "
                f"write message.{name} or record.{name}",
            )
    return ignored
