r"""Stop tokens: from the model's files, else from the rendering, else from the manifest.

tokenizer_config.json      eos_token     ┐
generation_config.json     eos_token_id  ├─→ the first of these after the answer's text
config.json                eos_token_id  ┘
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from reasonpack.templates.stop import Stop
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.verify.chat import NotChecked
from reasonpack.verify.template import ANSWER, Template

CUT_OFF = "none: cut off"
FOUND_IN = {
    "files": "named by the model's files",
    "files, next role": "named by the model's files, begins the next message",
    "rendering": "the one special token that the template writes there",
    "stated": "stated by the user",
    "manifest": "by the manifest",
}
"""Sources of a stop token, described."""
LONGEST_CONFIG = 16 << 20


class Stops(Struct, frozen=True):
    """Tokens that may end an answer, as text; none of them is white space.

    Attributes:
        listed: the tokens that the model's files name as end of a sequence.
        special: the special tokens of the tokenizer.
    """

    listed: tuple[str, ...]
    special: tuple[str, ...]

    def after(self, text: str, at: int) -> tuple[str, int] | None:
        """Return the first listed token in `text` from `at` on, and its place; None without one."""
        found = [(place, token) for token in self.listed if (place := text.find(token, at)) >= 0]
        if not found:
            return None
        place, token = min(found, key=lambda each: (each[0], -len(each[1])))
        return token, place


def read_stops(tokenizer: Tokenizer) -> Stops:
    """Read the stop tokens from the tokenizer and the model's files next to it."""
    added = tokenizer.reference.get_added_tokens_decoder()
    named: list[Any] = [tokenizer.special_tokens.get("eos_token")]
    for name in ("generation_config.json", "config.json"):
        ids = _config(tokenizer.directory / name).get("eos_token_id")
        listed = ids if isinstance(ids, list) else [ids]
        named += [added[id_].content for id_ in listed if isinstance(id_, int) and id_ in added]
    special = [token.content for token in added.values() if token.special]
    return Stops(_not_white(named), _not_white(special))


def ending_token(template: Template, variables: Mapping[str, Any], stops: Stops) -> str:
    """Return the special token that a template writes after an answer; empty unless only one."""
    chat = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": ANSWER}]
    try:
        text = template.render(chat, [], variables)
    except NotChecked:
        return ""
    special = "|".join(map(re.escape, sorted(stops.special, key=len, reverse=True)))
    found = re.match(rf"\s*({special})\s*({special})?", text.rpartition(ANSWER)[2])
    return found[1] if found and not found[2] else ""


def contradiction(stops: tuple[Stop, Stop], found: str, where: str, *, calls: bool) -> str:
    """Describe how the manifest's stop token differs from the one that was found; else empty.

    `stops` are the manifest's, of answers and of calls; text may precede the token in them.
    `where` is a key of `FOUND_IN`, or `CUT_OFF`.
    """
    claimed = stops[calls]
    if where == CUT_OFF or claimed.token.endswith(found):
        return ""
    what = f"{'tool calls' if calls else 'answers'} end with {claimed.token!r} ({claimed.source})"
    return f"{what}, expected {found!r} ({FOUND_IN[where]})"


def _not_white(tokens: list[Any]) -> tuple[str, ...]:
    """Return each text among `tokens` once, without those of white space."""
    return tuple(dict.fromkeys(each for each in tokens if isinstance(each, str) and each.strip()))


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST_CONFIG:
            return {}
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
