"""Every error has its four fields, and one class joins them, as far as the source shows."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest
from runs import ROOT

from reasonpack import errors
from reasonpack.records.unknown import Field, UnknownFieldError

PACKAGE = ROOT / "reasonpack"
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
PARAMETERS = {
    name: [*inspect.signature(getattr(errors, name)).parameters] for name in errors.__all__
}
OTHERS = {
    "errors.py": "joins the fields",
    "cli/explain.py": "the fix of a code",
    "cli/inspect_output.py": "click's errors",
    "cli/options.py": "click's errors",
    "rows/packing.py": "a ValueError",
    "run/repack.py": "reads an error",
    "show/template.py": "an error without its fix",
    "tokens/view_tokens.py": "a ValueError",
    "torch/flex_masks.py": "an AttributeError",
}
"""Modules that write such words elsewhere than in an error; so do the findings of verify."""


def made(tree: ast.AST) -> Iterator[tuple[ast.Call, dict[str, ast.expr]]]:
    """Yield each call that makes an error of fields that it lists, and these by name."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        if call.func.id in PARAMETERS and not any(isinstance(e, ast.Starred) for e in call.args):
            given = dict(zip(PARAMETERS[call.func.id], call.args, strict=False))
            yield call, given | {each.arg: each.value for each in call.keywords if each.arg}


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield each text in a tree that is no docstring."""
    said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in said:
            yield each


def faults(tree: ast.AST, *, only_calls: bool = False) -> list[str]:
    """Return what is wrong with the errors that a module makes."""
    found: list[str] = []
    for call, given in made(tree):
        empty = [
            name
            for name in ("what", "expected", "fix")
            if name not in given or getattr(given[name], "value", None) == ""
        ]
        found += [f"{call.lineno}: no {' and no '.join(empty)}"] if empty else []
        for each in (
            text for name in ("what", "expected") for text in texts(given.get(name, call))
        ):
            if re.search(r"\bexpected\b|Fix:", each.value):
                found.append(f"{call.lineno}: by hand: {each.value}")
        fix = given.get("fix")
        parts = fix.values if isinstance(fix, ast.JoinedStr) else [fix]
        first, last = (getattr(each, "value", "") for each in (parts[0], parts[-1]))
        if re.match("[A-Z][a-z]", str(first)) or str(last).endswith("."):
            found.append(f"{call.lineno}: {first}…{last}")
    for each in texts(tree) if not only_calls else ():
        if re.search(", expected |; expected |Fix:", each.value):
            found.append(f"{each.lineno}: by hand: {each.value}")
    return found


def test_every_error_has_its_four_fields() -> None:
    assert not [
        f"{name}:{fault}"
        for name, tree in TREES.items()
        for fault in faults(tree, only_calls=name in OTHERS or name.startswith("verify/"))
    ]


@pytest.mark.parametrize(
    "text",
    [
        'UsageError("x", "a", "b", "")',
        'RecordError("type", "x", "a", "b")',
        'RecordError("type", "x", "a", "b", fix="")',
        'RecordError("type", "x", "a", "", "b")',
        'RecordError("type", "x", f"{y}, expected {z}", "b", "c")',
        'RecordError("type", "x", "a", "b", "Write it.")',
        'what = "got a, expected b"',
        'TABLE = {"x": "a. Fix: b"}',
    ],
)
def test_a_field_that_is_missing_or_written_by_hand_is_found(text: str) -> None:
    assert faults(ast.parse(text))


def test_one_class_writes_the_message() -> None:
    classes = [
        each
        for tree in TREES.values()
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef) and each.name.endswith("Error")
    ]
    names = [(each.name, getattr(one, "name", "")) for each in classes for one in each.body]
    assert [name for name, own in names if own == "__str__"] == ["ReasonpackError"]


@pytest.mark.parametrize(
    "error",
    [
        errors.RecordError("type", "id", "got a list", "a string", "write its text"),
        errors.NothingPackedError("x", "no row", "one", "read the rejects", {"type": 2}),
        errors.MissingExtraError("x", "no torch", "it", "install it"),
        UnknownFieldError([Field("cot", "messages[1].cot", True, "reasoning_content")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_worker_arrives_whole(error: errors.ReasonpackError) -> None:
    """Also what was added to it after it was made."""
    error.where, error.fix = "a.jsonl:7", f"{error.fix}; or leave it out"
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)
    assert str(arrived).startswith("a.jsonl:7: ")
