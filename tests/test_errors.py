"""Every error that the package makes says how to mend it, as far as its source shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from runs import ROOT

from reasonpack import errors

TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "reasonpack").rglob("*.py"))
}


def made(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def is_mended(call: ast.Call) -> bool:
    """Tell whether an error is given a fix, which is the fourth of what it is made of."""
    fixes = [each.value for each in call.keywords if each.arg == "fix"] or call.args[3:4]
    fixes += [each for each in call.args if isinstance(each, ast.Starred)]
    return bool(fixes) and not (isinstance(fixes[0], ast.Constant) and not fixes[0].value)


def test_every_error_says_how_to_mend_it() -> None:
    without = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, tree in TREES.items()
        for call in made(tree, set(errors.__all__))
        if not is_mended(call)
    ]
    assert not without


def test_an_error_without_a_fix_is_found() -> None:
    for text in (
        'UsageError("x", "a", "b", "")',
        'RecordError("type", "x", "a")',
        'RecordError("type", "x", "a", fix="")',
    ):
        tree = ast.parse(text)
        (call,) = made(tree, set(errors.__all__))
        assert not is_mended(call)
