"""Schemas: from the columns of a record to a typed row.

`detection` recognizes the shape of a record, `columns` and `messages` read it, and `rows` defines
the row types. Nothing here depends on a tokenizer.
"""
