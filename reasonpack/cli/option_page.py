"""A page that lists options as help shows them → options of a command.

    --dedup                          click.option("--dedup", type=Choice(["none", "exact"]),
        Pack only the first.    →        default="none", help="Pack only the first.")

Types and defaults come from the fields of `Options`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from reasonpack.cli.options import number
from reasonpack.datasets.options import Options

Command = Callable[..., Any]
_TYPES = get_type_hints(Options)
_DEFAULTS = {each.name: each.default for each in fields(Options) if each.default is not MISSING}
_SHARED: Mapping[str, Mapping[str, Any]] = {
    "output": {"required": True},
    "resume": {"default": True, "show_default": False},
    "packing": {"is_flag": False, "flag_value": "best-fit"},
    "seed": {"type": click.IntRange(0, (1 << 64) - 1)},
    "num_proc": {"type": click.IntRange(min=1)},
    "json": {"is_flag": True},
}
"""Arguments of `click.option` for options that are alike in all commands with a page."""


def options(
    page: str, *, defaults: bool = True, **how: Mapping[str, Any]
) -> Callable[[Command], Command]:
    """Return a decorator that adds the options of a page to a command, in the page's order.

    A line of the page has the names of an option, and perhaps a name for its value; indented lines
    below it are its help. The field of `Options` of that name gives its type, and its default
    unless `defaults` is false. `how`: name of an option → further arguments of `click.option`.

    >>> named = options('''
    ... --dedup
    ...     Pack only the first.
    ... --max-length TOKENS
    ...     Longest row,
    ...     such as 8k.
    ... ''')
    >>> for each in click.command(named(lambda: None)).params:
    ...     print(each.name, each.default, each.metavar, each.help)
    dedup none None Pack only the first.
    max_length None TOKENS Longest row, such as 8k.
    """

    def add(command: Command) -> Command:
        meant = set(how)
        for entry in reversed(re.split(r"\n(?=-)", page.strip())):
            head, *text = entry.splitlines()
            names = [each for each in head.split() if each.startswith("-")]
            name = re.sub("^--|/.*", "", names[-1]).replace("-", "_")
            meant.discard(name)
            arguments = {
                **_of_field(name, default=defaults),
                **_SHARED.get(name, {}),
                **how.get(name, {}),
            }
            arguments["metavar"] = head.removeprefix(" ".join(names)).strip() or None
            command = click.option(*names, help=" ".join(map(str.strip, text)), **arguments)(
                command
            )
        assert not meant, f"the page has none of the options {meant}"
        return command

    return add


def _of_field(name: str, *, default: bool) -> dict[str, Any]:
    """Return arguments of `click.option` from the field `name` of `Options`; none without one."""
    kind = _TYPES.get(name)
    arguments: dict[str, Any] = (
        {"default": _DEFAULTS[name]} if default and name in _DEFAULTS else {}
    )
    kinds = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
    if kinds:
        arguments["type"] = click.Choice(get_args(kinds[0]))
    elif kind is bool:
        arguments["is_flag"] = True
    elif kind == int | None:
        arguments["callback"] = number
    elif kind == tuple[str, ...]:
        arguments["multiple"] = True
    return arguments
