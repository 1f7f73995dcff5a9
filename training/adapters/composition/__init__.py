"""Composition of trained adapters: a PEFT tuner that runs several of them in each layer."""
