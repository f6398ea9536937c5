"""The whole input → its fields that nobody reads, and that may hold what the model is to learn.

Read, and not rendered, once the first such field was found: the user is told of all at once.
"""

from __future__ import annotations

from reasonpack.errors import RecordError
from reasonpack.records.unit import Unit, read_records
from reasonpack.records.unknown import UnknownFieldError, together
from reasonpack.run.context import load_context
from reasonpack.run.conversations import parse
from reasonpack.run.unit import Job

__all__ = ["unknown_fields"]


def unknown_fields(unit: Unit, job: Job) -> tuple[int, UnknownFieldError | None]:
    """Find all such fields of a unit; records that cannot be read otherwise are passed over.

    Returns:
        The number of the unit, and the error that names the fields; None if it has none.

    Raises:
        StorageError: input that cannot be read.
    """
    reading = load_context(job.options).reading
    found: list[UnknownFieldError] = []
    for record in read_records(unit, job.places[unit.input]):
        try:
            parse(record, reading)
        except UnknownFieldError as error:
            found = [together([*found, error])]
        except RecordError:
            continue
    return unit.number, found[0] if found else None
