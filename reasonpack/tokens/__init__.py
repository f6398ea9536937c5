"""Text → token ids, exactly: the tokenizer, where text may be cut, and fast backends."""
