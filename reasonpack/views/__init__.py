"""Conversation → views: what the model saw and wrote, one view per trained message."""
