"""A tokenizer's directory and the user's choice → the chat template, compiled.

tokenizer directory ─┐
--chat-template ─────┴→ ChatTemplate

A tokenizer may have none: calls that were logged in token ids need none.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from reasonpack.errors import TemplateError, UsageError
from reasonpack.records.strict_json import quoted
from reasonpack.storage.place import check_regular
from reasonpack.templates.template import SOURCE_LIMIT, ChatTemplate

LACKING = "{{ raise_exception('there is no chat template') }}"
"""Source of the template that stands for the one that a tokenizer does not have."""


def load_template(
    choice: str | None,
    *,
    directory: Path,
    config: Mapping[str, Any],
    special_tokens: Mapping[str, Any] | None = None,
    date: datetime.date | None = None,
) -> tuple[ChatTemplate, ChatTemplate]:
    """Return the compiled chat template, and the one for conversations with tools.

    The two are the same object unless `choice` is None and the tokenizer has a `tool_use`
    template in addition to `default`, as in transformers.

    `choice` is a file, the name of one of the tokenizer's templates, or a template's text; None
    takes the tokenizer's default, or `LACKING` if it has none. `strftime_now` shows `date`.

    Raises:
        UsageError: there is no template of the name `choice`.
        TemplateError: the template does not compile.
    """

    def compile_(name: str, source: str) -> ChatTemplate:
        return replace(_compiled(source, name, date), special_tokens=dict(special_tokens or {}))

    is_text = choice is not None and ("{{" in choice or "{%" in choice)
    named = {} if is_text else read_templates(directory, config)
    if choice is None:
        if "default" not in named:
            known = f"; it has {', '.join(sorted(named))}" if named else ""
            lacking = compile_(f"no chat template{known}", LACKING)
            return lacking, lacking
        tools, default = named.get("tool_use"), compile_("chat template", named["default"])
        return default, compile_("chat template tool_use", tools) if tools else default
    if is_text:
        only = compile_("--chat-template", choice)
    elif choice in named:
        only = compile_(f"chat template {choice}", named[choice])
    else:
        path = _file(choice, named)
        only = compile_(path.name, _read_text(path))
    return only, only


def check_template(template: ChatTemplate, directory: Path) -> None:
    """Check that a tokenizer's template does not stand for one that it lacks.

    Raises:
        UsageError: it does.
    """
    if template.source == LACKING:
        fix = "pass --chat-template FILE, NAME or TEXT"
        raise UsageError(directory, template.name, "one", fix)


@lru_cache(maxsize=8)
def _compiled(source: str, name: str, date: datetime.date | None) -> ChatTemplate:
    """Return the compiled template; a process compiles each source once."""
    return ChatTemplate.compile(source, name=name, date=date)


def _file(choice: str, named: Mapping[str, str]) -> Path:
    path = Path(choice)
    try:
        there = path.is_file()
    except OSError:  # text that is too long for a name
        there = False
    if there:
        return path
    known = f" or one of the tokenizer's: {', '.join(sorted(named))}" if named else ""
    where = f"--chat-template {quoted(choice, limit=200)}"
    expected = f"a file, a template's text{known}"
    raise UsageError(where, "no such file", expected, "check the spelling")


def read_templates(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the sources of all chat templates of a tokenizer, by name.

    `chat_template.jinja` outranks `chat_template` in `tokenizer_config.json`, as in
    transformers; files `additional_chat_templates/NAME.jinja` add further templates.

    >>> read_templates(Path("nowhere"), {"chat_template": [{"name": "default", "template": "x"}]})
    {'default': 'x'}
    """
    named: dict[str, str] = {}
    inline = config.get("chat_template")
    if isinstance(inline, str):
        named["default"] = inline
    elif isinstance(inline, list):
        for entry in inline:
            if not (isinstance(entry, dict) and {"name", "template"} <= entry.keys()):
                what = "chat_template: an entry without name and template"
                raise TemplateError("tokenizer_config.json", what, "both", "pass --chat-template")
            named[str(entry["name"])] = str(entry["template"])
    legacy = directory / "chat_template.json"
    if os.path.lexists(legacy):  # a dangling link is an error, not a missing file
        try:
            content = json.loads(_read_text(legacy))["chat_template"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise TemplateError(
                legacy, "no text under chat_template", "one", "pass --chat-template"
            ) from error
        named["default"] = str(content)
    main = directory / "chat_template.jinja"
    if os.path.lexists(main):
        named["default"] = _read_text(main)
    for path in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        named[path.stem] = _read_text(path)
    return named


def _read_text(path: Path) -> str:
    try:
        check_regular(path)
        if path.stat().st_size > 4 * SOURCE_LIMIT:
            what = f"{path.stat().st_size:,} bytes"
            raise TemplateError(path, what, f"at most {4 * SOURCE_LIMIT:,}", "pass a chat template")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(path, error, "a readable UTF-8 file", "check the file") from error
