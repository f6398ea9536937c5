"""What reading a record depends on beside the record: options of the run, and its template."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from reasonpack.choices import NullArguments, StrayClosingTag


class Reading(Struct, frozen=True, kw_only=True):
    """How records are read.

    Attributes:
        asked: keys that the chat template asks messages for.
        ignored: names of fields that nobody reads, not to be refused for; a nested one is dotted.
        renamed: names of fields, each with the known name to read it under.
        roles: names that messages give their roles, each with the known name to read it as.
        stray_closing_tag: what a `</think>` is that closes no reasoning for certain.
        null_arguments: what a null is in tool arguments that a Parquet column holds as a struct.
        closers: what templates write behind reasoning, without white space around it; empty where
            none has a place for reasoning.
        empty_block_is_text: an empty block of reasoning is a part of the answer: no template has a
            place for reasoning, or looks for its tags.
        prompt_opens: the generation prompt ends in what opens reasoning.
        opener: what the template writes before reasoning.
        weighs: the run has a column for weights.
        of_rows: null may stand for a key that is not there, as in a struct of Parquet.
    """

    asked: frozenset[str] = frozenset()
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
"""For a template of which nothing is known."""
