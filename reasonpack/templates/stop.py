"""How a message of the assistant ends: a type. `learn.stop_token` decides what the token is."""

from __future__ import annotations

from msgspec import Struct


class Stop(Struct, frozen=True):
    """How a message of the assistant ends.

    Attributes:
        token: the stop token, which the model writes; empty if there is none to rely on,
            and such messages are refused.
        shown: whether the template writes it after the last message too. Where it
            does not, the stop token is what begins the next message.
        after: what the template adds behind it, which the model does not write.
        source: the rule by which it was found.
    """

    token: str
    shown: bool = True
    after: str = ""
    source: str = "follows the message"
