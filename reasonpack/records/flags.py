"""The flags of a message → whether it is trained.

{"weight": 0}, {"train": false}, {"step_loss_mask": 0}  →  False
"""

from __future__ import annotations

from operator import attrgetter

from reasonpack.errors import RecordError
from reasonpack.records.content import same
from reasonpack.records.draft import FLAGS, is_absent
from reasonpack.records.value_types import wrong_type

_flags, _NONE = attrgetter(*FLAGS), (None,) * len(FLAGS)


def read_flag(fields: object, path: str) -> bool | None:
    """Return whether a message is trained; None where it does not say.

    Args:
        fields: an object with the `FLAGS` as attributes.
        path: of the message.

    Raises:
        RecordError: flags that differ, or that are neither true nor false, 0 nor 1.
    """
    values = _flags(fields)
    if values == _NONE:
        return None
    values = tuple(None if is_absent(value) else value for value in values)
    for name, value in zip(FLAGS, values, strict=True):
        if value is None:
            continue
        if isinstance(value, list):
            what = "got a list, expected 0 or 1 for the whole message"
            fix = "A mask of tokens needs the tokens' ids, which a message does not have."
            raise RecordError("weight", f"{path}.{name}", what, fix=f"{fix} Write 0 or 1.")
        if not isinstance(value, bool | int | float):
            raise wrong_type(f"{path}.{name}", type(value).__name__, "true, false, 0 or 1")
        if value not in (0, 1):
            what = "got a number other than 0 and 1, expected one of the two"
            fix = "Weighting is not supported yet: write 1 to train the message, 0 not to."
            raise RecordError("weight", f"{path}.{name}", what, fix=fix)
    flag = same(path, FLAGS, values)
    return None if flag is None else flag == 1
