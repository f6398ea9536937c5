"""Where two views part: what they have in common, and how each goes on."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from two_turns import two_turns

SHOWN = """\
view 1 and view 3 have 6 tokens in common, the last of them:
| <u>Hi<e>
| <a>

view 1 goes on with 8 tokens:
| «<think>
| ?</think>Hé<e>»

view 3 goes on with 23 tokens:
| Hé<e>
| <u>a\\x1b[1m\tb\\u202e<e>
| <a>«Ok.<e>»
"""


def test_lines(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    assert inspect(write([[two_turns(tokenizer)]]), "--diff", 1, 3) == (0, SHOWN, "")


def test_views_that_are_the_same(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    _, out, _ = inspect(write([[two_turns(tokenizer)]]), "--diff", 1, 1)
    assert out.endswith("\nview 1 ends there.\n\nview 1 ends there.\n")


def test_json(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    status, out, _ = inspect(write([[two_turns(tokenizer)]]), "--diff", 1, 3, "--json")
    found = json.loads(out)
    assert (status, found["sample"], found["common"]) == (0, "chat-1", 6)
    assert [view["view"] for view in found["views"]] == ["1", "3"]
    assert found["views"][0]["text"] == "<think>\n?</think>Hé<e>"
    assert len(found["views"][0]["ids"]) == 8


def test_a_message_that_is_not_trained(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    status, _, err = inspect(write([[two_turns(tokenizer)]]), "--diff", 1, 2)
    assert (status, "--diff: message 2 is not trained there" in err) == (2, True)
