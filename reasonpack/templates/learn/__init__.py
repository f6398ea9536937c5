"""Learns what a chat template does from how it renders marked conversations."""
