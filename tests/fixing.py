"""Rows of tests that do what an error says: bad input, words of the error, and its fix, done."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT

from reasonpack.errors import NothingPackedError, ReasonpackError, RecordError

Arguments = list[str]
Pack = Callable[[Arguments], tuple[int, str]]
"""Packs in a directory of its own; returns status and messages."""
Command = Callable[[Arguments], tuple[int, str]]
"""Runs any command; returns status and messages."""
Mend = Callable[[Arguments, str], Arguments]
"""Does what the error says, in the current directory; returns the arguments of the next try."""


@dataclass(frozen=True)
class Row:
    """Files and arguments of pack that are refused, words of the error, and its fix, done."""

    files: dict[str, bytes]
    arguments: Arguments
    words: str
    mend: Mend
    status: int = 1
    needs: tuple[str, ...] = field(default=())


def instead(*arguments: str) -> Mend:
    return lambda given, error: list(arguments)


def also(*arguments: str) -> Mend:
    return lambda given, error: [*given, *arguments]


def write(name: str, content: bytes, *more: str) -> Mend:
    def mend(given: Arguments, error: str) -> Arguments:
        Path(name).write_bytes(content)
        return [*given, *more]

    return mend


def command(given: Arguments, error: str) -> Arguments:
    """Run what stands in backticks, and take the file that it makes, or unpacks."""
    before = set(Path().iterdir())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    steps = re.findall(r"`([^`]+)`", error.partition("Fix: ")[2])
    assert steps, error
    for step in steps:
        subprocess.run(step, shell=True, check=True, env=environment)
    made = sorted(set(Path().iterdir()) - before)
    assert made, error
    return [made[-1].name]


def check(row: Row, pack_here: Pack) -> None:
    """Raise AssertionError unless a row is refused in its words, and no more once it is mended."""
    if missing := [program for program in row.needs if not shutil.which(program)]:
        pytest.skip(f"no {missing[0]} here")
    for name, content in row.files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    status, error = pack_here(row.arguments)
    assert status == row.status, error
    assert re.search(row.words, error), error
    assert "Traceback" not in error, error
    status, after = pack_here(row.mend(row.arguments, error))
    assert status == 0, f"{error}\nand then\n{after}"


Seen = set[tuple[str, int]]
"""Files and lines."""


@contextmanager
def noted() -> Iterator[Seen]:
    """Note where errors are made."""
    found: Seen = set()

    def noting(plain: Callable[..., None]) -> Callable[..., None]:
        def init(self: ReasonpackError, *given: Any, **named: Any) -> None:
            frame = sys._getframe(1)
            found.add((frame.f_code.co_filename, frame.f_lineno))
            plain(self, *given, **named)

        return init

    with pytest.MonkeyPatch.context() as patch:
        for kind in (ReasonpackError, NothingPackedError, RecordError):
            patch.setattr(kind, "__init__", noting(kind.__init__))
        yield found


def refusals(folder: str, kinds: Container[str]) -> Iterator[tuple[Path, str, range]]:
    """Yield where a folder of the package makes errors of these kinds: file, function, lines."""
    for path in sorted((ROOT / "reasonpack" / folder).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                    if node.func.id in kinds:
                        yield path, function.name, lines


def unseen(
    folder: str, kinds: Container[str], seen: Seen, *, but: Container[str] = ()
) -> Iterator[str]:
    """Yield where a folder of the package makes errors of these kinds, and none was made.

    Args:
        folder: of the package.
        kinds: names of errors.
        seen: where some were made.
        but: names of functions to leave out.
    """
    for path, function, lines in refusals(folder, kinds):
        if function not in but and not any((str(path), line) in seen for line in lines):
            yield f"{path.name}:{lines.start} in {function}"


def unwalked(walk: str, seen: Seen) -> list[str]:
    """Return the refusals of a walk, by `WALKS`, of which none was made."""
    return [
        f"{path.name}:{lines.start} in {function}"
        for folder, kinds in FOLDERS.items()
        for path, function, lines in refusals(folder, kinds)
        if WALKS.get(f"{path.stem}.{function}", "test_dataset_fixes") == walk
        if not any((str(path), line) in seen for line in lines)
    ]


KINDS = {each.__name__ for each in ReasonpackError.__subclasses__()} | {"MissingExtraError"}
FOLDERS = {
    **dict.fromkeys(("run", "show", "rows", "cli", "storage", "datasets"), KINDS),
    **dict.fromkeys(("records", "verify"), KINDS - {"RecordError"}),
}
"""Errors of these kinds are walked in these folders; tests/records walks refused records."""
WALKS = {
    **dict.fromkeys(
        (
            *("call_plan.check_columns", "call_plan.kind_of_inputs", "call_plan.plan_calls"),
            "call_plan.check_grouping",
            *("calls._kept", "splits._wrong", "call_checks.check_columns"),
            *("context.check_rows", "inputs.check_name", "inputs._path_files", "inputs._mode"),
            *("groups.group_name", "groups.one_field", "group_index._refuse_large"),
            *("group_index._refuse_one_for_all", "options.ignored_fields"),
            "place._known_file_system",
        ),
        "test_option_fixes",
    ),
    **dict.fromkeys(
        (
            *("estimate.estimate", "finish.refuse_foreign_files", "finish._nothing"),
            *("named_inputs.named_inputs", "output_directory._refuse_foreign"),
            *("output_directory.clear", "output_directory.at_work", "plan_file.read_plan"),
            *("formats.foreign", "options._renamed", "unit.no_list", "row_files.damaged"),
            *("inputs.expand_inputs", "inputs._not_of_saved_dataset"),
        ),
        "test_fixes",
    ),
    **dict.fromkeys(
        (
            *("lock._refused", "pack.merge_parts", "repack._refuse_itself"),
            *("sources.read_sources", "sources._value", "sources._check_limits"),
            *("dataset_tokenizer.load_own_tokenizer", "message_view.find_view"),
            *("model_shape._number", "model_shape.of", "row.find_rows", "row.read_rows"),
            *("row._rows_of", "row.choose_samples", "row_facts._meets", "stats._check_equal"),
            *("explain.command", "inspect_output._numbers", "manifest.read_manifest"),
            *("shards._refusing_damage", "source._load_tokenizer"),
        ),
        "test_command_fixes",
    ),
    **dict.fromkeys(("context._check_model", "context.rendering"), "test_model_fixes"),
    "place.unwritable": "a full disk, in test_fault_fixes",
    "ray._ray": "needs Ray, in test_fault_fixes",
    "ray._join": "needs Ray, in test_fault_fixes",
    "ray.pack_table": "called from Python, in test_fault_fixes",
    "unit.pack_records": "called from Python, in test_unit",
    "context._day": "called from Python, in test_pack",
    "context._check_types": "called from Python, in test_context",
    "groups.read_entries": "each run writes its index anew; it ends early only if cut meanwhile",
    "record_places.look_up": "an input that is cut short while it is read",
    "forest.lay_out": "no template is known whose prompt has no token",
}
"""Which walk sees the refusals of a function, or why none does; test_dataset_fixes sees others."""
