"""An independent check of a finished dataset: its files, its rows, and its source.

    manifest, receipts ─→ shards ─→ rows ─→ paths of tokens ─┐
    chats ─→ views in tokens ─→ paths of tokens ─────────────┴─→ findings

Nothing here calls what laid the rows out, cut the texts or wrote the shards.
"""
