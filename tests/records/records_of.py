"""Records of a few messages, read or refused, for the tests of dialects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, parse_line

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(json.loads((ROOT / "schemas/record.schema.json").read_bytes()))
ASK = {"role": "user", "content": "Ask one."}


def read(*messages: Mapping[str, Any], **fields: Any) -> Conversation:
    """Read a record that the schema takes too."""
    record = {"messages": list(messages), **fields}
    VALIDATOR.validate(record)
    return parse_line(json.dumps(record).encode(), "x:1")


def refused(*messages: Mapping[str, Any], **fields: Any) -> RecordError:
    """Return why a record is refused."""
    with pytest.raises(RecordError) as caught:
        parse_line(json.dumps({"messages": list(messages), **fields}).encode(), "x:1")
    return caught.value


def shown(conversation: Conversation) -> list[tuple[Any, ...]]:
    """Return of each message its role, content, reasoning and calls."""
    return [
        (m.role, m.content, m.reasoning, [(c.name, c.arguments, c.id) for c in m.tool_calls])
        for m in conversation.messages
    ]
