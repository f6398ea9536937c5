"""An independent check of a finished dataset: its files, its rows, and its match with its source.

    manifest, receipts ─→ shards ─→ rows ─→ paths of tokens ─┐
    chats ─→ views in tokens ─→ paths of tokens ─────────────┴─→ findings

Nothing here calls the code that lays out rows, cuts texts or writes shards.
"""
