"""A value of the package → another one, with some fields changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec


def replace(value: Any, /, **changes: Any) -> Any:
    """Change fields of a Struct or of a dataclass; `copy.replace` does so from Python 3.13 on."""
    change: Any = msgspec.structs if isinstance(value, msgspec.Struct) else dataclasses
    return change.replace(value, **changes)
