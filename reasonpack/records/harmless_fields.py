"""Names of fields that well-known datasets and services write, and that hold nothing to learn."""

from __future__ import annotations

_IDENTITY = """
    agent agent_name assistant_name author call_id channel_id conversation_id engine generator hash
    id idx index kind message_id message_type model model_id model_name model_slug msg_id name
    object openai_id order origin parent parent_id platform position provider request_id
    response_id sender source step tool_call_id tool_call_ids tool_name turn turn_id
    turn_identifier type url user user_id username uuid version
"""
_TIME_AND_COST = """
    cost country create_time created created_at created_date created_time date datetime duration
    elapsed end_time hashed_ip header lang language latency length locale n_tokens num_tokens
    start_time state time timestamp timestamps temperature token_count token_counter token_counts
    token_usage tokens top_k top_p update_time updated_at usage
"""
_RATINGS = """
    category deleted detoxify_moderation domain edited emotion feedback flagged info is_demo
    is_edited label labels likes meta metadata moderation openai_moderation quality rank rating
    ratings redacted reward rewards score scores synthetic tags topic toxic toxicity views votes
"""
_DISPLAY = """
    action annotations avatar cache cache_control citations closed content_type description emoji
    emojis end_turn extra_content finish_details format incomplete_details is_error logprobs
    markdown parallel_tool_calls parsed_arguments response_format service_tier signature status
    strict system_fingerprint thought_signature token_logprobs
"""
_OF_A_RECORD = """
    answer avatar_url avatarUrl capability_target config constraints conversation_hash
    correctness correctness_count correctness_llama correctness_math_verify custom_instruction
    dataset difficulty
    exit_status expected_answer finish_reasons generations ground_truth input instance_id
    is_completed is_reasoning_complete kv_transfer_params license max_tokens n_turns num_turns
    output patch problem problem_type prompt prompt_id question question_type resolved seed
    skip_prompt_formatting solution split stop_condition subcategory subset task text title
    traj_id turns used_in_training
"""

HARMLESS = frozenset(f"{_IDENTITY} {_TIME_AND_COST} {_RATINGS} {_DISPLAY}".split())
"""Of a message, of an object in one, and of a record."""
HARMLESS_OF_A_RECORD = HARMLESS | frozenset(_OF_A_RECORD.split())
_OF_A_REQUEST = """
    api_base api_version audio background betas billing body cache_key call_type client_metadata
    completed_at completion_tokens content_filters custom_id custom_llm_provider entity_id
    extra_headers finish_reasons frequency_penalty group group_id group_index headers include
    logit_bias max_completion_tokens max_output_tokens max_tool_calls max_turns
    metadata method min_p min_tokens modalities n native_finish_reason object_type presence_penalty
    previous_response_id prompt_cache_key prompt_cache_retention prompt_tokens repetition_penalty
    request_kwargs rollout_id safety_identifier sampling_params save service service_tier sessionId
    session_id skip_special_tokens span_id status_code status_message stop_sequence stop_sequences
    stop_token_ids store stream stream_options task_id tool_choice top_logprobs trace_id
    trajectory_id truncation user_id verbosity
"""
_TRAINED = frozenset(
    ["logprobs", "token_logprobs", "reward", "rewards", "score", "scores", "label", "labels"]
)

HARMLESS_OF_A_CALL = (HARMLESS_OF_A_RECORD | frozenset(_OF_A_REQUEST.split())) - _TRAINED
"""Of a call, its request and its response."""
