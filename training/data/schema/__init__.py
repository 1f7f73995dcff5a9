"""Schemas: from the columns of a record to a typed row.

`schema_reader` reads the records of a source: `detection` recognizes the shape of a record,
`row_readers` and `answer_readers` convert it, and `rows` defines the row types.
Nothing here depends on a tokenizer.
"""
