"""Readers of logs, one file a format: a record, or a file of records, → drafts of its calls."""
