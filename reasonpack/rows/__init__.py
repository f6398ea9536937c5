"""Samples → rows → shards: the token forest, packing, columns, and what a shard is."""
