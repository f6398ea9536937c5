"""Bytes of the input → conversations, in any of the dialects that chats are stored in."""
