"""`reasonpack report`: one page; its figures are those of `stats`, and no text breaks it."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from runs import OPTIONS, ROOT, SKIPPING, chats, run

from reasonpack.cli import cli
from reasonpack.errors import FormatError, TokenizerError, UsageError
from reasonpack.run.pack import pack_files

HOSTILE = (
    "<!-- <script </script "
    "</script><script>hit()</script><!-- --><img src=x onerror=hit()>\u2028'\"&amp;${hit()}"
)


def report(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    hostile = {"id": HOSTILE, "messages": [{"role": HOSTILE, "content": ""}]}
    said = {"role": "assistant", "content": HOSTILE, "reasoning_content": "so"}
    good = {"id": HOSTILE, "messages": [{"role": "user", "content": HOSTILE}, said]}
    lines = [json.dumps(each).encode() + b"\n" for each in (hostile, good)]
    (folder / "chats.jsonl").write_bytes(b"".join(lines) + chats())
    pack_files(
        [str(folder / "chats.jsonl")], folder / HOSTILE.replace("/", "∕"), SKIPPING, run=run()
    )
    return folder / HOSTILE.replace("/", "∕")


class Reader(html.parser.HTMLParser):
    """What a browser finds: elements, and the content of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script":
            name = attributes.get("id") or ""
            self.scripts[name] = self.scripts.get(name, "") + data


@pytest.fixture(scope="module")
def page(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("page") / "report.html"
    result = report(packed, "-o", output)
    assert result.exit_code == 0, result.output
    assert str(output) in result.stderr
    return output.read_text("utf-8")


def test_figures_are_those_of_stats(packed: Path, page: str) -> None:
    about = json.loads(Reader(page).scripts["about"])["summary"]
    told = json.loads(CliRunner().invoke(cli, ["stats", str(packed), "--json"]).stdout)
    output = str(packed.parent / "as.html")
    of_page = json.loads(report(packed, "-o", output, "--rows", 2, "--json").stdout)
    assert of_page == {
        "page": output,
        "rows": of_page["rows"],
        "texts": f"Texts by the tokenizer from {OPTIONS.tokenizer}",
        **told,
    }
    assert len(of_page["rows"]) == 2
    drawn = " ".join(CliRunner().invoke(cli, ["stats", str(packed)]).stdout.split())
    assert about["manifest"]["counts"] == told["manifest"]["counts"]
    assert about["distributions"] == told["distributions"]
    assert all(each["words"] in drawn for each in told["distributions"].values())
    works = {work["tokens"]: work for work in told["costs"].values() if isinstance(work, dict)}
    for name, tokens, pairs, blocks in about["costs"]:
        assert works[tokens]["tokens"] == tokens
        assert f"{name} {tokens:,} {pairs:,} {blocks:,}" in drawn
    assert about["advice"] in drawn
    for name, text in about["lines"]:
        assert f"{name} {text}" in drawn
    for reason, count, words, example, kind in about["rejects"]:
        assert kind == "rejected"
        assert told["manifest"]["counts"]["rejects"][reason] == count
        assert f"{count:,} {reason}: {words}" in drawn
        assert example


def test_no_text_from_data_is_markup(page: str) -> None:
    found = Reader(page)
    scripts = [attributes for tag, attributes in found.elements if tag == "script"]
    assert [each.get("type") for each in scripts[:-1]] == ["application/json"] * (len(scripts) - 1)
    assert scripts[-1] == {}
    assert not [tag for tag, _ in found.elements if tag in {"img", "iframe", "object"}]
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on")]
    about = json.loads(found.scripts["about"])
    assert about["name"] == HOSTILE.replace("/", "∕")
    assert "<script </script" in json.dumps(about["summary"]["rejects"])
    assert all(text.isascii() for name, text in found.scripts.items() if name)


def test_the_page_asks_for_nothing(page: str) -> None:
    found = Reader(page)
    for _, attributes in found.elements:
        assert "src" not in attributes
        assert (attributes.get("href") or "data:,") == "data:,"
    own = "".join(
        path.read_text("utf-8") for path in (ROOT / "reasonpack/show/report").glob("*.*s")
    )
    assert not re.search(r"https?:|fetch\(|XMLHttp|import\(|@import|url\(|innerHTML", own)
    policy = next(attrs["content"] or "" for tag, attrs in found.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_rows_are_drawn_or_named(packed: Path) -> None:
    def shown(*arguments: object) -> list[int]:
        result = report(packed, "-o", "-", *arguments)
        assert result.exit_code == 0, result.output
        scripts = Reader(result.stdout).scripts
        rows = [json.loads(scripts[name])["row"] for name in scripts if name.startswith("row-")]
        assert json.loads(scripts["about"])["rows"] == len(rows)
        return rows

    assert len(shown()) == 20
    assert shown("--rows", 5) == shown("--rows", 5) != shown("--rows", 5, "--seed", 1)
    assert shown("--row", 3, "--row", 1) == [1, 3]
    (by_id,) = shown("--id", HOSTILE)
    assert by_id == 0
    assert shown("--rows", 0) == []
    for wrong in (("--row", 1000), ("--id", "nobody")):
        assert isinstance(report(packed, "-o", "-", *wrong).exception, UsageError)


def test_ids_where_there_is_no_tokenizer(packed: Path, tmp_path: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_bytes())
    true = json.dumps(manifest)
    manifest["options"]["tokenizer"] = str(tmp_path / "gone")
    (packed / "manifest.json").write_text(json.dumps(manifest))
    try:
        result = report(packed, "-o", tmp_path / "page.html")
        assert result.exit_code == 0, result.output
        about = json.loads(Reader((tmp_path / "page.html").read_text("utf-8")).scripts["about"])
        assert about["tokens"]["texts"] is None
        assert about["source"].startswith("Ids and no text: ")
        assert about["source"] in result.stderr
        named = report(packed, "-o", "-", "--tokenizer", tmp_path / "gone")
        assert isinstance(named.exception, TokenizerError)
        found = report(packed, "-o", "-", "--tokenizer", OPTIONS.tokenizer)
        assert f"Texts by the tokenizer from {OPTIONS.tokenizer}" in found.stdout
    finally:
        (packed / "manifest.json").write_text(true)


def test_the_same_dataset_gives_the_same_page(packed: Path, page: str) -> None:
    assert report(packed, "-o", "-").stdout == page


def test_a_dataset_that_is_damaged_is_refused(packed: Path, tmp_path: Path) -> None:
    result = report(tmp_path, "-o", tmp_path / "page.html")
    assert isinstance(result.exception, FormatError)
    assert not (tmp_path / "page.html").exists()
