"""Tokenization of typed rows: encoding, masks, truncation, worker processes."""
