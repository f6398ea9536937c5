"""Callbacks that check and convert option values, shared by several commands."""

from __future__ import annotations

import json
import re
from datetime import date as Date  # noqa: N812 (the option is called date)
from pathlib import Path
from typing import Any

import click


def json_object(_: click.Context, parameter: click.Parameter, text: str | None) -> str:
    """Return a JSON object in canonical form; `{}` if `text` is None."""
    try:
        value: Any = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f'no JSON ({error}), expected an object such as {{"key": true}}'
        raise click.BadParameter(what, param=parameter) from error
    if not isinstance(value, dict):
        raise click.BadParameter('expected an object such as {"key": true}', param=parameter)
    return json.dumps(value, sort_keys=True)


def needed_unless_dry(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Refuse a missing option, unless `--dry-run` is given."""
    if value is None and not context.params.get("dry_run"):
        raise click.MissingParameter(ctx=context, param=parameter)
    return value


def json_object_in_file(
    context: click.Context, parameter: click.Parameter, path: str | None
) -> str:
    """Return the JSON object in a file; `path` may also be the object's text, or empty for `{}`."""
    if not path or path.startswith("{"):
        return json_object(context, parameter, path or None)
    return json_object(context, parameter, _read_text(parameter, path))


LONGEST_FILE = 1 << 26
"""Largest file that an option may name, in bytes."""


def _read_text(parameter: click.Parameter, path: str) -> str:
    """Return the text of a small file or pipe that an option names."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
        if len(content) > LONGEST_FILE:
            raise OSError(f"has more than {LONGEST_FILE:,} bytes")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise click.BadParameter(f"{path}: {what}", param=parameter) from error


def train_on(_: click.Context, parameter: click.Parameter, text: str) -> str:
    """Return the value of `--train-on` in canonical form."""
    from reasonpack.errors import UsageError  # noqa: PLC0415 (after --help)
    from reasonpack.views.chosen import read_train_on, written  # noqa: PLC0415

    try:
        return written(read_train_on(text))
    except UsageError as error:
        raise click.BadParameter(
            f"{error.what}, expected {error.expected}", param=parameter
        ) from error


def config_file(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Set defaults of options from a YAML file or a manifest; the command line outranks them."""
    if path is None:
        return
    from difflib import get_close_matches  # noqa: PLC0415 (not for --help)

    import yaml  # noqa: PLC0415

    text = _read_text(parameter, path)
    try:
        values: Any = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise click.BadParameter(f"{path}: {error}", param=parameter) from error
    if not isinstance(values, dict):
        raise click.BadParameter(
            f"{path}: expected lines such as max-length: 8192", param=parameter
        )
    if "plan_sha256" in values:
        try:
            values = _options_of_manifest(text)
        except ValueError as error:
            raise click.BadParameter(f"{path}: no manifest: {error}", param=parameter) from error
    names = _names(context.command)
    options = {each.name: each for each in context.command.params}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name, is_off = names.get(str(key).replace("_", "-"), ("", False))
        if not name or name in found:
            what = f"is no option of {context.command.name}"
            near = get_close_matches(str(key).replace("_", "-"), names, 1)
            expected = near[0] if near else f"some of {', '.join(sorted(names))}"
            what, expected = ("is given twice", "once") if name else (what, expected)
            raise click.BadParameter(f"{path}: {key}: {what}, expected {expected}", param=parameter)
        if is_off and not isinstance(value, bool):
            raise click.BadParameter(f"{path}: {key}: expected true or false", param=parameter)
        if value is None:
            continue
        try:
            given = _as_given(value, options[name])
        except (ValueError, TypeError) as error:
            raise click.BadParameter(f"{path}: {key}: {error}", param=parameter) from error
        found[name] = not value if is_off else given
    context.default_map = found


def _options_of_manifest(text: str) -> dict[str, Any]:
    """Return the inputs and options that repeat the run of a manifest.

    Raises:
        ValueError: `text` is not a manifest.
    """
    import msgspec  # noqa: PLC0415 (not for --help)

    from reasonpack.datasets.manifest import Manifest  # noqa: PLC0415

    try:
        msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(error) from error
    manifest = json.loads(text)
    parts = manifest.get("blend") or [{"path": each["path"]} for each in manifest["inputs"]]
    inputs = [
        {name: part[name] for name in ("path", "repeat", "conversations") if part.get(name)}
        for part in parts
    ]
    options = {name: one for name, one in manifest["options"].items() if one not in (None, [], {})}
    units = {"unit-size": manifest["unit_bytes"]} if manifest.get("unit_bytes") else {}
    return {**options, **units, "inputs": inputs}


def _names(command: click.Command) -> dict[str, tuple[str, bool]]:
    """Return name in a file → (parameter, whether this name turns it off).

    >>> flag = click.Option(["--resume/--overwrite"])
    >>> _names(click.Command("pack", params=[flag, click.Argument(["inputs"])]))
    {'resume': ('resume', False), 'overwrite': ('resume', True), 'inputs': ('inputs', False)}
    """
    names: dict[str, tuple[str, bool]] = {}
    for each in command.params:
        assert each.name is not None
        if isinstance(each, click.Argument):
            names[each.name] = each.name, False
        for given, is_off in ((each.opts, False), (each.secondary_opts, True)):
            names |= {long[2:]: (each.name, is_off) for long in given if long.startswith("--")}
    names.pop("config", None)
    return names


def _as_given(value: Any, option: click.Parameter) -> Any:
    """Return a value of a file as the command line would give it.

    True stands for an option given without a value, false for one that is not given.

    Raises:
        ValueError: a command line could not give this value.
    """
    alone = getattr(option, "flag_value", None)
    if isinstance(value, bool):
        if isinstance(option.type, click.Choice) and isinstance(alone, str):
            return alone if value else option.default
        return value
    several = option.nargs < 0 or getattr(option, "multiple", False)
    if isinstance(value, list) and not several:
        raise ValueError("a list, expected one value")
    each = [_text_of(one) for one in (value if isinstance(value, list) else [value])]
    return each if several else each[0]


def _text_of(value: Any) -> str:
    text = json.dumps(value, default=str) if isinstance(value, dict) else str(value)
    if re.search("[\0\ud800-\udfff]", text):
        raise ValueError(f"got {text!a}, expected text without NUL or half of a surrogate pair")
    return text


SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(text: str, suffix: str = "") -> int:
    """Return a number that may be followed by K, M or G and then `suffix`; 0 for other texts.

    >>> _size("8k"), _size("32 M"), _size("2GiB", "(?:i?B)?"), _size("1.5k")
    (8192, 33554432, 2147483648, 0)
    """
    digits = r"(\d[\d_]{0,20})"
    match = re.fullmatch(rf"{digits} ?([KMG]?){suffix}", text.strip(), re.IGNORECASE)
    return int(match[1].replace("_", "")) * SIZES[match[2].upper()] if match else 0


def number(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Return a number from 1 on; 8k stands for 8,192."""
    if text is None:
        return None
    found = _size(text)
    if not found:
        raise click.BadParameter(
            f"got {text!r}, expected a number from 1 on, such as 8192 or 8k", param=parameter
        )
    return found


def size_in_bytes(_: click.Context, parameter: click.Parameter, text: str) -> int:
    """Return a number of bytes, given as, for example, 32M."""
    size = _size(text, "(?:i?B)?")
    if not size:
        raise click.BadParameter(f"got {text!r}, expected a size such as 32M", param=parameter)
    return size


def names_with_commas(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return comma-separated names, sorted and each once."""
    names = {name.strip() for value in values for name in value.split(",")}
    return tuple(sorted(names - {""}))


def iso_date(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Return a date such as 2026-01-31; None if none is given."""
    try:
        return Date.fromisoformat(text).isoformat() if text else None
    except ValueError as error:
        what = f"got {text!r}, expected a day such as 2026-01-31"
        raise click.BadParameter(what, param_hint="--date") from error


def part_of_run(index: int | None, count: int | None, *, overwrite: bool) -> tuple[int, int] | None:
    """Return (index, count) of the part of a run to pack; None for a whole run."""
    if index is None and count is None:
        return None
    if index is None or count is None:
        raise click.UsageError("--shard-index and --shard-count go together.")
    if overwrite:
        raise click.UsageError("--overwrite would remove other parts; remove DIR beforehand.")
    return index, count
