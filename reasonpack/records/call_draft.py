"""A call on its way to `Call`: what a reader found of it, and where in the record.

A reader of a log format makes drafts; `calls` checks them and makes `Call`s. So a reader says
where things are, and nothing of what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

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
    "loss_mask": ("loss_mask", "response_mask", "completion_mask"),
    "advantages": ("advantages", "advantage"),
}
"""What a call says of its tokens, each with the names of the field that holds it."""
VALUE_NAMES: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward",),
    "weight": ("weight", "loss_weight"),
}
"""Numbers of a whole call, each with the names of the field that holds it."""
CALL_FLAGS = ("train", "trainable", "training", "loss", "step_loss_mask")
"""Names of the field that says whether a call is trained."""
Role = Literal["none", "chosen", "rejected"]
"""What a call is in a preference."""
CONTEXT_FIELDS = ("system", *TOOL_FIELDS, "chat_template_kwargs", "enable_thinking")
"""Fields of a call, or of its request, that its chat template gets beside the messages."""


class CallDraft(Struct, kw_only=True):
    """One call, as a reader found it.

    Attributes:
        id: the call's own; empty where it has none.
        where: `file:line` of the answer; empty for that of the record.
        prompt: a text, messages or items; None where the log has no messages.
        answer: the messages or items of the answer; None where the log has none.
        context: some of `CONTEXT_FIELDS`.
        tokens: of `TOKEN_NAMES`, those that are there.
        values: of `VALUE_NAMES`, those that are there.
        flags: of `CALL_FLAGS`, those that are there.
        role: `none`, or `chosen` or `rejected`.
        copied: whether it is context that was copied from a call elsewhere.
        continues: whether the answer goes on with a message of the assistant that ends the prompt.
        places: by the name of each of these, the path in the record that it was read from;
            those of fields below it follow.
        unread: fields that nobody reads.
        notes: what was noticed and not refused.
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
    unread: list[Field] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def place(self, path: str) -> str:
        """Return the path in the record of a path in this draft.

        >>> CallDraft(places={"prompt": "request.messages"}).place("prompt[3].content")
        'request.messages[3].content'
        """
        return source_of(path, self.places)


class Said(NamedTuple):
    """A message, or an item, in a shape that records may have; and where it was read from."""

    message: dict[str, Any]
    place: str


def draft_of(
    history: Sequence[Said],
    answer: Sequence[Said],
    *,
    places: Mapping[str, str] | None = None,
    **fields: Any,
) -> CallDraft:
    """Make the draft of a call from what was said before the answer, and the answer itself.

    `fields` are the others of the draft; `places` go before those of the messages.
    """
    found = {f"prompt[{i}]": said.place for i, said in enumerate(history)}
    found |= {f"completion[{i}]": said.place for i, said in enumerate(answer)}
    return CallDraft(
        prompt=[said.message for said in history],
        answer=[said.message for said in answer],
        places={**found, "completion": answer[0].place, **(places or {})},
        **fields,
    )
