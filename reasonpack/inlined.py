"""Python that Jinja makes of a template, with what chat templates do most written out in it.

    message.role           environment.getattr(l_1_message, 'role')
                      →    (t_1['role'] if type(t_1 := l_1_message) is dict and 'role' in t_1
                            else environment.getattr(t_1, 'role'))

Messages are dicts, and most of what is done with their texts is to strip them. In a sandbox
each such step takes several calls of functions that end in the one expression that stands here
in front. Which way is taken shows when the template runs, from the type of what it has; where
it is any other, or the name could mean anything but the item, the sandbox decides as before. So
the text is the same, and so is all that the sandbox refuses.
"""

from __future__ import annotations

from typing import Any

import jinja2.compiler
import jinja2.nodes as n
from jinja2.utils import Namespace

__all__ = [
    "DICT_ATTRIBUTES",
    "HARMLESS_LOOP",
    "HARMLESS_TEXT",
    "InlinedCode",
    "attributes",
    "internal_name",
]

HARMLESS_LOOP = frozenset({"first", "index", "index0", "last", "length", "nextitem", "previtem"})
"""What a template may read of `loop` without the sandbox's leave."""
HARMLESS_TEXT = frozenset({"endswith", "lstrip", "rstrip", "split", "startswith", "strip"})
"""Methods of text that a template may call without the sandbox's leave."""
DICT_ATTRIBUTES = frozenset(dir(dict))
"""What `value.name` may mean of a dict besides one of its items."""


class InlinedCode(jinja2.compiler.CodeGenerator):
    """Jinja's own code generator, for a sandbox; see the module's header."""

    @jinja2.compiler.optimizeconst
    def visit_Getattr(  # noqa: N802 (Jinja's name)
        self, node: n.Getattr, frame: jinja2.compiler.Frame
    ) -> None:
        """Write `value.name`."""
        name, value = node.attr, self.temporary_identifier()
        if name in DICT_ATTRIBUTES:
            super().visit_Getattr(node, frame)
            return
        if isinstance(node.node, n.Name) and node.node.name == "loop" and name in HARMLESS_LOOP:
            self.write(f"({value}.{name} if type({value} := ")
            self.visit(node.node, frame)
            self.write(") in environment.loops")
        else:
            self.write(f"({value}[{name!r}] if type({value} := ")
            self.visit(node.node, frame)
            self.write(f") is dict and {name!r} in {value}")
        self.write(f" else environment.getattr({value}, {name!r}))")

    @jinja2.compiler.optimizeconst
    def visit_Call(  # noqa: N802
        self, node: n.Call, frame: jinja2.compiler.Frame, forward_caller: bool = False
    ) -> None:
        """Write `value.method(…)`."""
        method = node.node
        if isinstance(method, n.InternalName):  # a function of ours, which takes the context
            self.write(f"{method.name}(context")
            self.signature(node, frame)
            self.write(")")
            return
        if forward_caller or not _is_plain(node) or not isinstance(method, n.Getattr):
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        value = self.temporary_identifier()
        arguments = ", ".join(repr(each.value) for each in node.args if isinstance(each, n.Const))
        self.write(f"({value}.{method.attr}({arguments}) if type({value} := ")
        self.visit(method.node, frame)
        self.write(") is str else ")
        # What is already in `value` is not worked out again.
        known = n.Getattr(internal_name(value, method), method.attr, "load")
        super().visit_Call(n.Call(known, node.args, [], None, None), frame)
        self.write(")")


def _is_plain(call: n.Call) -> bool:
    """Whether this may be the call of a text's method, with nothing but constants.

    They are written twice: with anything longer the code could grow with 2 ** depth.
    """
    if not isinstance(call.node, n.Getattr) or call.node.attr not in HARMLESS_TEXT:
        return False
    constant = all(isinstance(each, n.Const) and type(each.value) is str for each in call.args)
    return constant and not (call.kwargs or call.dyn_args or call.dyn_kwargs)


def internal_name(name: str, node: n.Node) -> n.InternalName:
    """Return a node that stands for an expression of the generated code, where `node` stands."""
    made: n.InternalName = object.__new__(n.InternalName)
    n.Node.__init__(made, name, lineno=node.lineno)
    return made


def attributes(space: Namespace) -> dict[str, Any]:
    """Return the dict in which a namespace has its attributes.

    >>> attributes(Namespace(a=1))
    {'a': 1}
    """
    # Reading them one by one ends in a method written in Python.
    found: dict[str, Any] = object.__getattribute__(space, "_Namespace__attrs")
    return found
