"""`Reading`: what reading a record depends on, from the options of a run and its template."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from reasonpack.choices import NullArguments, StrayClosingTag


class Reading(Struct, frozen=True, kw_only=True):
    """How records are read.

    Attributes:
        asked: keys that the chat template looks up in messages.
        dumped: of `tool_calls` and `tool_calls.function`, those shown with all of their fields.
        ignored: names of fields that are not read and yet not refused; a nested one is dotted.
        renamed: names of fields, each with the known name to read it as.
        roles: names of roles, each with the known role to read it as.
        stray_closing_tag: how to read a `</think>` that may end reasoning or be text.
        null_arguments: how to read nulls in tool arguments that a Parquet column holds as a struct.
        closers: what templates write after reasoning, without white space around it; empty if
            none has a place for reasoning.
        empty_block_is_text: whether an empty block of reasoning is part of the answer, because no
            template has a place for reasoning or names its tags.
        prompt_opens: whether the generation prompt ends with the tag that opens reasoning.
        opener: what the template writes before reasoning.
        weighs: whether the run has a column for weights.
        of_rows: whether null may stand for an absent key, as in a struct of Parquet.
    """

    asked: frozenset[str] = frozenset()
    dumped: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    stray_closing_tag: StrayClosingTag = "refuse"
    null_arguments: NullArguments = "refuse"
    closers: tuple[str, ...] = ("</think>",)
    empty_block_is_text: bool = False
    prompt_opens: bool = False
    opener: str = ""
    weighs: bool = False
    of_rows: bool = False


DEFAULT = Reading()
"""How to read records if nothing is known of the template."""
