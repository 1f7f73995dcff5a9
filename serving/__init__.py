"""Serving of models on this machine: an engine, an HTTP server, a chat in the terminal."""
