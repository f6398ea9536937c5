"""Datasets and runs as text for people."""
