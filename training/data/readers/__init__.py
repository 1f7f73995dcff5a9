"""Readers: from a source that a job names to records with their origin.

`sources` locates files, folders, channels and Hub data sets, `formats` reads each file format, and
`ingest` runs one source through schema and tokenizer into the cache.
"""
