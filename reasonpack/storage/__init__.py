"""Paths and URLs: what is there, which files are input, how to read them, how to publish files.

Every function that takes a place raises `StorageError` if the place cannot be read or written; the
docstrings do not repeat this.
"""
