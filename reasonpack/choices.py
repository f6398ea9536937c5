"""Options that accept a fixed set of values, as `Literal` types."""

from __future__ import annotations

from typing import Literal

InputFormat = Literal["auto", "chat", "calls"]
Layout = Literal["onepass", "npass"]
Scope = Literal["all", "last-turn", "last-message"]
Part = Literal["reasoning", "response", "tool-calls"]
MissingReasoning = Literal["skip-loss", "empty-think", "error"]
OnMessageError = Literal["reject", "context"]
Overlong = Literal["split", "skip", "error"]
Packing = Literal["best-fit", "sequential", "none"]
StrayClosingTag = Literal["refuse", "text", "reasoning"]
NullArguments = Literal["refuse", "drop", "keep"]
LossWeights = Literal["auto", "none", "data", "message", "turn", "conversation"]
ShardFormat = Literal["parquet", "arrow"]
Dedup = Literal["none", "exact"]
Compression = Literal["zstd", "lz4", "none"]
Engine = Literal["local", "ray"]
Backend = Literal["auto", "tokenizers", "gigatoken", "fastokens"]
