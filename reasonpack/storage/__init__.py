"""Paths in, paths out: where files are, which of them are input, their bytes, and publishing."""
