"""A template, compiled and rendered at once."""

from __future__ import annotations

from typing import Any

from reasonpack.templates.template import ChatTemplate

HELLO = [{"role": "user", "content": "Hi"}]


def compiled(source: str, **more: Any) -> ChatTemplate:
    return ChatTemplate.compile(source, name="probe", **more)


def rendered(source: str, messages: Any = HELLO, **more: Any) -> str:
    return compiled(source).render(messages, **more)
