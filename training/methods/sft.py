"""Supervised fine-tuning: predict the tokens of the assistant's answers, given what precedes them.

The trainer is that of pre-training. The methods differ in the labels of their rows, which the data
preparation sets to -100 for all tokens but the answers.
"""

from __future__ import annotations

from training.methods.common.regularized import build_regularized

build = build_regularized
"""Return the trainer; the labels of the rows supervise the answers."""
