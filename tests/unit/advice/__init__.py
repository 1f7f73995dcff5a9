"""Tests of the advice between approaches to adapt a model."""
