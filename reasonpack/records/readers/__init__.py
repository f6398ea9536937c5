"""Readers of logs, one module a format: a record, or all those of a file → drafts of calls."""
