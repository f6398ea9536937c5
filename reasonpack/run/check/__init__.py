"""Checks other people's tokens against inference, and chats before they are packed."""
