"""Columns and tags of a dataset_info.json of LLaMA-Factory → options of `pack`.

columns: {messages: dialog, tools: functions}     --field dialog=messages --field functions=tools
tags:    {role_tag: who, assistant_tag: Bot}      --field who=role --role Bot=assistant
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COLUMNS = {
    **{name: (name,) for name in ("system", "tools", "prompt")},
    "messages": ("messages", "conversations", "conversation"),
    "response": ("completion",),
}
"""Column → the field names that `pack` reads as this column; the first one for `--field`."""
FIELDS = {"role_tag": ("role", "from"), "content_tag": ("content", "value")}
ROLES = {
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "observation_tag": ("tool", "observation"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}


def as_pack_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `columns` and `tags` turned into `field` and `role`.

    Raises:
        UsageError: a column or tag is unknown, or its value is not a name.
    """
    columns, tags = (json.loads(given[name]) for name in ("columns", "tags"))
    fields = [*_pairs("--columns", columns, COLUMNS)]
    fields += _pairs("--tags", {k: tags[k] for k in tags if k in FIELDS}, FIELDS)
    roles = [*_pairs("--tags", {k: tags[k] for k in tags if k not in FIELDS}, ROLES)]
    others = {name: each for name, each in given.items() if name not in ("columns", "tags")}
    return {**others, "field": (*given["field"], *fields), "role": (*given["role"], *roles)}


def _pairs(option: str, given: dict[str, Any], known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    from reasonpack.errors import UsageError  # noqa: PLC0415 (after --help)

    for name, value in given.items():
        if value is None:
            continue
        if name not in known or not isinstance(value, str) or not value:
            found = f"{name}: {json.dumps(value)}"
            fix = "leave it out; pack then refuses fields that may hold what the model is to learn"
            if name in known:
                fix = "write the name that the records have, in quotes"
            elif isinstance(value, dict):
                fix = f"pass what it holds as --{name}"
            raise UsageError(option, found, f"a name for some of {', '.join(known)}", fix)
        if value not in known[name]:
            yield f"{value}={known[name][0]}"
