"""A chat template: found, rendered within bounds, and what it does to reasoning."""
