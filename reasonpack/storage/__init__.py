"""Paths in, paths out: where files are, which of them are input, their bytes, and publishing.

Whatever takes a place raises `StorageError` where that cannot be read or written. The functions
here say so; those of other folders only where more is meant.
"""
