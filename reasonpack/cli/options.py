"""Option values that more than one command reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["json_object", "json_object_in_file"]


def json_object(_: click.Context, parameter: click.Parameter, text: str) -> str:
    """Check a JSON object, and write it in one way."""
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}", param=parameter) from error
    if not isinstance(value, dict):
        raise click.BadParameter('expected an object such as {"key": true}', param=parameter)
    return json.dumps(value, sort_keys=True)


def json_object_in_file(context: click.Context, parameter: click.Parameter, path: str) -> str:
    """Read a JSON object from a file; none is given by an empty path."""
    if not path:
        return "{}"
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param=parameter) from error
    return json_object(context, parameter, text)
