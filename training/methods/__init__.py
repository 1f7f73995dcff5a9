"""Training methods: one file per method, each with a `build` function that returns its trainer.

A method that generates data instead of training (`distill_text`, `constitutional`) has a `write`
function. What several methods use is in `common/`.
"""
