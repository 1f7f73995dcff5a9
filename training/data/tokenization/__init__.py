"""Tokenization: from typed rows to token ids and labels.

`row_renderer` writes a row as pieces of text, `encoder` encodes them, `row_tokenizer` builds token
rows with labels from them, and `workers` runs it in several processes. The mask preview and the
domain-term check read its results.
"""
