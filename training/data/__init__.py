"""Data: from files, folders and Hub data sets to batches of tokens, with a report.

`prepare.prepare` is the entry point. A row passes through the packages in this order: `readers`
(records), `schema` (typed rows), `templates` and `tokenization` (token rows), `storage` (cache and
tables), `mixing` (selection and packing), `collators` (batches). Importing this package is cheap:
torch is only imported when a batch is built.
"""
