"""The shape of the package: small files, short functions, imports one way, tests by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from runs import ROOT

PACKAGE = ROOT / "reasonpack"
TESTS = ROOT / "tests"
FILES = sorted(PACKAGE.rglob("*.py"))
OPTIONS = {"command"}
"""Functions that declare the options of a command."""


def imported(path: Path) -> Iterator[str]:
    """Name the modules of the package that a file imports, those for annotations too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reasonpack."):
            yield str(node.module).partition(".")[2]
            yield from (f"{node.module}.{each.name}".partition(".")[2] for each in node.names)


def entry(path: Path) -> str:
    """Return the entry of the package, a folder or a module, that a file is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ENTRIES = {entry(path) for path in FILES} - {"__init__", "__main__"}
BELOW = {
    name: {
        found.partition(".")[0] for path in FILES if entry(path) == name for found in imported(path)
    }
    & ENTRIES - {name}
    for name in ENTRIES
}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}


def circle(below: dict[str, set[str]]) -> list[str]:
    """Return names of which each imports the next, and the last the first; none if none do."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        for each in () if name in done else sorted(below[name]):
            if found := follow(each, [*path, name]):
                return found
        done.add(name)
        return []

    return next(filter(None, (follow(name, []) for name in sorted(below))), [])


def test_one_sees_at_a_glance_what_there_is() -> None:
    assert len(ENTRIES) <= 16, sorted(ENTRIES)


def test_no_entry_imports_in_a_circle() -> None:
    assert not circle(BELOW)


def test_no_module_imports_in_a_circle() -> None:
    at_once = {
        name: {
            found
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reasonpack.")
            for found in [str(node.module).partition(".")[2]]
            if found in MODULES
        }
        - {name}
        for name, path in MODULES.items()
    }
    assert not circle(at_once)


def test_the_longest_chain_of_imports_is_short() -> None:
    @cache
    def height(name: str) -> int:
        return 1 + max(map(height, BELOW[name]), default=0)

    assert max(map(height, ENTRIES)) <= 10


def test_a_consumer_does_not_stand_on_the_runner() -> None:
    assert not [name for name in ("masks", "show", "torch", "verify") if "run" in BELOW[name]]


def test_benchmarks_import_what_is_there() -> None:
    lacking = [
        f"{path.name}: {name}.{each.name}"
        for path in sorted((TESTS / "benchmarks").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reasonpack.")
        for name in [str(node.module).partition(".")[2]]
        for each in node.names
        if not re.search(rf"\b{each.name}\b", MODULES[name].read_text("utf-8"))
    ]
    assert not lacking


def test_no_file_is_long() -> None:
    files = [*FILES, *PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.css")]
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    assert not {str(path): number for path, number in lines.items() if number > 350}


def test_no_function_is_long() -> None:
    found = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.name not in OPTIONS
    }
    assert not {name: lines for name, lines in found.items() if lines > 50}


def test_a_planted_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


TESTED_TOGETHER = {
    "records/test_refused_records": "records.no_messages records.value_types",
    "verify/test_calls": "verify.answers",
    "verify/test_command": "cli.verify",
    "verify/test_sessions": "verify.pi",
    "verify/test_reader": "verify.chat",
    "verify/test_rows": "verify.row",
    "verify/test_views": "verify.view_rules",
}
"""Tests of modules that have no test file of their own name, as a split would part one behaviour.

A module without a function has no tests: its types and tables are read by those of others.
"""


def is_found(name: str, tests: set[str]) -> bool:
    """Return whether a module has a test file of its name, in the folder of its folder's name.

    In any folder if no other module has the name. A command has the name of what it runs, so that
    its tests may be in `run` or `show`. Those of `torch` are in `trainers`, and those of `datasets`
    in `dataset`: folders of tests with these names would hide the libraries.
    """
    folder, _, own = name.rpartition(".")
    alike = [each for each in MODULES if each.rpartition(".")[2] == own]
    found = {test.rpartition("/")[0] for test in tests if test.rpartition("/")[2] == f"test_{own}"}
    if len(alike) == 1:
        return bool(found)
    if folder == "cli":
        return any(re.match("(cli|run|show)\\b", each) for each in found)
    inside = re.sub("^torch", "trainers", re.sub("^datasets", "dataset", folder))
    return inside.replace(".", "/") in found


def test_the_tests_of_a_module_are_found_by_its_name() -> None:
    tests = {path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*")}
    with_functions = {
        name
        for name, path in MODULES.items()
        if not path.name.startswith("__") and re.search(r"(?m)^ *def ", path.read_text("utf-8"))
    }
    listed = {name for names in TESTED_TOGETHER.values() for name in names.split()}
    assert {name for name in with_functions if not is_found(name, tests)} == listed
    assert TESTED_TOGETHER.keys() <= tests
