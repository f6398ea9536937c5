"""Names that records use for roles, fields and ends of answers, and the tags in their texts."""

from __future__ import annotations

REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text")
"""Fields with the reasoning of a message."""
EFFORTS = {"on", "off", "true", "false", "enabled", "disabled", "auto"}
EFFORTS |= {"none", "minimal", "low", "medium", "high"}
"""Values of such a field of a record that say how much the model reasons."""
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
OF_A_MODEL = ("reasoning", "function_call")
"""Types of items that only the model writes."""
CALL_ROLES = ("tool_call", "function_call")
ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
STATES = ("status", "termination_reason")  # what became of a sample
LIMITED = ("truncated", "is_truncated")  # flags of a sample that was cut off at a limit of tokens
OF_THE_END = {*ENDS, "finish_details", *STATES, *LIMITED, "error"}
TELLING = OF_THE_END | {"metadata", "end_turn", "matched_stop", "finish_reasons", "generations"}
"""Fields that may say how an answer ended."""
ARGUMENTS = ("arguments", "args", "input", "parameters")
CONTAINERS = ("messages", "conversations", "conversation")
BLOCKS = ("reasoning_details", "thinking_blocks", "reasoning_items", "reasoningContentBlocks")
LOSS = ("loss", "loss_mask", "step_loss_mask", "loss_weight")
WEIGHTS = ("weight", "loss_weight", "loss_multiplier")
FLAGS = ("train", "trainable", "training", "weight", "loss_multiplier", *LOSS)
TOOLS = ("tools", "functions", "tool_defs", "available_tools")
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
OF_A_MESSAGE = {"role", "from", "content", "value", "tool_calls", "function_call"}
OF_A_MESSAGE |= {*REASONING, *FLAGS, *OF_THE_END, "prefix", "partial"}
"""Known names of a message's fields that `--field` may rename to."""
OF_A_RECORD = {*CONTAINERS, *MEDIA, "prompt", "completion", "id", "system"}
OF_A_RECORD |= {*TOOLS, *REASONING, "chat_template_kwargs", "enable_thinking"}
OF_A_RECORD |= OF_THE_END
"""Known names of a record's fields, likewise."""
READ = {"role", "from", "content", "value", "tool_calls", "function_call", "channel", "type"}
READ |= {*REASONING, *BLOCKS, *FLAGS, *MEDIA, "provider_specific_fields", "train_detail"}
WRAPPERS = {"additional_kwargs", "extra", "extra_fields", "model_extra", "response_metadata"}
WRAPPERS |= {"provider_specific_fields"}
"""Fields that hold further fields of an answer."""
_HARMLESS = """
    agent agent_name assistant_name author call_id channel_id conversation_id engine generator hash
    id idx index kind message_id message_type model model_id model_name model_slug msg_id name
    object openai_id order origin parent parent_id platform position provider request_id
    response_id sender source step tool_call_id tool_call_ids tool_name turn turn_id
    turn_identifier type url user user_id username uuid version

    cost country create_time created created_at created_date created_time date datetime duration
    elapsed end_time hashed_ip header lang language latency length locale n_tokens num_tokens
    start_time state time timestamp timestamps temperature token_count token_counter token_counts
    token_usage tokens top_k top_p update_time updated_at usage

    category deleted detoxify_moderation domain edited emotion feedback flagged info is_demo
    is_edited label labels likes meta metadata moderation openai_moderation quality rank rating
    ratings redacted reward rewards score scores synthetic tags topic toxic toxicity views votes

    action annotations avatar cache cache_control citations closed content_type description emoji
    emojis extra_content format incomplete_details is_error logprobs markdown
    parallel_tool_calls parsed_arguments response_format service_tier signature status
    strict system_fingerprint thought_signature token_logprobs

    end_turn partial prefix
"""
HARMLESS = OF_THE_END.union(_HARMLESS.split())
"""Fields of an answer that hold nothing to learn."""
CUT = {
    *("length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "content_filter"),
    *("abort", "cancelled", "error", "in_progress", "interrupted", "pause_turn", "timeout"),
    *("model_context_window_exceeded", "refusal", "repetition", "safety", "recitation"),
    *("blocklist", "prohibited_content", "malformed_function_call", "guardrail_intervened"),
    *("content_filtered", "insufficient_system_resource", "aborted", "failed", "truncated"),
    *("canceled", "failure", "max_response_length_exceeded"),
}
"""Reasons for which an answer ended without a stop token of the model."""
FAILED = {"abort", "aborted", "cancelled", "canceled", "error", "failed", "failure", "timeout"}
"""Values of a sample's status with which it is not trained."""
REMOVED = {"remove_sample": True, "mask_sample": True, "set_advantage_to_zero": True}
REMOVED |= {"sample_mask": False, "sample_loss_mask": False}
"""Fields of a sample that trainers leave out, each with that value."""
UNDESIRED = ("label", "kto_tag")
"""Fields of a sample that are false if its answer is a bad one; 0 may be the number of a class."""
TAG, END = "<think>", "</think>"
NOWHERE = "\ud800"  # a lone surrogate, which no encoded text contains


def is_of_model(role: object) -> bool:
    """Return whether a role is one of the model's, but not one of a tool call alone.

    >>> is_of_model("gpt"), is_of_model("tool_call"), is_of_model(None)
    (True, False, False)
    """
    return ROLES.get(str(role)) == "assistant" and role not in CALL_ROLES


def inside(text: str) -> str:
    r"""Return the reasoning in a text that stops before `</think>`, without an opening tag.

    >>> inside(" <think>\nA\n"), inside("A ")
    ('A', 'A ')
    """
    bare = text.lstrip()
    return (bare.removeprefix(TAG) if bare.startswith(TAG) else text).strip("\n")
