"""A finished dataset: its options, receipts and manifest, and how to open its shards."""
