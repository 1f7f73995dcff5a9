"""Storage of token rows: the content-addressed cache, Arrow tables and streaming windows.

`cache` builds entries atomically, `table` memory-maps rows, and `stream` serves rows of data that
is too large to tokenize in advance.
"""
