"""Pre-training: predict every next token, from random weights or continued from trained ones."""

from __future__ import annotations

from training.methods.common.regularized import build_regularized

build = build_regularized
"""Return the trainer; the labels of the rows supervise every token."""
