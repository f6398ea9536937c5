"""Finds a chat template, renders it within bounds and learns what it does to reasoning."""
