"""The template of a tokenizer is found where transformers finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rendered import compiled

from reasonpack.errors import TemplateError, UsageError
from reasonpack.templates.find import LACKING, check_template, load_template, read_templates


def sources(directory: Path, config: dict[str, Any], choice: str | None = None) -> list[str]:
    found = load_template(choice, directory=directory, config=config)
    return [template.source for template in found]


def test_file_outranks_legacy_file_outranks_config(tmp_path: Path) -> None:
    config = {"chat_template": "config"}
    assert sources(tmp_path, config) == ["config", "config"]
    (tmp_path / "chat_template.json").write_text('{"chat_template": "legacy"}', "utf-8")
    assert sources(tmp_path, config) == ["legacy", "legacy"]
    (tmp_path / "chat_template.jinja").write_text("file", "utf-8")
    assert sources(tmp_path, config) == ["file", "file"]


def test_tools_have_a_template_of_their_own(tmp_path: Path) -> None:
    entries = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert sources(tmp_path, {"chat_template": entries}) == ["a", "b"]
    assert sources(tmp_path, {"chat_template": entries}, "default") == ["a", "a"]
    assert sources(tmp_path, {"chat_template": entries}, "tool_use") == ["b", "b"]
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("c", "utf-8")
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("d", "utf-8")
    assert sources(tmp_path, {"chat_template": "a"}) == ["a", "c"]
    assert sources(tmp_path, {"chat_template": "a"}, "rag") == ["d", "d"]


def test_without_a_template_of_its_own_both_are_one_object(tmp_path: Path) -> None:
    first, second = load_template(None, directory=tmp_path, config={"chat_template": "x"})
    assert first is second


def test_choice_may_be_a_file_or_a_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("from a file", "utf-8")
    assert sources(tmp_path, {}, str(path)) == ["from a file"] * 2
    assert sources(tmp_path, {}, "{{ messages }}") == ["{{ messages }}"] * 2


@pytest.mark.parametrize(
    ("choice", "config", "message"),
    [
        ("nowhere.jinja", {}, "--chat-template 'nowhere.jinja': no such file"),
        (
            "rga",
            {"chat_template": [{"name": "rag", "template": ""}]},
            "one of the tokenizer's: rag",
        ),
    ],
)
def test_missing_template_is_a_usage_error(
    choice: Any, config: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        load_template(choice, directory=tmp_path, config=config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no chat template, expected one"),
        ({"chat_template": [{"name": "rag", "template": ""}]}, "no chat template; it has rag, exp"),
    ],
)
def test_a_tokenizer_may_lack_a_template_until_one_is_needed(
    config: Any, message: str, tmp_path: Path
) -> None:
    plain, tools = load_template(None, directory=tmp_path, config=config)
    assert plain is tools
    assert plain.source == LACKING
    with pytest.raises(UsageError, match=message):
        check_template(plain, tmp_path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text("[]", "utf-8")
    with pytest.raises(TemplateError, match=r"chat_template\.json: no text under chat_template"):
        read_templates(tmp_path, {})
    (tmp_path / "chat_template.json").unlink()
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(TemplateError, match=r"chat_template\.jinja: .* expected a readable UTF-8"):
        read_templates(tmp_path, {})
    with pytest.raises(TemplateError, match="an entry without name and template"):
        read_templates(tmp_path, {"chat_template": [{"name": "default"}]})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{% if %}", "probe: line 2: Expected an expression"),
        ("{" * 50 + "%", "unexpected"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "while compiling"),
        ("x" * (4 << 20) + "x", "the template has 4,194,305 characters"),
    ],
)
def test_what_is_no_template_is_refused(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        compiled(source)
