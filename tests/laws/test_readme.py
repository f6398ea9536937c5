"""Every command in the README and in the READMEs of folders prints what they show; links lead
somewhere; tables of names have the names of the code.
"""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
import re
from functools import cache
from pathlib import Path

import pytest
import readme

from reasonpack import masks
from reasonpack.cli import COMMANDS
from reasonpack.records import draft
from reasonpack.records.call_draft import TOKEN_NAMES, VALUE_NAMES
from reasonpack.records.call_formats import CALLS, CHAT, READERS, SESSIONS
from reasonpack.records.draft import ROLES
from reasonpack.records.readers.generic import OF_A_CALL
from reasonpack.show.rejects import WORDS
from reasonpack.templates.behaviour import Behaviour
from reasonpack.verify.findings import CODES

ROOT = readme.ROOT
PACKAGE = ROOT / "reasonpack"
PAGES = readme.pages()
OF_OTHERS = {"--array", "--dependency", "--cached_dataset", "--max_length", "--dist"}
"""Options of Slurm, ms-swift and pytest."""
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)
with_sessions = pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == readme.README else pytest.mark.long)
        for page in PAGES
        if readme.sessions(page)
    ],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table that begins with, or stands below, a line."""
    at = text_of(page).index(f"\n{heading}") + 1
    lines = re.search(r"(?:^\|.*\n)+", text_of(page)[at:], re.MULTILINE)
    assert lines, heading
    rows = [line.strip().strip("|") for line in lines[0].splitlines()[2:]]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# --- commands ------------------------------------------------------------------------------------


@with_sessions
def test_console_blocks_print_what_they_show(page: Path) -> None:
    """The sessions run in order; nothing is there but the fixtures and what the README made."""
    with readme.place_for(page) as place:
        for command, shown in readme.sessions(page):
            printed, wanted = readme.masked(readme.run(command, place)), readme.masked(shown)
            if shown.endswith("…\n"):
                assert printed.startswith(wanted[: -len("…\n")]), command
            else:
                assert printed == wanted, command


def test_python_sessions_print_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    found = 0
    for page in PAGES:
        blocks = "\n".join(readme.blocks("pycon", page))
        test = doctest.DocTestParser().get_doctest(blocks, {}, str(page), str(page), 0)
        result = doctest.DocTestRunner().run(test)
        assert result.failed == 0, page
        found += result.attempted
    assert found


def test_the_first_two_blocks_set_everything_up() -> None:
    first, second = readme.blocks("sh")
    assert first.count("\n") == second.count("\n") == 1, "one line each, to copy and paste"
    assert "reasonpack pack fixtures/" in first
    assert "pytest" in second


def test_only_the_readme_has_commands_that_are_run_elsewhere() -> None:
    assert [page for page in PAGES if readme.blocks("sh", page)] == [readme.README]


def test_the_readme_is_for_ten_minutes() -> None:
    assert len(text_of(readme.README).splitlines()) <= 150


def test_every_command_is_in_the_readme() -> None:
    text = " ".join(text_of(readme.README).split())
    for command in COMMANDS:
        assert f"reasonpack {command}" in text, f"the README does not mention {command}"


@cache
def options_of(command: str) -> set[str]:
    found = importlib.import_module(f"reasonpack.cli.{command}").command.params
    return {"--help", *(name for each in found for name in (*each.opts, *each.secondary_opts))}


@pytest.mark.parametrize(
    "page", [readme.README, *sorted(PACKAGE.rglob("*.md"))], ids=lambda page: page.parent.name
)
def test_every_option_exists(page: Path) -> None:
    text = re.sub(r"^```sh\n.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    known = {option for command in COMMANDS for option in options_of(command)} | OF_OTHERS
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text)):
        assert option in known, f"{option} is no option of any command"
    calls = [command for command, _ in readme.sessions(page)]
    calls += [line for block in readme.blocks("", page) for line in block.splitlines()]
    calls += re.findall(r"`(reasonpack [^`]+)`", text)
    for call in calls:
        for command, rest in re.findall(r"\breasonpack ([a-z]+) ([^;]*)", call):
            for option in re.findall(r"(?<![\w-])--?[a-z][a-z_-]*", rest):
                assert option in options_of(command), f"{command} has no {option}"


# --- links and names -----------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as links do."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`([\w/.]+\.(?:py|md|jinja|toml))`", text_of(page)):
        if "/" in name and "NAME" not in name:
            places = (page.parent, PACKAGE, ROOT)
            assert any((place / name).exists() for place in places), name


@every_page
def test_python_blocks_are_tested_code(page: Path) -> None:
    """A block stands in a file that the tests run, or imports what exists and compiles."""
    lines = [
        [line.strip() for line in text_of(path).splitlines()]
        for path in (ROOT / "tests" / "trainers").rglob("*.py")
    ]
    for block in readme.blocks("python", page):
        shown = [line.strip() for line in block.splitlines()]
        if any(shown == own[at : at + len(shown)] for own in lines for at in range(len(own))):
            continue
        assert page != readme.README, block
        compile(block.replace("…", "**others"), str(page), "exec")
        torch = text_of(PACKAGE / "torch" / "__init__.py")
        for name in re.findall(r"(?<![.\w])([a-z]+_[a-z_]+)\(", block):
            assert f'"{name}"' in torch, f"{name} is none of reasonpack.torch"


# --- reasonpack/README.md ------------------------------------------------------------------------


def test_the_map_has_every_entry() -> None:
    files = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(map_rows()) == sorted(files | folders)
    for path in PACKAGE.glob("*/*/__init__.py"):
        inner = path.parent
        row = rf"^\| `{inner.parent.name}/` \|.*`{inner.name}/`"
        assert re.search(row, text_of(PACKAGE / "README.md"), re.MULTILINE), inner


def test_what_reads_datasets_does_not_stand_on_the_runner() -> None:
    for folder in ("masks", "torch", "verify"):
        for path in (PACKAGE / folder).glob("*.py"):
            assert "reasonpack.run" not in text_of(path), path


def map_rows() -> list[str]:
    return re.findall(r"^\| `([\w./]+)` \|", text_of(PACKAGE / "README.md"), re.MULTILINE)


def test_the_walk_names_what_there_is_and_goes_down() -> None:
    _, _, walk = text_of(PACKAGE / "README.md").partition("## The walk of one record\n")
    steps = re.findall(r"^\d+\. (.*)$", walk, re.MULTILINE)
    assert len(steps) == 15
    named = r"((?:`\w+`(?: and )?)+)\sin\s\[([\w/]+)\.py\]\(([\w/]+)\.py\)"
    for names, label, link in re.findall(named, text_of(PACKAGE / "README.md")):
        module = importlib.import_module(f"reasonpack.{link.replace('/', '.')}")
        assert label == link
        for name in quoted(names):
            assert hasattr(module, name), f"{link} has no {name}"
    folders = []
    for step in steps:
        found = re.findall(named, step)
        assert found, step
        folders += [f"{link.partition('/')[0]}/" for _, _, link in found]
    order = map_rows()
    assert [order.index(folder) for folder in folders] == sorted(map(order.index, folders))


def test_the_names_in_how_to_add_are_defined() -> None:
    _, _, how = text_of(PACKAGE / "README.md").partition("## How to add\n")
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests" / "laws").glob("*.py")]
    code = "\n".join(map(text_of, files))
    for name in re.findall(r"`(_\w+|[A-Z]\w+)`", how):
        assert re.search(rf"^ *(?:(?:def|class) {name}\b|{name}(?:: .*)? = )", code, re.M), name


# --- names of records, templates and masks -------------------------------------------------------


def test_the_names_of_records_are_those_of_the_code() -> None:
    rows = {what: cell for _, what, cell in table(PACKAGE / "records" / "README.md", "## Fields")}
    schema = json.loads((ROOT / "schemas" / "record.schema.json").read_bytes())
    known = set(re.findall(r"\w+", json.dumps(schema)))
    for what, cell in rows.items():
        for name in quoted(cell):
            assert name in known or "<" in name, f"{what}: {name} is in no schema"
    assert set(quoted(rows["whether it is trained"])) == set(draft.FLAGS)
    assert set(draft.REASONING) <= set(quoted(rows["reasoning"]))
    roles = {*quoted(rows["role"]), *quoted(rows["tool calls"])}
    assert set(ROLES) <= roles


def test_the_names_of_calls_are_those_of_the_code() -> None:
    section = "## Calls and rollouts"
    rows = {what: set(quoted(cell)) for what, cell in table(PACKAGE / "records/README.md", section)}
    for what, kind in {
        "ids of the completion": "completion_ids",
        "log probabilities": "logprobs",
        "trained tokens": "loss_mask",
    }.items():
        assert rows[what] == {*TOKEN_NAMES[kind]}
    assert rows["ids of the prompt"] >= {*TOKEN_NAMES["prompt_ids"]}
    assert rows["credit"] == {*TOKEN_NAMES["advantages"], *itertools.chain(*VALUE_NAMES.values())}
    assert set().union(*rows.values()) - {"ID#0", "ID#1"} <= OF_A_CALL | {"calls", "steps"}
    formats = table(PACKAGE / "records" / "README.md", "These logs are read as they are")
    named = [quoted(cell)[0] for cell, *_ in formats]
    assert sorted(named) == sorted([CHAT, CALLS, *READERS, *SESSIONS])


def test_the_reasons_are_those_of_the_code() -> None:
    rows = table(PACKAGE / "records" / "README.md", "The reasons:")
    assert {name.strip("`"): words for name, words in rows} == dict(WORDS)


def test_the_fields_of_a_template_are_those_of_the_code() -> None:
    rows = table(PACKAGE / "templates" / "README.md", "## Correcting what was learned")
    names = {name for cell, _ in rows for name in quoted(cell)}
    assert names <= set(Behaviour.__struct_fields__)


def test_the_number_of_templates_is_that_of_the_goldens() -> None:
    (number,) = re.findall(r"(\d+) published templates", text_of(PACKAGE / "templates/README.md"))
    goldens = (ROOT / "tests" / "templates" / "golden").glob("*.txt")
    assert int(number) == len(list(goldens))


def test_the_functions_of_masks_exist() -> None:
    rows = table(PACKAGE / "masks" / "README.md", "| kernel | function")
    named = {name for _, functions, *_ in rows for name in quoted(functions)}
    for name in named:
        module, _, function = name.partition(".")
        assert f"def {function}(" in text_of(PACKAGE / "masks" / f"{module}.py"), name
    modules = {path.stem for path in (PACKAGE / "masks").glob("*.py")} - {"__init__", "rows"}
    assert modules == {name.partition(".")[0] for name in named}, "a mask is not in the table"


# --- schemas/FORMAT.md ---------------------------------------------------------------------------


def test_the_codes_of_violations_stand_beside_their_rules() -> None:
    text = text_of(ROOT / "schemas" / "FORMAT.md")
    _, _, rules = text.partition("## What holds in every row\n")
    for code, what in CODES.items():
        found = re.search(r"\(rule (\d)\)", what)
        if found:
            rule = re.search(rf"^{found[1]}\. .*?(?=^\d\. |^A trainer)", rules, re.M | re.S)
            assert rule, what
            assert code in rule[0], what
        else:
            assert code in text, what
    assert set(re.findall(r"RP\d{3}", text)) <= set(CODES)


def test_the_worked_row_is_that_of_the_vector() -> None:
    _, _, below = text_of(ROOT / "schemas" / "FORMAT.md").partition("## A row, worked out\n")
    lines = re.findall(r"^(\w+) +((?:[−\w]+ *)+)$", below.partition("\n## ")[0], re.MULTILINE)
    shown = {name: cells.replace("−", "-").split() for name, cells in lines}
    vector = json.loads((ROOT / "schemas" / "vectors" / "two_turns_stripped.json").read_bytes())
    row, kinds = vector["row"], ["h", "t", "r_in", "r_out"]
    segment = [
        sum(start <= at for start in row["segment_start"]) - 1 for at in range(row["length"])
    ]
    expected = {
        **{name: value if isinstance(value, list) else [value] for name, value in row.items()},
        "token": vector["tokens"].split(),
        "index": range(row["length"]),
        "segment": segment,
        "kind": [kinds[row["segment_kind"][each]] for each in segment],
        "message": [row["segment_message"][each] for each in segment],
        "visible_until": masks.visible_until(row),
    }
    for name, values in expected.items():
        assert shown[name] == [str(value) for value in values], name


# --- the wheel -----------------------------------------------------------------------------------


def test_the_wheel_leaves_the_pages_out() -> None:
    _, _, wheel = text_of(ROOT / "pyproject.toml").partition("[tool.hatch.build.targets.wheel]\n")
    assert 'exclude = ["/reasonpack/**/README.md"]' in wheel.partition("\n\n")[0]
    assert {page.name for page in PACKAGE.rglob("*.md")} == {"README.md"}
