"""Storage of token rows: the content-addressed cache, Arrow tables, streaming windows."""
