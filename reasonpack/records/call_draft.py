"""`CallDraft`: the raw fields of a call, and where in the record each of them was found.

The reader of a log format makes drafts; `calls` checks them and converts them to `Call`s. So a
reader knows where its format keeps each field, but not what values a field may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

from reasonpack.errors import RecordError
from reasonpack.records.draft import source_of
from reasonpack.records.tools import TOOL_FIELDS
from reasonpack.records.unknown import Field

TOKEN_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt_ids": ("prompt_token_ids", "prompt_ids"),
    "completion_ids": (
        *("completion_token_ids", "completion_ids", "output_token_ids", "output_ids"),
        *("response_token_ids", "response_ids", "generation_token_ids", "token_ids"),
    ),
    "logprobs": (
        *("logprobs", "rollout_logprobs", "rollout_log_probs", "completion_logprobs"),
        *("response_logprobs", "generation_log_probs", "log_probs"),
    ),
    "loss_mask": ("loss_mask", "response_mask", "completion_mask", "env_mask"),
    "advantages": ("advantages", "advantage"),
}
"""Fields with values for each token of a call, each with the names that logs give it."""
VALUE_NAMES: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward",),
    "weight": ("weight", "loss_weight", "loss_multiplier"),
}
"""Fields with one number for the whole call, each with the names that logs give it."""
CALL_FLAGS = ("train", "trainable", "training", "loss", "step_loss_mask")
"""Names of the flag that says whether a call is trained."""
Role = Literal["none", "chosen", "rejected"]
"""Which answer of a preference pair a call has; `none` for other calls."""
CONTEXT_FIELDS = ("system", *TOOL_FIELDS, "chat_template_kwargs", "enable_thinking")
"""Fields of a call, or of its request, that shape the prompt in addition to the messages."""


class CallDraft(Struct, kw_only=True):
    """One call, as a reader found it.

    Attributes:
        id: the call's own id; empty without one.
        where: `file:line` of the answer; empty if it is that of the record.
        prompt: a text, messages or items; None if the log has no messages.
        answer: the messages or items of the answer; None if the log has none.
        context: those of `CONTEXT_FIELDS` that are present.
        tokens: those of `TOKEN_NAMES` that are present.
        values: those of `VALUE_NAMES` that are present.
        flags: those of `CALL_FLAGS` that are present.
        role: `none`, `chosen` or `rejected`.
        copied: whether the call is only context, copied from a call elsewhere.
        continues: whether the answer continues an assistant message at the end of the prompt.
        places: by a path in this draft, such as `prompt[3]`, the path in the record that it was
            read from; paths below it follow.
        failure: the error if it is to be trained, as the log says that it failed; else None.
        unread: fields of the record that nothing reads.
        notes: oddities that were noticed and not refused.
    """

    id: str = ""
    where: str = ""
    prompt: Any = None
    answer: list[Any] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    role: Role = "none"
    copied: bool = False
    continues: bool = False
    places: dict[str, str] = field(default_factory=dict)
    failure: RecordError | None = None
    unread: list[Field] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def place(self, path: str) -> str:
        """Return the path in the record for a path in this draft.

        >>> CallDraft(places={"prompt": "request.messages"}).place("prompt[3].content")
        'request.messages[3].content'
        """
        return source_of(path, self.places)


class Said(NamedTuple):
    """A message or item, in a shape that records may have, and where it was read from."""

    message: dict[str, Any]
    place: str


def draft_of(
    history: Sequence[Said],
    answer: Sequence[Said],
    *,
    places: Mapping[str, str] | None = None,
    **fields: Any,
) -> CallDraft:
    """Make the draft of a call from the messages before the answer, and those of the answer.

    `fields` are further attributes of the draft; `places` override those of the messages.
    """
    found = {f"prompt[{i}]": said.place for i, said in enumerate(history)}
    found |= {f"completion[{i}]": said.place for i, said in enumerate(answer)}
    return CallDraft(
        prompt=[said.message for said in history],
        answer=[said.message for said in answer],
        places={**found, "completion": answer[0].place, **(places or {})},
        **fields,
    )
