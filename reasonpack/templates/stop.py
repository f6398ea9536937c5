"""How an assistant message ends: the type; `learn.stop_token` finds the token."""

from __future__ import annotations

from msgspec import Struct


class Stop(Struct, frozen=True):
    """How an assistant message ends.

    Attributes:
        token: the stop token, which the model writes; empty if none was found: such messages
            are refused.
        shown: whether the template writes the token after the last message too. If not, the stop
            token is the one that begins the next message.
        after: what the template writes after the token and the model does not.
        source: the rule by which the token was found.
    """

    token: str
    shown: bool = True
    after: str = ""
    source: str = "follows the message"
