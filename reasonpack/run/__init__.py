"""Runs: plans work units, processes them on any engine, and publishes a dataset."""
