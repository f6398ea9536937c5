"""The logging payload of LiteLLM, one for each call of a proxy → drafts of calls.

    {"id": …, "trace_id": …, "call_type": "acompletion", "model_parameters": {"tools": […], …},
     "messages": […], "response": {"choices": [{"message": {…}}]}, "status": "success"}

The fields of the request, other than the messages, are in `model_parameters`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft
from reasonpack.records.draft import is_absent
from reasonpack.records.readers.generic import calls_of
from reasonpack.records.readers.levels import Place
from reasonpack.records.reading import Reading

_FIELDS = """
    cache_hit call_type completionStartTime cost_breakdown custom_llm_provider end_user
    endTime error_information error_str guardrail_information hidden_params litellm_call_id
    litellm_trace_id metadata model_group model_map_information request_tags
    requester_custom_headers requester_ip_address response_cost
    response_cost_failure_debug_info response_time saved_cache_cost standard_built_in_tools_params
    startTime status status_fields total_tokens user_agent
"""
_PASSED = frozenset(_FIELDS.split())
"""Fields of the payload about how a call was served; none holds what it says."""
_REDACTED = "redacted-by-litellm"
_NO_CHAT = re.compile(
    "embedding|image|speech|transcription|moderation|rerank|search|ocr|file|batch|video|mcp"
)
"""Words in the type of a call that no language model answers with text."""


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is such a payload."""
    return {"call_type", "model_parameters", "messages"} <= record.keys()


def drafts(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of a payload.

    Raises:
        RecordError: the proxy was configured to leave out the messages, or parts of the payload
            contradict each other.
    """
    if _NO_CHAT.search(str(record["call_type"])):
        return []
    if _REDACTED in str(record["messages"])[:200]:
        what = "messages that the proxy left out of the log"
        fix = "log with turn_off_message_logging: false, or leave the record out"
        raise RecordError("missing", "messages", what, "what the model was sent", fix)
    if record.get("status") == "failure" and is_absent(record.get("response")):
        record = {**record, "response": {"error": record.get("error_str") or "failure"}}
    return [*calls_of(record, Place(reading), request="model_parameters", passed=_PASSED)]
