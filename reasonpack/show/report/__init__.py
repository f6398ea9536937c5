"""A dataset as one HTML page, which needs no network and nothing beside it."""
