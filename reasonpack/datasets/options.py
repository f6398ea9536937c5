"""The options of a run, which the manifest of its dataset records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from reasonpack.choices import (
    Compression,
    Dedup,
    InputFormat,
    Layout,
    LossWeights,
    MissingReasoning,
    NullArguments,
    OnMessageError,
    Overlong,
    Packing,
    ShardFormat,
    StrayClosingTag,
)

Positive = Annotated[int, msgspec.Meta(ge=1)]
TRAIN = "train"
"""The split of which every unit has a shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a run; together with the plan they determine every byte of the output.

    `chat_template_kwargs` and `template_behaviour` are JSON objects, as text. `field` renames
    fields, each as `NAME=KNOWN`, and `role` roles. Each `split`, as `NAME=SHARE`, sets a share of
    the conversations apart. `sample` is how many conversations are packed. `shuffle` puts rows in a
    random order, which `seed` decides. `call_columns` are optional columns of calls, `auto` for
    those that the calls need. `packing` may be True for best-fit or False for none, as in older
    datasets.
    """

    tokenizer: str
    revision: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: str = "{}"
    template_behaviour: str = "{}"
    date: str | None = None
    layout: Layout = "onepass"
    force_onepass: bool = False
    train_on: Annotated[
        str, msgspec.Meta(pattern=r"^[a-z-]+(,(reasoning|response|tool-calls))*$")
    ] = "all"
    missing_reasoning: MissingReasoning = "skip-loss"
    train_empty_think: bool = False
    on_message_error: OnMessageError = "reject"
    packing: Packing | bool = "none"
    max_length: Positive | None = None
    max_position: Positive | None = None
    max_cost: Positive | None = None
    overlong: Overlong = "split"
    on_error: Literal["stop", "skip"] = "stop"
    format: ShardFormat = "parquet"
    compression: Compression | None = None
    ignore_fields: tuple[str, ...] = ()
    field: tuple[str, ...] = ()
    role: tuple[str, ...] = ()
    stray_closing_tag: StrayClosingTag = "refuse"
    null_arguments: NullArguments = "refuse"
    split: tuple[str, ...] = ()
    dedup: Dedup = "none"
    sample: Positive | None = None
    shuffle: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    loss_weights: LossWeights = "auto"
    input_format: InputFormat = "auto"
    group_by: str = "auto"
    max_group_bytes: Positive = 1 << 30
    call_columns: tuple[str, ...] = ("auto",)

    def __post_init__(self) -> None:
        """Replace True and False in `packing` by what they stand for."""
        if isinstance(self.packing, bool):
            object.__setattr__(self, "packing", "best-fit" if self.packing else "none")

    @property
    def packed(self) -> bool:
        """Whether a row may hold several samples."""
        return self.packing != "none"

    @property
    def columns(self) -> tuple[str, ...]:
        """Optional columns that are requested, whatever the inputs hold."""
        renamed = any(pair.endswith(("=weight", "=loss_weight")) for pair in self.field)
        if self.loss_weights == "none" or (self.loss_weights == "auto" and not renamed):
            return ()
        return ("loss_weights",)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that rows may belong to."""
        return (TRAIN, *(each.partition("=")[0] for each in self.split))

    @property
    def codec(self) -> str | None:
        """Compression of shards: zstd for Parquet, none for Arrow, unless another was asked for."""
        if self.compression is None:
            return "zstd" if self.format == "parquet" else None
        return None if self.compression == "none" else self.compression
