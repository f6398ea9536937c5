"""The command `check`: tokens that other tools prepared, and chats before they are packed."""
