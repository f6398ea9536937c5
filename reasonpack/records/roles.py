"""The roles of messages, under all names."""

from __future__ import annotations

from collections.abc import Mapping

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import quoted

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "tool_call": "assistant",
    "function_call": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
}
"""The roles that a record may name, each with the role that a template knows."""
CALL_ROLES = ("tool_call", "function_call")
"""Those of a message whose content is the JSON of its calls."""


def known_role(said: object, path: str, *, key: str) -> str:
    """Return the template's role for the one that a message has in its field `key`.

    Raises:
        RecordError: there is none, or an unknown one.
    """
    if said is None:
        raise RecordError("missing", path, "no role, expected one", fix=_ROLE_FIX)
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        what = f"unknown role {quoted(str(said))}, expected a known one"
        fix = f"{_ROLE_FIX[:-1]}; or pass --role NAME=ROLE to read it as one of these."
        raise RecordError("role", f"{path}.{key}", what, fix=fix)
    return role


_ROLE_FIX = f"Write one of {', '.join(ROLES)}."
