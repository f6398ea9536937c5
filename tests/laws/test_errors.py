"""Every error that the package makes says how to mend it, as far as its source shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from runs import ROOT

from reasonpack import errors

TEXTS = set(errors.__all__) - {"RecordError"}
"""Errors whose whole message is written where they are made; a record's has a field for the fix."""
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "reasonpack").rglob("*.py"))
}
FUNCTIONS = {
    node.name: ast.unparse(node)
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
}


def made(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def says(call: ast.Call, tree: ast.AST) -> str:
    """Return the source of a call, and of the texts and functions that it names."""
    names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    texts = [
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(each, ast.Name) and each.id in names for each in node.targets)
    ]
    return "\n".join([ast.unparse(call), *texts, *(FUNCTIONS.get(name, "") for name in names)])


def is_mended(call: ast.Call, tree: ast.AST) -> bool:
    """Tell whether an error holds a fix, or is another one with more before it."""
    assert isinstance(call.func, ast.Name)
    if call.func.id in TEXTS:
        return "Fix: " in says(call, tree) or "{error}" in ast.unparse(call)
    fixes = [each.value for each in call.keywords if each.arg == "fix"] or call.args[3:4]
    return bool(fixes) and not (isinstance(fixes[0], ast.Constant) and not fixes[0].value)


def test_every_error_says_how_to_mend_it() -> None:
    without = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, tree in TREES.items()
        for call in made(tree, set(errors.__all__))
        if not is_mended(call, tree)
    ]
    assert not without


def test_an_error_without_a_fix_is_found() -> None:
    for text in (
        'UsageError("x: a, expected b.")',
        'RecordError("type", "x", "a")',
        'RecordError("type", "x", "a", fix="")',
    ):
        tree = ast.parse(text)
        (call,) = made(tree, set(errors.__all__))
        assert not is_mended(call, tree)
