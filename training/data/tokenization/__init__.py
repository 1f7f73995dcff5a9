"""Tokenization: from typed rows to token ids and labels.

`encoder` encodes pieces of text, `row_tokenizer` builds rows with labels from them, and `workers`
runs it in several processes. The mask preview and the domain-term check read its results.
"""
