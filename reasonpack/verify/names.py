"""Names that records give to roles, fields and ends of answers."""

from __future__ import annotations

import re

REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text")
"""Names of a message's reasoning."""
ROLES = {
    name: role
    for role, names in {
        "assistant": "assistant bot chatgpt gpt model function_call tool_call",
        "tool": "tool function function_response tool_response ipython observation",
        "user": "user human",
        "system": "system",
        "developer": "developer",
    }.items()
    for name in names.split()
}
CONTAINERS = ("messages", "conversations", "conversation")
BLOCKS = ("reasoning_details", "thinking_blocks", "reasoning_items", "reasoningContentBlocks")
LOSS = ("loss", "loss_mask", "step_loss_mask", "loss_weight")
FLAGS = ("train", "trainable", "training", "weight", *LOSS)
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
READ = {"role", "from", "content", "value", "tool_calls", "function_call", "channel", "type"}
READ |= {*REASONING, *BLOCKS, *FLAGS, *MEDIA, "provider_specific_fields", "train_detail"}
HARMLESS = {
    "action",
    "tool_call_ids",
    "agent",
    "annotations",
    "author",
    "country",
    "created",
    "created_at",
    "date",
    "done_reason",
    "finish_reason",
    "hashed_ip",
    "header",
    "id",
    "index",
    "lang",
    "language",
    "logprobs",
    "message_id",
    "message_type",
    "metadata",
    "model",
    "model_name",
    "name",
    "native_finish_reason",
    "object",
    "parent_id",
    "partial",
    "prefix",
    "provider",
    "redacted",
    "refusal",
    "sender",
    "source",
    "state",
    "status",
    "stop_reason",
    "time",
    "timestamp",
    "timestamps",
    "tool_call_id",
    "toxic",
    "turn",
    "updated_at",
    "usage",
    "weight_id",
}
"""Fields of an answer that hold nothing to learn."""
ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
CUT = {
    *("length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "content_filter"),
    *("abort", "cancelled", "error", "in_progress", "pause_turn", "timeout"),
}
"""Ends of an answer that the model did not write."""
TAG = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
