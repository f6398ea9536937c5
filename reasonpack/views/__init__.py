"""Conversation → views: what the model saw and wrote, one per trained message."""
