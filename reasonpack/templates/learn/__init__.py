"""What a chat template does, learned from how it renders marked conversations."""
