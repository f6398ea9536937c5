"""Tests import their helpers (oracle, strategies, assets, readme) from this directory."""
