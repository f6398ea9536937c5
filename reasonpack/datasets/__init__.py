"""What a finished dataset says of itself, and how to open it."""
